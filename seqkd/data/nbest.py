"""n-best lists in parts of 1000 consecutive lines of the training text.

Every hypothesis is stored with its line's id and a fingerprint of its source: a list with lost, repeated or exchanged
lines, or of another text, is refused.
"""

import gzip
import hashlib
import math
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

LINES_PER_PART = 1000  # independent of the number of processes


class Hypothesis(NamedTuple):
    ids: tuple[int, ...]  # pieces, without BOS and EOS
    logprob: float  # nats of the whole sentence, EOS included; NaN: not known
    finished: bool  # False: cut off before EOS


Entry = tuple[int, list[Hypothesis]]  # a line's id and its hypotheses, best first


def count(lines: int) -> int:
    """Return the number of parts for a text of so many lines."""
    return -(-lines // LINES_PER_PART)


def part_path(folder: Path, index: int) -> Path:
    return folder / f"part-{index:05d}.tsv.gz"


def positions(index: int) -> slice:
    """Return the positions of a part's lines in the text."""
    return slice(index * LINES_PER_PART, (index + 1) * LINES_PER_PART)


def chunks(pairs: Iterable[Pair]) -> Iterator[list[Pair]]:
    """Yield the pairs of a text, part by part."""
    remaining = iter(pairs)
    while part := list(islice(remaining, LINES_PER_PART)):
        yield part


def fingerprint(source: str) -> str:
    """Return 16 hexadecimal digits that identify a source line."""
    return hashlib.blake2b(source.encode(), digest_size=8).hexdigest()


def serialize(hypothesis: Hypothesis) -> str:
    """Return log-probability (empty: not known), finished and piece ids as text, separated by tabs."""
    ids, logprob, finished = hypothesis
    number = "" if math.isnan(logprob) else f"{logprob:.6f}"
    return f"{number}\t{int(finished)}\t{' '.join(map(str, ids))}"


def deserialize(text: str) -> Hypothesis:
    """Return the hypothesis of a text that `serialize` made. Raise ValueError for any other text."""
    if not _SERIALIZED.fullmatch(text):
        raise ValueError(text)
    logprob, finished, pieces = text.split("\t")
    return Hypothesis(tuple(map(int, pieces.split())), float(logprob or "nan"), finished == "1")


_SERIALIZED = re.compile(r"(?:-\d+\.\d{6}|0\.000000)?\t[01]\t(?:\d+(?: \d+)*)?")


def write_part(folder: Path, index: int, entries: Iterable[tuple[Pair, Sequence[Hypothesis]]]) -> Path:
    """Write one part and return its path.

    A line is: id, fingerprint of the source, rank, number of hypotheses, log-probability, finished, piece ids.
    """
    path = part_path(folder, index)
    with (
        atomic.open_text(path) as file,
        gzip.GzipFile(filename="", fileobj=file.buffer, mode="wb", compresslevel=6, mtime=0) as zipped,
    ):
        for pair, hypotheses in entries:
            if not hypotheses:
                raise ValueError(f"id {pair.id} has no hypothesis")
            key, size = f"{pair.id}\t{fingerprint(pair.source)}", len(hypotheses)
            rows = [f"{key}\t{rank}\t{size}\t{serialize(each)}\n" for rank, each in enumerate(hypotheses)]
            zipped.write("".join(rows).encode())
    return path


def parts(folder: Path, *, lines: int) -> list[Path]:
    """Return the files of all parts, in order. Raise InputError where a text of so many lines has more or fewer."""
    paths = sorted(folder.glob("part-*.tsv.gz"))
    for index in range(count(lines)):
        if index >= len(paths) or paths[index] != part_path(folder, index):
            _refuse(part_path(folder, index), ": this part of the n-best list is missing")
    if len(paths) > count(lines):
        _refuse(folder, f": {len(paths)} parts for a text of {count(lines)}")
    return paths


def read_part(path: Path, pairs: Sequence[Pair]) -> Iterator[Entry]:
    """Yield the entries of one part, which must be those of exactly these pairs, in this order.

    Raise InputError for a gap, a repeat, lines or ranks out of order, another source, a missing or broken file.
    """
    last, size = -1, 0
    for line, rows in groupby(_rows(path), key=itemgetter(0)):
        if line <= last:
            _refuse(path, f": id {line} comes after id {last}, so the lines are out of order")
        if size == len(pairs) or pairs[size].id != line:
            expected = f"id {pairs[size].id}" if size < len(pairs) else "its end"
            _refuse(path, f": id {line} stands where the text has {expected}")
        yield line, _hypotheses(path, line, source=fingerprint(pairs[size].source), rows=rows)
        last, size = line, size + 1
    if size < len(pairs):
        _refuse(path, f": id {pairs[size].id} is missing")


class _Row(NamedTuple):
    """A line of a part."""

    id: int  # of the line of the text
    source: str  # its fingerprint
    rank: int
    total: int  # hypotheses of the line
    hypothesis: Hypothesis


def _hypotheses(path: Path, line: int, *, source: str, rows: Iterable[_Row]) -> list[Hypothesis]:
    """Return the hypotheses of one line. Raise InputError unless they are complete and in order."""
    hypotheses, total = [], 0
    for rank, row in enumerate(rows):
        if row.source != source:
            _refuse(path, f": id {line} has the list of another source than the text's")
        if row.rank != rank:
            _refuse(path, f": id {line} has rank {row.rank} in place {rank}, so lines are lost, repeated or shuffled")
        hypotheses.append(row.hypothesis)
        total = row.total
    if len(hypotheses) != total:
        _refuse(path, f": id {line} has {len(hypotheses)} of {total} hypotheses")
    return hypotheses


def _rows(path: Path) -> Iterator[_Row]:
    """Yield the rows of a part's file. Raise InputError, with the line, for a missing or broken file."""
    number = 0
    try:
        with gzip.open(path, "rt", encoding="ascii", newline="\n") as file:
            for number, text in enumerate(file, start=1):  # noqa: B007 - the refusal names it
                line, source, rank, count, hypothesis = text.split("\t", 4)
                if not hypothesis.endswith("\n"):
                    raise ValueError(text)
                yield _Row(int(line), source, int(rank), int(count), deserialize(hypothesis[:-1]))
    except FileNotFoundError:
        _refuse(path, ": this part of the n-best list is missing")
    except (gzip.BadGzipFile, EOFError, zlib.error):
        _refuse(path, f", after line {number}: not a whole gzip file")
    except ValueError:
        _refuse(path, f", line {number}: not 'id, source, rank, count, log-probability, finished, pieces'")


def _refuse(path: Path, fault: str) -> NoReturn:
    raise InputError(f"{path}{fault}; decode this text anew.") from None
