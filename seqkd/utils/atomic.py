"""Atomic writes of files and folders: a full disk, a kill or a power cut leaves the old one or the new one, whole."""

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
    """Yield the temporary name to write a file or a folder to; it is renamed to path when the block ends.

    When the block fails, path stays as it was, nothing else is left, and an OSError names path. A link to a folder is
    followed. A link to a file is replaced: behind it may be DVC's cache, which nobody may write to.
    """
    path = path.resolve() if path.is_symlink() and path.is_dir() else path
    if path.name in ("", ".."):  # the working folder, the root or one above has no name to write beside
        raise OSError(errno.EBUSY, "Cannot be replaced", str(path))
    partial, old = path.with_name(f".{path.name}.partial"), path.with_name(f".{path.name}.old")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _finish_swap(path, partial, old)
        _remove(partial)
        yield partial
        _fsync(partial)
        if partial.is_dir() and path.is_dir():
            _swap(path, partial, old)
        else:
            os.replace(partial, path)
    except BaseException as error:
        with suppress(OSError):
            _remove(partial)
        if isinstance(error, OSError) and str(error.filename or partial).startswith((str(partial), str(old))):
            error.filename = str(path)
        raise


@contextmanager
def open_text(path: Path) -> Iterator[TextIO]:
    """Open a text file for an atomic write."""
    with atomic_write(path) as partial, partial.open("w", encoding="utf-8", newline="\n") as file:
        yield file


def private_tmp_dir() -> Path:
    """Return a folder in the system's temporary one that only this user can write to.

    Raise OSError where others can write to it.
    """
    folder = Path(tempfile.gettempdir(), f"seqkd-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()  # a link of another user is not followed
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise PermissionError(errno.EACCES, "Is another's or lets others write", str(folder))
    return folder


def writable_dir(folder: Path) -> str:
    """Make a folder, try to write in it, and return its name. Raise OSError where that fails."""
    folder.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=folder).close()  # the check that numba makes
    return str(folder)


def _swap(path: Path, partial: Path, old: Path) -> None:
    """Put the folder partial in the place of the folder path, which takes two renames.

    A kill between them leaves no path but two hidden folders, old and partial, both whole; the next write of path
    finishes the swap.
    """
    try:
        os.rename(path, old)
        os.rename(partial, path)
    except BaseException:
        if not os.path.lexists(path):
            os.rename(old, path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _finish_swap(path: Path, partial: Path, old: Path) -> None:
    """Finish a swap of folders that a kill interrupted."""
    if not os.path.lexists(old):
        return
    if partial.is_dir() and not os.path.lexists(path):
        os.rename(partial, path)
    _remove(old)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _fsync(path: Path) -> None:
    """Wait until a file, or all of a folder, is on the disk: the rename must not get there before the contents."""
    for each in [path, *path.rglob("*")] if path.is_dir() else [path]:
        descriptor = os.open(each, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
