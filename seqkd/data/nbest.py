"""n-best lists in parts: a part holds the hypotheses of 1000 consecutive lines of the training text.

Every hypothesis travels with its line's id and a fingerprint of its source, so that nothing lost, doubled, exchanged
or decoded from another text is taken for the list of this one.
"""

import gzip
import hashlib
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple, NoReturn

from seqkd.data.bitext import Pair
from seqkd.utils import atomic
from seqkd.utils.errors import InputError

LINES_PER_PART = 1000  # of the text in one part; the same whatever the number of workers


class Hypothesis(NamedTuple):
    ids: tuple[int, ...]  # pieces, without sentence marks
    logprob: float  # nats of the whole sentence, its end included
    finished: bool  # False: cut off before its end


Entry = tuple[int, list[Hypothesis]]  # a line's id and its hypotheses, best first


def count(lines: int) -> int:
    """Parts that a text of so many lines has."""
    return -(-lines // LINES_PER_PART)


def part_path(folder: Path, index: int) -> Path:
    return folder / f"part-{index:05d}.tsv.gz"


def positions(index: int) -> slice:
    """Which lines of the text a part holds."""
    return slice(index * LINES_PER_PART, (index + 1) * LINES_PER_PART)


def chunks(pairs: Iterable[Pair]) -> Iterator[list[Pair]]:
    """The pairs of a text, part by part."""
    rest = iter(pairs)
    while part := list(islice(rest, LINES_PER_PART)):
        yield part


def fingerprint(source: str) -> str:
    """16 hexadecimal digits by which a source line is known again."""
    return hashlib.blake2b(source.encode(), digest_size=8).hexdigest()


def serialize(hypothesis: Hypothesis) -> str:
    """log-probability, finished, piece ids, with tabs between them."""
    ids, logprob, finished = hypothesis
    return f"{logprob:.6f}\t{int(finished)}\t{' '.join(map(str, ids))}"


def deserialize(text: str) -> Hypothesis:
    """The hypothesis that `packed` wrote. Raises ValueError for anything else."""
    if not _PACKED.fullmatch(text):
        raise ValueError(text)
    logprob, finished, pieces = text.split("\t")
    return Hypothesis(tuple(map(int, pieces.split())), float(logprob), finished == "1")


_PACKED = re.compile(r"(?:-\d+\.\d{6}|0\.000000)\t[01]\t(?:\d+(?: \d+)*)?")


def write_part(folder: Path, index: int, entries: Iterable[tuple[Pair, Sequence[Hypothesis]]]) -> Path:
    """The file of one part.

    Its lines are: id, fingerprint of the source, rank, how many hypotheses, log-probability, finished, piece ids.
    """
    path = part_path(folder, index)
    with (
        atomic.open_text(path) as file,
        gzip.GzipFile(filename="", fileobj=file.buffer, mode="wb", compresslevel=6, mtime=0) as zipped,
    ):
        for pair, hypotheses in entries:
            if not hypotheses:
                raise ValueError(f"id {pair.id} has no hypothesis")
            line, size = f"{pair.id}\t{fingerprint(pair.source)}", len(hypotheses)
            text = [f"{line}\t{rank}\t{size}\t{serialize(it)}\n" for rank, it in enumerate(hypotheses)]
            zipped.write("".join(text).encode())
    return path


def parts(folder: Path, *, lines: int) -> list[Path]:
    """The files of all parts, in order. Raises InputError where a text of so many lines has more or fewer."""
    found = sorted(folder.glob("part-*.tsv.gz"))
    for index in range(count(lines)):
        if index >= len(found) or found[index] != part_path(folder, index):
            _refuse(part_path(folder, index), ": this part of the n-best list is missing")
    if len(found) > count(lines):
        _refuse(folder, f": {len(found)} parts for a text of {count(lines)}")
    return found


def read_part(path: Path, pairs: Sequence[Pair]) -> Iterator[Entry]:
    """The entries of one part, which must be those of exactly these pairs, in this order.

    Raises InputError for a gap, a repeat, lines or ranks out of order, another source, a missing or broken file.
    """
    last, size = -1, 0
    for line, rows in groupby(_rows(path), key=itemgetter(0)):
        if line <= last:
            _refuse(path, f": id {line} comes after id {last}, so the lines are out of order")
        if size == len(pairs) or pairs[size].id != line:
            wanted = f"id {pairs[size].id}" if size < len(pairs) else "its end"
            _refuse(path, f": id {line} stands where the text has {wanted}")
        yield line, _list(path, line, source=fingerprint(pairs[size].source), rows=rows)
        last, size = line, size + 1
    if size < len(pairs):
        _refuse(path, f": id {pairs[size].id} is missing")


class _Row(NamedTuple):
    """A line of a part."""

    line: int
    source: str  # its fingerprint
    rank: int
    of: int  # hypotheses that the line has
    hypothesis: Hypothesis


def _list(path: Path, line: int, *, source: str, rows: Iterable[_Row]) -> list[Hypothesis]:
    """The hypotheses of one line, complete and in order."""
    found, count = [], 0
    for place, row in enumerate(rows):
        if row.source != source:
            _refuse(path, f": id {line} has the list of another source than the text's")
        if row.rank != place:
            _refuse(path, f": id {line} has rank {row.rank} in place {place}, so lines are lost, repeated or shuffled")
        found.append(row.hypothesis)
        count = row.of
    if len(found) != count:
        _refuse(path, f": id {line} has {len(found)} of {count} hypotheses")
    return found


def _rows(path: Path) -> Iterator[_Row]:
    number = 0
    try:
        with gzip.open(path, "rt", encoding="ascii", newline="\n") as file:
            for number, text in enumerate(file, start=1):  # noqa: B007 - the refusal names it
                line, source, rank, count, rest = text.split("\t", 4)
                if not rest.endswith("\n"):
                    raise ValueError(text)
                yield _Row(int(line), source, int(rank), int(count), deserialize(rest[:-1]))
    except FileNotFoundError:
        _refuse(path, ": this part of the n-best list is missing")
    except (gzip.BadGzipFile, EOFError, zlib.error):
        _refuse(path, f", after line {number}: not a whole gzip file")
    except ValueError:
        _refuse(path, f", line {number}: not 'id, source, rank, count, log-probability, finished, pieces'")


def _refuse(path: Path, what: str) -> NoReturn:
    raise InputError(f"{path}{what}; decode this text anew.") from None


__all__ = [
    "LINES_PER_PART",
    "Entry",
    "Hypothesis",
    "chunks",
    "count",
    "deserialize",
    "fingerprint",
    "part_path",
    "parts",
    "positions",
    "read_part",
    "serialize",
    "write_part",
]
