"""The one exception a user is meant to read."""


class InputError(Exception):
    """One clear sentence: the file, line or key at fault, and the mend. Shown without a traceback."""
