"""Errors that end a stage with one sentence instead of a traceback."""

import errno


class InputError(Exception):
    """One clear sentence: the file, line or key that is wrong, and the remedy. Shown without a traceback."""


class StoppedError(BaseException):
    """A signal ended the work. Not an Exception, so that no `except Exception` handles it."""

    def __init__(self, signal: int, message: str = "stopped") -> None:
        super().__init__(message)
        self.signal = signal


OUT_OF_MEMORY = ("allocate memory", "not enough memory", "out of memory", "bad_alloc", "ALLOC_FAILED")
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_REMEDIES = {
    errno.ENOSPC: "make room on that disk and run the same command again",
    errno.EDQUOT: "free some of your quota there and run the same command again",
    errno.EFBIG: "raise the limit on a file's size (ulimit -f) and run the same command again",
    errno.EROFS: "choose a place that can be written to",
    errno.EACCES: "change its permissions or choose another place",
    errno.EPERM: "change its permissions or choose another place",
    errno.ENOENT: "correct the path, or make the file with dvc repro",
    errno.ENOTDIR: "correct the path",
    errno.EISDIR: "correct the path; a file is wanted",
    errno.EEXIST: "remove the file that stands in a folder's place",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EBUSY: "choose another place",
    errno.ELOOP: "correct the links there, which lead in a circle",
    errno.EMFILE: "raise the limit on open files (ulimit -n) or lower processes in machine.yaml",
    errno.EIO: "check the disk",
}


def is_out_of_memory(error: Exception) -> bool:
    """Return whether memory ran out, in the words of Python, torch, CUDA or the C++ below them."""
    return isinstance(error, MemoryError) or any(words in str(error) for words in OUT_OF_MEMORY)


def describe_os_error(error: OSError) -> str | None:
    """Return one sentence with the path, what the system refused and the remedy; None where a user has no remedy."""
    remedy = _REMEDIES.get(error.errno or 0)
    if remedy is None or (error.filename is None and error.errno not in FULL):
        return None
    where = "standard output" if error.filename is None else error.filename
    return f"{where}: {(error.strerror or 'refused').lower()}; {remedy}."


def describe_system_error(error: Exception) -> str | None:
    """Return one sentence, with the remedy, of memory that ran out or of what `describe_os_error` knows; or None."""
    if is_out_of_memory(error):
        return "memory ran out; free some, raise its limit (ulimit -v), or lower processes in machine.yaml."
    return describe_os_error(error) if isinstance(error, OSError) else None
