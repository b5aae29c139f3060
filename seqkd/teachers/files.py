"""Translations that stand in files, in one of four forms.

Plain lines; lines of source, tab, translation; `id ||| text ||| score` as Moses and Marian write them; JSONL.

Everything is read and checked before the first list is yielded. Ids join a translation to its source; where there are
only plain lines, the number of lines must be that of the sources. The files and the sources go through a temporary
SQLite file, so they may be of any size and in any order.
"""

import glob
import json
import math
import re
import sqlite3
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from itertools import chain, groupby, islice
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, cast

from seqkd.corpora import text_file
from seqkd.data.normalization import normalize
from seqkd.data.text_lists import TextHypothesis
from seqkd.utils.errors import InputError

SEPARATOR = " ||| "
SHOWN = 5  # ids that a refusal names
WINDOW = 200  # plain lines whose order is judged together
MIN_CORRELATION, MIN_SPREAD = 0.4, 0.2  # of the logarithms of their lengths and their sources'


class Translation(NamedTuple):
    """One hypothesis as it stands in a file."""

    id: int
    text: str
    score: float | None
    source: str | None  # as the file gives it
    whole: bool  # its line has all hypotheses of its id
    plain: bool  # neither an id nor a source joins it, but its place alone
    file: int  # its place among the files
    line: int


def find(pattern: str, *, key: str) -> list[Path]:
    """Return the files of a glob, sorted by name. Raise InputError, with the key of params.yaml, where it has none."""
    paths = sorted(map(Path, glob.glob(pattern, recursive=True)))
    files = [path for path in paths if path.is_file()]
    if not files:
        raise InputError(f"params.yaml: {key}: no file is called {pattern}; correct the name or the pattern.")
    return files


def numbered(paths: Iterable[Path]) -> Iterator[tuple[int, str]]:
    """Yield the lines of files as sources, numbered from 0 on through all files."""
    return enumerate(line for path in paths for line in _lines(path))


def lists(paths: Sequence[Path], sources: Iterable[tuple[int, str]]) -> Iterator[tuple[str, list[TextHypothesis]]]:
    """Yield each source, in its normal form, with its hypotheses, best first: by score, or as they stand in the file.

    sources: each with its id. Raise InputError, with file and line, for what cannot be joined beyond doubt.
    """
    with closing(sqlite3.connect("")) as database:  # "": a temporary file, which SQLite deletes
        database.execute("CREATE TABLE source (id INTEGER PRIMARY KEY, text TEXT)")
        database.executemany("INSERT INTO source VALUES (?, ?)", ((id_, normalize(text)) for id_, text in sources))
        database.execute(
            "CREATE TABLE hypothesis"
            " (id INT, text TEXT, score REAL, source TEXT, whole INT, plain INT, file INT, line INT)"
        )
        database.executemany("INSERT INTO hypothesis VALUES (?, ?, ?, ?, ?, ?, ?, ?)", _translations(paths, database))
        database.execute("CREATE INDEX place ON hypothesis (id, file, line)")
        _check_complete(database, paths)
        for _ in _joined(database, paths):  # all is checked before anything is used
            pass
        _check_order(database, paths)
        yield from _joined(database, paths)


def _joined(database: sqlite3.Connection, paths: Sequence[Path]) -> Iterator[tuple[str, list[TextHypothesis]]]:
    rows = database.execute(
        "SELECT source.text, hypothesis.* FROM hypothesis JOIN source USING (id)"
        " ORDER BY hypothesis.id, hypothesis.file, hypothesis.line, hypothesis.rowid"
    )
    for _, group in groupby(rows, key=lambda row: row[1]):
        entries = [(row[0], Translation(*row[1:])) for row in group]
        yield entries[0][0], _ranked([entry for _, entry in entries], entries[0][0], paths)


