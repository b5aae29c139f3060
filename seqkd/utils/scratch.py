"""Files without a name, for what would outgrow memory."""

import os
import tempfile
from typing import IO

DISK = "/var/tmp"  # /tmp is memory on many systems


def folder() -> str:
    """Return where such files lie: TMPDIR, where the user sets it, or else a folder that is on a disk."""
    is_disk = "TMPDIR" not in os.environ and os.access(DISK, os.W_OK | os.X_OK)
    return DISK if is_disk else tempfile.gettempdir()


def open_file() -> IO[bytes]:
    """Open a new file; it is gone when it is closed and no longer mapped, also after a kill."""
    return tempfile.TemporaryFile(dir=folder())
