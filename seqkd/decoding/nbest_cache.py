"""Hypothesis lists kept by source line, so that no line is decoded twice: an SQLite file that many runs share.

An entry is the line's hash and, behind a checksum over both, the compressed list. What is added is added whole or not
at all, whenever the process is killed; an entry that does not match its checksum counts as absent.
A file that SQLite finds damaged is left where it is, marked, and the next number begun. There is a file once there is
an entry: looking for lists writes nothing.
"""

import hashlib
import itertools
import sqlite3
import sys
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from seqkd.data import nbest
from seqkd.data.nbest import Hypothesis
from seqkd.utils.errors import InputError

Entry = tuple[bytes, bytes]  # a line's key; checksum and list
HASH = 16  # bytes of a key, and of a checksum
DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
LOCK_TIMEOUT = 120.0  # seconds for which another run may hold the file; a commit takes far less


def key(source: str) -> bytes:
    return _hash(source.encode())


def _hash(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=HASH).digest()


def entry(source: str, hypotheses: Sequence[Hypothesis]) -> Entry:
    """A line's list, ready to be added; log-probabilities keep the 6 decimals of an n-best list."""
    name, content = key(source), zlib.compress("\n".join(map(nbest.serialize, hypotheses)).encode())
    return name, _hash(name + content) + content


def _content(name: bytes, kept: bytes) -> bytes | None:
    """The compressed list of an entry; None where its checksum does not match."""
    content = kept[HASH:]
    return content if _hash(name + content) == kept[:HASH] else None


@dataclass(frozen=True)
class NbestCache:
    """The lists in one file. Each method opens it for itself, so an Archive may go to other processes."""

    path: Path

    def missing(self, sources: Iterable[str]) -> dict[bytes, str]:
        """The sources without a sound list by their keys, each once and in order."""
        wanted = {key(source): source for source in sources}
        found = {name for name, content in self._contents(wanted) if content is not None}
        return {name: source for name, source in wanted.items() if name not in found}

    def lists(self, sources: Sequence[str]) -> list[list[Hypothesis]]:
        """Every source's hypotheses. Raises InputError where a list is absent or unsound."""
        contents = dict(self._contents(map(key, sources)))
        found = []
        for source in sources:
            content = contents.get(key(source))
            if content is None:
                raise InputError(f"{self.path}: a list is gone that was there before; run the command again.")
            found.append([nbest.deserialize(text) for text in zlib.decompress(content).decode().split("\n")])
        return found

    def add(self, entries: Iterable[Entry]) -> None:
        """All of the entries or none; an entry that is there already stays, unless it is unsound."""
        fresh = dict(entries)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._opened() as file:
            sound = {name for name, content in _look(file, fresh) if content is not None}
            rows = [(name, kept) for name, kept in fresh.items() if name not in sound]
            file.executemany("INSERT OR REPLACE INTO lines VALUES (?, ?)", rows)

    def _contents(self, names: Iterable[bytes]) -> list[tuple[bytes, bytes | None]]:
        if not self.path.exists():
            return []
        with self._opened() as file:
            return list(_look(file, names))

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        """One transaction. Raises InputError for whatever SQLite cannot do, having marked a damaged file."""
        try:
            with closing(sqlite3.connect(self.path, timeout=LOCK_TIMEOUT)) as file, file:
                file.execute("CREATE TABLE IF NOT EXISTS lines (source BLOB PRIMARY KEY, list BLOB NOT NULL)")
                yield file
        except sqlite3.Error as error:
            if _damaged(error):
                _quarantine_path(self.path).touch()
                raise InputError(f"{self.path}: damaged and set aside; run the command again to decode anew.") from None
            raise InputError(f"{self.path}: {error}; see to the room and rights there and run it again.") from None


def open_cache(folder: Path) -> NbestCache:
    """The archive of a folder, to be made where there is none. A damaged one is set aside, which is said on stderr."""
    for number in itertools.count(1):
        found = NbestCache(folder / f"lines-{number}.sqlite")
        if _quarantine_path(found.path).exists():
            continue
        if not found.path.exists():
            return found
        try:
            with found._opened() as file:
                told = file.execute("PRAGMA quick_check(1)").fetchone()[0]
        except InputError:
            if not _quarantine_path(found.path).exists():
                raise
            told = "damaged"
        if told == "ok":
            return found
        _quarantine_path(found.path).touch()
        print(f"{found.path}: damaged and set aside; its lines are decoded anew. Delete it.", file=sys.stderr)
    raise AssertionError("numbers do not end")


def _look(file: sqlite3.Connection, names: Iterable[bytes]) -> Iterator[tuple[bytes, bytes | None]]:
    """The entries of those names that there are, with None for an unsound list."""
    for name in names:
        for (kept,) in file.execute("SELECT list FROM lines WHERE source = ?", (name,)):
            yield name, _content(name, kept)


def _damaged(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in DAMAGED


def _quarantine_path(path: Path) -> Path:
    return path.with_suffix(".damaged")
