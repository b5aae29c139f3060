"""The folder for the state of interrupted work, beside the DVC cache.

There neither DVC, which removes a stage's outs before a run, nor the end of a queued experiment's clone deletes it.
"""

import configparser
import hashlib
import shutil
from contextlib import suppress
from pathlib import Path

from seqkd.utils import fingerprint
from seqkd.utils.errors import InputError

DVC = Path(".dvc")
COMPLETE = "done"  # a file that marks a state as no longer needed
MAX_AGE = 30 * 24 * 3600.0  # seconds after which an unused state is deleted


def key(*parts: str | bytes | Path) -> str:
    """Return 64 hexadecimal digits that identify texts, bytes and the contents of files and folders."""
    digest = hashlib.sha256()
    for part in parts:
        kind = "path" if isinstance(part, Path) else "text" if isinstance(part, str) else "bytes"
        digest.update(f"{kind}:{_digest(part)}\n".encode())
    return digest.hexdigest()


def _digest(part: str | bytes | Path) -> str:
    if isinstance(part, Path):
        return _folder_digest(part) if part.is_dir() else fingerprint.file_sha256(part)
    return hashlib.sha256(part.encode() if isinstance(part, str) else part).hexdigest()


def _folder_digest(folder: Path) -> str:
    """Return the digest of the names and contents in a folder; the folder's own name does not count."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    lines = [f"{_digest(name)} {fingerprint.file_sha256(folder / name)}\n" for name in names]
    return hashlib.sha256("".join(["folder\n", *lines]).encode()).hexdigest()


def path(key: str, name: str = "resume") -> Path:
    """Return the path for the state of the work identified by key, without making it.

    name: the folder for all states of one kind; collect_garbage empties only resume.

    For the usual cache, .dvc/cache, the path is .dvc/tmp/resume/KEY. A queued experiment's clone has that cache in its
    config.local and so gets the same path. A cache elsewhere may be alone on its disk, below a folder that we cannot
    write to: then the path is inside it, beside DVC's own files/ and runs/. Without a DVC project: .resume/KEY.
    """
    if not DVC.is_dir():
        return Path(f".{name}", key).absolute()
    cache = _cache()
    is_usual = cache.name == "cache" and cache.parent.name == ".dvc"
    return cache.with_name("tmp") / name / key if is_usual else cache / name / key


def mark_complete(state: Path) -> None:
    """Mark a state whose result is written. The next stage deletes it, as only then DVC has saved the outs."""
    if state.is_dir():
        (state / COMPLETE).touch()


def collect_garbage(since: float) -> None:
    """Delete the states of trainings that were complete before a time (seconds of the epoch) or are a month old.

    Errors are ignored: the present stage is done, and a stage that needs its state reports them itself.
    """
    with suppress(InputError, OSError):
        states = path("any").parent
        for file in [*states.glob(f"*/{COMPLETE}"), *states.glob("*/state-*")]:
            with suppress(FileNotFoundError):
                if file.stat().st_mtime < (since if file.name == COMPLETE else since - MAX_AGE):
                    shutil.rmtree(file.parent, ignore_errors=True)


def _cache() -> Path:
    """Return the cache's folder from .dvc/config.local, else .dvc/config, else the default."""
    setting, folder = "cache", DVC
    for file in (DVC / "config", DVC / "config.local"):
        settings = configparser.RawConfigParser(strict=False)
        try:
            settings.read(file, encoding="utf-8")
            setting = settings.get("cache", "dir", fallback=setting)
            folder = (DVC / Path(setting.strip("\"'")).expanduser()).resolve()
        except (configparser.Error, ValueError, RuntimeError):  # not UTF-8, a NUL, an unknown user's home, a circle
            raise InputError(
                f"{file}: not a DVC configuration, or its cache's dir leads nowhere; correct it or remove it."
            ) from None
    return folder
