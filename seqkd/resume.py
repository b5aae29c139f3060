"""Where the state of interrupted work lives: beside the DVC cache, so that neither DVC's removal of a stage's outs
nor the end of a queued experiment's clone takes it away."""

import configparser
import hashlib
import shutil
from pathlib import Path

from seqkd.errors import InputError

DVC = Path(".dvc")
DONE = "done"  # the file that tells that a state is no longer needed
FORGOTTEN = 30 * 24 * 3600.0  # seconds after which a state that nobody took up goes


def key(*parts: str | bytes | Path) -> str:
    """64 hexadecimal digits of exactly this work: the settings, the contents of each file or folder, and this library,
    for work begun by other code must not be ended by this one.

    Raises FileNotFoundError for a path that does not exist.
    """
    return digest(*sorted(Path(__file__).parent.glob("*.py")), *parts)


def digest(*parts: str | bytes | Path) -> str:
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


def folder(key: str, room: str = "resume") -> Path:
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


def done(state: Path) -> None:
    """Marks a state whose work is written. It goes with the next stage, for only then has DVC taken the outs over."""
    if state.is_dir():
        (state / DONE).touch()


def sweep(since: float) -> None:
    """Drops the states of trainings that were done before a moment, and those that were left lying for a month."""
    for file in [*folder("any").parent.glob(f"*/{DONE}"), *folder("any").parent.glob("*/state-*")]:
        try:
            old = file.stat().st_mtime < (since if file.name == DONE else since - FORGOTTEN)
        except FileNotFoundError:
            continue
        if old:
            shutil.rmtree(file.parent, ignore_errors=True)


def _cache() -> Path:
    """The cache's folder as .dvc/config and .dvc/config.local name it, the latter first."""
    named = "cache"
    for path in (DVC / "config", DVC / "config.local"):
        settings = configparser.RawConfigParser(strict=False)
        try:
            settings.read(path, encoding="utf-8")
        except configparser.Error:
            raise InputError(f"{path}: not a DVC configuration; mend it or remove it.") from None
        named = settings.get("cache", "dir", fallback=named)
    return (DVC / Path(named.strip("\"'")).expanduser()).resolve()
