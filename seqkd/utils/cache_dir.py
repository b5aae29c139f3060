"""Where the state of interrupted work lives: beside the DVC cache, so that neither DVC's removal of a stage's outs
nor the end of a queued experiment's clone takes it away."""

import configparser
import hashlib
import shutil
from contextlib import suppress
from pathlib import Path

from seqkd.utils.errors import InputError

DVC = Path(".dvc")
COMPLETE = "done"  # the file that tells that a state is no longer needed
MAX_AGE = 30 * 24 * 3600.0  # seconds after which a state that nobody took up goes


def key(*parts: str | bytes | Path) -> str:
    """64 hexadecimal digits of texts, bytes and the contents of files and folders."""
    whole = hashlib.sha256()
    for part in parts:
        kind = "path" if isinstance(part, Path) else "text" if isinstance(part, str) else "bytes"
        whole.update(f"{kind}:{_digest(part)}\n".encode())
    return whole.hexdigest()


def _digest(part: str | bytes | Path) -> str:
    if isinstance(part, Path):
        return _folder_digest(part) if part.is_dir() else _file_digest(part)
    return hashlib.sha256(part.encode() if isinstance(part, str) else part).hexdigest()


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _folder_digest(folder: Path) -> str:
    """Of the names under the folder and their contents; the folder's own name does not count."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    lines = [f"{_digest(name)} {_file_digest(folder / name)}\n" for name in names]
    return hashlib.sha256("".join(["folder\n", *lines]).encode()).hexdigest()


def path(key: str, room: str = "resume") -> Path:
    """Where the state of the work named by key is kept; not made here. Without a DVC project: under .resume.

    room: the folder of all such work; another than resume is for what outlives it.

    A cache in its usual place is .dvc/cache, its neighbour .dvc/tmp/resume; a queued experiment's clone is told of
    that cache in its config.local, and so comes to the same folder. A cache put elsewhere may be alone on its disk
    and its parent closed to us: there the state lies inside, next to DVC's own files/ and runs/.
    """
    if not DVC.is_dir():
        return Path(f".{room}", key).absolute()
    cache = _cache()
    usual = cache.name == "cache" and cache.parent.name == ".dvc"
    return cache.with_name("tmp") / room / key if usual else cache / room / key


def mark_complete(state: Path) -> None:
    """Marks a state whose work is written. It goes with the next stage, for only then has DVC taken the outs over."""
    if state.is_dir():
        (state / COMPLETE).touch()


def collect_garbage(since: float) -> None:
    """Drops the states of trainings that were done before a moment, and those that were left lying for a month.

    Of what hinders it nothing is told: the stage before it is done, and one that needs its state says it itself.
    """
    with suppress(InputError, OSError):
        states = path("any").parent
        for file in [*states.glob(f"*/{COMPLETE}"), *states.glob("*/state-*")]:
            with suppress(FileNotFoundError):
                if file.stat().st_mtime < (since if file.name == COMPLETE else since - MAX_AGE):
                    shutil.rmtree(file.parent, ignore_errors=True)


def _cache() -> Path:
    """The cache's folder as .dvc/config and .dvc/config.local name it, the latter first."""
    named, found = "cache", DVC
    for path in (DVC / "config", DVC / "config.local"):
        settings = configparser.RawConfigParser(strict=False)
        try:
            settings.read(path, encoding="utf-8")
            named = settings.get("cache", "dir", fallback=named)
            found = (DVC / Path(named.strip("\"'")).expanduser()).resolve()
        except (configparser.Error, ValueError, RuntimeError):  # no UTF-8; a NUL in a path, a home of nobody, a circle
            told = "not a DVC configuration, or its cache's dir leads nowhere"
            raise InputError(f"{path}: {told}; mend it or remove it.") from None
    return found
