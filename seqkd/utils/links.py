"""Symbolic links that lead nowhere."""

import os
from collections.abc import Iterator
from pathlib import Path

from seqkd.utils.errors import InputError


def refuse_dangling(path: Path) -> None:
    """Raise InputError where a path, or a file anywhere in a folder, is a link to what is not there."""
    for each in _all(path):
        if each.is_symlink() and not each.exists():
            raise InputError(f"{each}: a link to what is not there; correct the link or remove it.")


def _all(path: Path) -> Iterator[Path]:
    """Yield a path and all that its folder holds, in one order everywhere; other folders' links are not followed."""
    yield path
    for folder, folders, files in os.walk(path):
        folders.sort()
        yield from (Path(folder, name) for name in sorted([*folders, *files]))
