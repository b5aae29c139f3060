"""Files that travel to a cluster's workers."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from seqkd.utils.atomic import atomic_write
from seqkd.utils.errors import InputError

Files = dict[str, bytes]  # path, as the tasks name it -> content


def read(paths: Iterable[Path]) -> Files:
    """Return the content of files, and of the files in folders. Raise InputError for a path outside this folder."""
    files: Files = {}
    for path in paths:
        for each in sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]:
            if each.is_absolute() or ".." in each.parts:
                raise InputError(
                    f"{each}: only files below this folder can be sent to a cluster's workers; "
                    "copy it here, or take cluster out of machine.yaml."
                )
            files[str(each)] = each.read_bytes()
    return files


def write(folder: Path, files: Files) -> None:
    """Write files into a folder unless they are there; a file is whole or absent."""
    for name, content in files.items():
        path = folder / name
        if not (path.exists() and path.stat().st_size == len(content)):
            with atomic_write(path) as partial:
                partial.write_bytes(content)


def digest(files: Files) -> str:
    """Return 32 hexadecimal digits of the names and contents of files."""
    content = hashlib.blake2b(digest_size=16)
    for name, data in sorted(files.items()):
        content.update(f"{name} {len(data)}\n".encode())
        content.update(data)
    return content.hexdigest()
