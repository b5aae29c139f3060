"""Files and folders that are there whole or not at all, whatever ends the writing: a full disk, a kill, a power cut."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """The temporary name under which to write a file or a folder; it takes the place of path when the block ends.

    When the block fails, path stays as it was, nothing else is left, and an OSError names path.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove(partial)
        yield partial
        _reach_disk(partial)
        if partial.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        os.replace(partial, path)
    except BaseException as error:
        with suppress(OSError):
            _remove(partial)
        if isinstance(error, OSError) and (error.filename is None or str(error.filename).startswith(str(partial))):
            error.filename = str(path)
        raise


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _reach_disk(path: Path) -> None:
    """Waits until the file, or the folder's files, are on the disk: a rename could reach it before its contents."""
    for one in [path, *path.rglob("*")] if path.is_dir() else [path]:
        number = os.open(one, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
