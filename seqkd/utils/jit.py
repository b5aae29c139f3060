"""numba.njit with compiled code kept on disk, in a folder named by the fingerprint of the code it was compiled from."""

import os
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numba

from seqkd.utils import atomic, fingerprint


def compiler(module: str, **options: Any) -> Callable[[Any], Any]:
    """Return numba.njit for the functions of a module (its __name__).

    numba only notices when the function's own file changes. An edit of another module whose functions are compiled
    into these gives another fingerprint, and so another folder.
    """
    folder = _module_folder(module)
    decorate = numba.njit(cache=bool(folder), **options)

    def compile_into_folder(function: Any) -> Any:
        before = numba.config.CACHE_DIR  # type: ignore[attr-defined]
        numba.config.CACHE_DIR = folder  # type: ignore[attr-defined]
        try:
            return decorate(function)
        finally:
            numba.config.CACHE_DIR = before  # type: ignore[attr-defined]

    return compile_into_folder


@cache
def _module_folder(module: str) -> str:
    """Return the folder of a module's compiled code; a module asks once for each set of options."""
    return cache_folder(f"compiled-{fingerprint.of(module)[:16]}")


def cache_folder(name: str) -> str:
    """Return a folder for compiled code: in the package's __pycache__, else in the user's temporary one, else "".

    NUMBA_CACHE_DIR comes before both. Code from the folder is run, so no other user may be able to write to it.
    """
    first = Path(os.environ.get("NUMBA_CACHE_DIR") or fingerprint.PACKAGE / "__pycache__", name)
    with suppress(OSError):
        return atomic.writable_dir(first)
    with suppress(OSError):
        return atomic.writable_dir(atomic.private_tmp_dir() / name)
    return ""
