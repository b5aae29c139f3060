"""Files and folders that are there whole or not at all, whatever ends the writing: a full disk, a kill, a power cut."""

import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """The temporary name under which to write a file or a folder; it takes the place of path when the block ends.

    When the block fails, path stays as it was, nothing else is left, and an OSError names path.
    """
    if path.name in ("", ".."):  # a working folder, the root or one above: no name beside which to write
        raise OSError(errno.EBUSY, "Cannot be replaced", str(path))
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove(partial)
        yield partial
        _fsync(partial)
        if partial.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        os.replace(partial, path)
    except BaseException as error:
        with suppress(OSError):
            _remove(partial)
        if isinstance(error, OSError) and (error.filename is None or str(error.filename).startswith(str(partial))):
            error.filename = str(path)
        raise


@contextmanager
def open_text(path: Path) -> Iterator[TextIO]:
    """A text file written under a temporary name and renamed when whole."""
    with atomic_write(path) as partial, partial.open("w", encoding="utf-8", newline="\n") as file:
        yield file


def private_tmp_dir() -> Path:
    """A folder under the temporary one which no other user can write to. Raises OSError where one could."""
    folder = Path(tempfile.gettempdir(), f"seqkd-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()  # not of what another's link leads to
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise PermissionError(errno.EACCES, "Is another's or lets others write", str(folder))
    return folder


def writable_dir(folder: Path) -> str:
    """Make a folder and try to write in it; return its name. Raises OSError where that fails."""
    folder.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=folder).close()  # as numba asks
    return str(folder)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _fsync(path: Path) -> None:
    """Waits until the file, or the folder's files, are on the disk: a rename could reach it before its contents."""
    for one in [path, *path.rglob("*")] if path.is_dir() else [path]:
        number = os.open(one, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
