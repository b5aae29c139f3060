"""A cache of n-best lists by source line, so that no line is decoded twice: an SQLite file that many runs share.

An entry is the line's hash and, behind a checksum over both, the compressed list. Entries are added in one transaction,
so a killed process leaves all of them or none; an entry that does not match its checksum counts as absent.
A file that SQLite finds damaged is quarantined: marked and left where it is, and the next number is begun. The file is
created with the first entry; looking for lists writes nothing.
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

Entry = tuple[bytes, bytes]  # a line's key; checksum and compressed list
HASH_SIZE = 16  # bytes of a key, and of a checksum
DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
LOCK_TIMEOUT = 120.0  # seconds for which another run may hold the file; a commit takes far less


def key(source: str) -> bytes:
    """Return the key of a source line."""
    return _hash(source.encode())


def _hash(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=HASH_SIZE).digest()


def entry(source: str, hypotheses: Sequence[Hypothesis]) -> Entry:
    """Return a line's entry, ready to be added; log-probabilities keep the 6 decimals of an n-best list."""
    name, content = key(source), zlib.compress("\n".join(map(nbest.serialize, hypotheses)).encode())
    return name, _hash(name + content) + content


def _checked(name: bytes, stored: bytes) -> bytes | None:
    """Return the compressed list of an entry; None where its checksum does not match."""
    content = stored[HASH_SIZE:]
    return content if _hash(name + content) == stored[:HASH_SIZE] else None


@dataclass(frozen=True)
class NbestCache:
    """The lists in one file. Each method opens it for itself, so a cache may be sent to other processes."""

    path: Path

    def missing(self, sources: Iterable[str]) -> dict[bytes, str]:
        """Return the sources without a sound list by their keys, each once and in order."""
        wanted = {key(source): source for source in sources}
        present = {name for name, content in self._read(wanted) if content is not None}
        return {name: source for name, source in wanted.items() if name not in present}

    def lists(self, sources: Sequence[str]) -> list[list[Hypothesis]]:
        """Return every source's n-best list. Raises InputError where one is absent or unsound."""
        contents = dict(self._read(map(key, sources)))
        lists = []
        for source in sources:
            content = contents.get(key(source))
            if content is None:
                raise InputError(f"{self.path}: a list is gone that was there before; run the command again.")
            lists.append([nbest.deserialize(text) for text in zlib.decompress(content).decode().split("\n")])
        return lists

    def add(self, entries: Iterable[Entry]) -> None:
        """Add all of the entries or none; an entry that exists already stays, unless it is unsound."""
        added = dict(entries)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._open() as database:
            sound = {name for name, content in _select(database, added) if content is not None}
            rows = [(name, stored) for name, stored in added.items() if name not in sound]
            database.executemany("INSERT OR REPLACE INTO lines VALUES (?, ?)", rows)

    def _read(self, names: Iterable[bytes]) -> list[tuple[bytes, bytes | None]]:
        if not self.path.exists():
            return []
        with self._open() as database:
            return list(_select(database, names))

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """Open one transaction. Raises InputError for whatever SQLite cannot do, and quarantines a damaged file."""
        try:
            with closing(sqlite3.connect(self.path, timeout=LOCK_TIMEOUT)) as database, database:
                database.execute("CREATE TABLE IF NOT EXISTS lines (source BLOB PRIMARY KEY, list BLOB NOT NULL)")
                yield database
        except sqlite3.Error as error:
            if _is_damage(error):
                _quarantine_path(self.path).touch()
                raise InputError(
                    f"{self.path}: damaged and quarantined; run the command again to decode anew."
                ) from None
            raise InputError(f"{self.path}: {error}; check its free space and permissions and run it again.") from None


def open_cache(folder: Path) -> NbestCache:
    """Return the cache of a folder, which need not exist yet. A damaged file is quarantined with a line on stderr."""
    for number in itertools.count(1):
        cache = NbestCache(folder / f"lines-{number}.sqlite")
        if _quarantine_path(cache.path).exists():
            continue
        if not cache.path.exists() or _is_sound(cache):
            return cache
        _quarantine_path(cache.path).touch()
        print(f"{cache.path}: damaged and quarantined; its lines are decoded anew. Delete it.", file=sys.stderr)
    raise AssertionError("numbers do not end")


def _is_sound(cache: NbestCache) -> bool:
    """Return whether SQLite finds no damage. Raises InputError where it cannot open the file for another reason."""
    try:
        with cache._open() as database:
            return bool(database.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok")
    except InputError:
        if not _quarantine_path(cache.path).exists():
            raise
        return False


def _select(database: sqlite3.Connection, names: Iterable[bytes]) -> Iterator[tuple[bytes, bytes | None]]:
    """Yield the entries of those names that exist, with None for an unsound list."""
    for name in names:
        for (stored,) in database.execute("SELECT list FROM lines WHERE source = ?", (name,)):
            yield name, _checked(name, stored)


def _is_damage(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in DAMAGED


def _quarantine_path(path: Path) -> Path:
    """Return the marker of a damaged file."""
    return path.with_suffix(".damaged")
