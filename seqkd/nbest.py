"""n-best lists in parts: a part holds the hypotheses of 1000 consecutive lines of the training text."""

import gzip
import zlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple, NoReturn

from seqkd import corpus
from seqkd.errors import InputError

LINES = 1000  # of the text in one part; the same whatever the number of workers


class Hypothesis(NamedTuple):
    ids: tuple[int, ...]  # pieces, without sentence marks
    logprob: float  # nats of the whole sentence, its end included
    finished: bool  # False: cut off before its end


Entry = tuple[int, list[Hypothesis]]  # a line's id and its hypotheses, best first


def count(lines: int) -> int:
    """Parts that a text of so many lines has."""
    return -(-lines // LINES)


def part_path(folder: Path, index: int) -> Path:
    return folder / f"part-{index:05d}.tsv.gz"


def positions(index: int) -> slice:
    """Which lines of the text a part holds."""
    return slice(index * LINES, (index + 1) * LINES)


def write_part(folder: Path, index: int, entries: Iterable[tuple[int, Sequence[Hypothesis]]]) -> Path:
    """The file of one part; its lines are: id, rank, log-probability, finished, piece ids."""
    path = part_path(folder, index)
    with (
        corpus.replacing(path) as file,
        gzip.GzipFile(filename="", fileobj=file.buffer, mode="wb", compresslevel=6, mtime=0) as packed,
    ):
        for line, hypotheses in entries:
            if not hypotheses:
                raise ValueError(f"id {line} has no hypothesis")
            for rank, (ids, logprob, finished) in enumerate(hypotheses):
                pieces = " ".join(map(str, ids))
                packed.write(f"{line}\t{rank}\t{logprob:.6f}\t{int(finished)}\t{pieces}\n".encode())
    return path


def parts(folder: Path, *, lines: int | None = None) -> list[Path]:
    """The files of all parts, in order. Raises InputError where a text of so many lines has more or fewer."""
    found = sorted(folder.glob("part-*.tsv.gz"))
    for index in range(count(lines) if lines is not None else max(1, len(found))):
        if index >= len(found) or found[index] != part_path(folder, index):
            _refuse(part_path(folder, index), ": this part of the n-best list is missing")
    if lines is not None and len(found) > count(lines):
        _refuse(folder, f": {len(found)} parts for a text of {count(lines)}")
    return found


def read(folder: Path, ids: Sequence[int] | None = None) -> Iterator[Entry]:
    """Every entry, part by part; with ids (of the whole text, in order) also checked against them.

    Raises InputError for a gap, a repeat, lines out of order, a missing or broken part.
    """
    found = parts(folder, lines=None if ids is None else len(ids))
    last = -1
    for index, path in enumerate(found):
        size = 0
        for entry in read_part(path, None if ids is None else ids[positions(index)]):
            if entry[0] <= last:
                _refuse(path, f": id {entry[0]} comes after id {last}, so the parts are mixed up")
            last, size = entry[0], size + 1
            yield entry
        if size < LINES and index < len(found) - 1:
            _refuse(path, f": {size} of {LINES} lines, though it is not the last part")


def read_part(path: Path, ids: Sequence[int] | None = None) -> Iterator[Entry]:
    """The entries of one part; with ids, they must be exactly these, in this order. Raises InputError."""
    last, size = -1, 0
    for line, rows in groupby(_rows(path), key=itemgetter(0)):
        if line <= last:
            _refuse(path, f": id {line} comes after id {last}, so the lines are out of order")
        if ids is not None and (size == len(ids) or ids[size] != line):
            wanted = f"id {ids[size]}" if size < len(ids) else "its end"
            _refuse(path, f": id {line} stands where the text has {wanted}")
        hypotheses = []
        for place, (_, rank, hypothesis) in enumerate(rows):
            if rank != place:
                _refuse(path, f": id {line} has rank {rank} in place {place}, so lines are lost, repeated or shuffled")
            hypotheses.append(hypothesis)
        last, size = line, size + 1
        yield line, hypotheses
    if ids is not None and size < len(ids):
        _refuse(path, f": id {ids[size]} is missing")


def _rows(path: Path) -> Iterator[tuple[int, int, Hypothesis]]:
    """Each line of a part as id, rank, hypothesis."""
    number = 0
    try:
        with gzip.open(path, "rt", encoding="ascii", newline="\n") as file:
            for number, text in enumerate(file, start=1):  # noqa: B007 - the refusal names it
                line, rank, logprob, finished, pieces = text.split("\t")
                yield int(line), int(rank), Hypothesis(tuple(map(int, pieces.split())), float(logprob), finished == "1")
    except FileNotFoundError:
        _refuse(path, ": this part of the n-best list is missing")
    except (OSError, EOFError, zlib.error):
        _refuse(path, f", after line {number}: not a whole gzip file")
    except ValueError:
        _refuse(path, f", line {number}: not 'id, rank, log-probability, finished, pieces'")


def _refuse(path: Path, what: str) -> NoReturn:
    raise InputError(f"{path}{what}; decode this text anew.") from None


__all__ = ["LINES", "Entry", "Hypothesis", "parts", "positions", "read", "read_part", "write_part"]