def _ranked(entries: list[Translation], source: str, paths: Sequence[Path]) -> list[TextHypothesis]:
    """Return the hypotheses of one id, best first. Raise InputError for a double, or another source's."""
    seen: dict[tuple[str, float | None], Translation] = {}
    for entry in entries:
        where = f"{paths[entry.file]}, line {entry.line}"
        if entry.source is not None and normalize(entry.source) != source:
            raise InputError(
                f"{where}: id {entry.id} has the translation of another source than its own; join it anew."
            )
        if entry.file != entries[0].file:
            raise InputError(
                f"{where}: id {entry.id} is in {paths[entries[0].file]} too; give each id in one file only."
            )
        other = seen.get((entry.text, entry.score)) or (entries[0] if entry.whole else entry)
        if other.line != entry.line:
            raise InputError(f"{where}: id {entry.id} is given twice, first in line {other.line}; remove one.")
        seen[entry.text, entry.score] = entry
    if all(entry.score is not None for entry in entries):
        entries = sorted(entries, key=lambda entry: -cast(float, entry.score))
    is_log_probability = all(entry.score is not None and entry.score <= 0 for entry in entries)
    return [TextHypothesis(entry.text, entry.score if is_log_probability else None) for entry in entries]


def _check_complete(database: sqlite3.Connection, paths: Sequence[Path]) -> None:
    """Raise InputError where an id has no translation, or a translation has no id of a source."""

    def ids(kept: str, other: str) -> tuple[int, str, list[int]]:
        query = f"FROM {kept} WHERE id NOT IN (SELECT id FROM {other})"
        count = database.execute(f"SELECT COUNT(DISTINCT id) {query}").fetchone()[0]
        first = [id_ for (id_,) in database.execute(f"SELECT DISTINCT id {query} ORDER BY id LIMIT {SHOWN}")]
        return count, ", ".join(map(str, first)), first

    missing, shown, _ = ids("source", "hypothesis")
    surplus, beyond, first = ids("hypothesis", "source")
    if not missing and not surplus:
        return
    total = database.execute("SELECT COUNT(*) FROM source").fetchone()[0]
    where = ", ".join(map(str, paths[:3])) + (", ..." if len(paths) > 3 else "")
    begins = database.execute("SELECT MIN(id) FROM hypothesis").fetchone()[0]
    if surplus:
        file, line = database.execute("SELECT file, line FROM hypothesis WHERE id = ?", first[:1]).fetchone()
        where = f"{paths[file]}, line {line}"
    if begins == 1 and surplus == 1 and shown == "0":
        raise InputError(f"{where}: its ids begin at 1; number the lines from 0 on.")
    parts = [f"{missing:,} of {total:,} sources have no translation (ids {shown})"] if missing else []
    parts += [f"{surplus:,} ids are those of no source ({beyond})"] if surplus else []
    raise InputError(f"{where}: {' and '.join(parts)}; give each source its lines, and no others.")


def _check_order(database: sqlite3.Connection, paths: Sequence[Path]) -> None:
    """Raise InputError where plain lines stand beside the sources of others.

    Nothing but their place joins them. But the lengths of translations follow those of the sources: in 200 lines of
    news or of interface texts their logarithms correlate by 0.79 to 0.99, and shifted by a line hardly at all.
    """
    rows = database.execute(
        "SELECT file, line, length(source.text), length(hypothesis.text) FROM hypothesis JOIN source USING (id)"
        " WHERE plain ORDER BY file, line"
    )
    while len(window := list(islice(rows, WINDOW))) == WINDOW:
        lengths = [[math.log(1 + row[column]) for row in window] for column in (2, 3)]
        spread = min(map(statistics.pstdev, lengths))
        if spread > MIN_SPREAD and statistics.correlation(*lengths) < MIN_CORRELATION:
            raise InputError(
                f"{paths[window[0][0]]}, from line {window[0][1]} on: the lengths of {WINDOW} lines have nothing to do "
                "with those of their sources, so they are not in their order; put them right, or give ids."
            )


def _translations(paths: Sequence[Path], database: sqlite3.Connection) -> Iterator[tuple[Any, ...]]:
    """Yield the hypotheses of all files, each for itself in one of the formats."""
    ids = database.cursor().execute(
        "SELECT id FROM source ORDER BY id"
    )  # of plain lines: those of the sources, in order
    for number, path in enumerate(paths):
        lines = enumerate(_lines(path), start=1)
        first = next(lines)
        read = _format(first[1])
        for line, text in chain([first], lines):
            where = f"{path}, line {line}"
            for id_, translation, score, source in read(text, where) if read else _plain(text, ids, where):
                if not normalize(translation):
                    raise InputError(f"{where}: an empty translation; give it words, or leave the source out.")
                is_plain = read is None and source is None
                yield id_, translation, score, source, read is _json, is_plain, number, line


Fields = tuple[int, str, float | None, str | None]  # id, text, score, source


def _format(line: str) -> Callable[[str, str], list[Fields]] | None:
    """Return the reader of a file whose first line this is; None: plain lines."""
    if re.match(r"\s*\{.*\}\s*$", line):
        return _json
    if re.match(r"\d+ \|\|\|", line):
        count = line.count("|||") + 1
        return lambda text, where: _moses(text, where, count=count)
    return None


def _plain(text: str, ids: Iterator[tuple[int]], where: str) -> list[Fields]:
    if SEPARATOR in text:
        raise InputError(f"{where}: {SEPARATOR.strip()} inside a text, which divides fields; write it otherwise.")
    id_ = next(ids, None)
    if id_ is None:
        raise InputError(f"{where}: no source is left for this line; the lines must be those of the sources, one each.")
    source, tab, translation = text.rpartition("\t")
    return [(id_[0], translation, None, source if tab else None)]


def _moses(line: str, where: str, *, count: int) -> list[Fields]:
    fields = [field.strip() for field in line.split("|||")]
    if len(fields) != count or count > 4:
        raise InputError(
            f"{where}: {len(fields)} fields, not {min(count, 4)}; write 'id ||| text ||| score' in all lines, and no"
            " ||| inside a text."
        )
    score = _score(fields[-1], where) if count > 2 else None
    if not re.fullmatch(r"\d{1,18}", fields[0]):
        raise InputError(f"{where}: the id is {fields[0][:20]!r}; write a number from 0 on.")
    return [(int(fields[0]), fields[1], score, None)]


def _json(line: str, where: str) -> list[Fields]:
    try:
        entry = json.loads(line)
        id_, hypotheses, source = entry["id"], entry["hypotheses"], entry.get("source")
        texts = [each["text"] for each in hypotheses]
        scores = [each.get("score") for each in hypotheses]
        if (
            type(id_) is not int
            or not 0 <= id_ < 1 << 62
            or not all(isinstance(text, str) for text in texts)
            or not texts
        ):
            raise ValueError
        if not isinstance(source, str | None) or any(type(score) not in (int, float, type(None)) for score in scores):
            raise ValueError
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        expected = '{"id": 0, "hypotheses": [{"text": "...", "score": -1.2}]}'
        raise InputError(f"{where}: not a JSON object like {expected}; correct it.") from None
    checked = [None if score is None else _score(str(score), where) for score in scores]
    return [(id_, text, score, source) for text, score in zip(texts, checked, strict=True)]


def _score(text: str, where: str) -> float:
    try:
        score = float(text)
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        raise InputError(f"{where}: the score is {text[:20]!r}; write a finite number.")
    return score


def _lines(path: Path) -> Iterator[str]:
    """Yield the lines of a file, plain or compressed.

    Raise InputError, with the line, for what is no text in UTF-8, and for what hints at a file that was changed on its
    way: a byte order mark, a carriage return.
    """
    for number, line in enumerate(text_file.read_lines(path), start=1):
        where = f"{path}, line {number}"
        if line.startswith("\ufeff"):
            _refuse(where, "a byte order mark (BOM)", "save the file as UTF-8 without it")
        if "\r" in line:
            _refuse(where, "a carriage return (CRLF)", "convert the line ends to LF")
        yield line


def _refuse(where: str, fault: str, remedy: str) -> NoReturn:
    raise InputError(f"{where}: {fault}; {remedy}.")
