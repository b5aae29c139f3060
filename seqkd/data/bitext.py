"""Numbered sentence pairs. Every line of a corpus has an id, and texts are joined by it."""

import heapq
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from seqkd.data.normalization import normalize
from seqkd.utils import atomic
from seqkd.utils.errors import InputError


class Pair(NamedTuple):
    id: int
    source: str
    target: str


def write(path: Path, pairs: Iterable[Pair]) -> None:
    """Write one line per pair: id, source, target, separated by tabs; both texts in the normal form."""
    with atomic.open_text(path) as file:
        for pair in pairs:
            file.write(f"{pair.id}\t{normalize(pair.source)}\t{normalize(pair.target)}\n")


def stream(path: Path, *, repeats: bool = False, monolingual: bool = True) -> Iterator[Pair]:
    """Yield the pairs of a file that `write` made.

    repeats: whether an id may have several lines, one after the other, as in texts to train on. monolingual: whether to
    yield lines without a target, too. Raise InputError for a broken line, ids that do not rise, an empty file.
    """
    last = -1
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            match = _LINE.fullmatch(line)
            if match is None:
                _refuse(f"{path}, line {number}: not 'id, source, target'")
            try:
                pair = Pair(int(match[1]), match[2].decode(), match[3].decode())
            except UnicodeDecodeError:
                _refuse(f"{path}, line {number}: not UTF-8")
            if pair.id < last + (not repeats):
                _refuse(f"{path}, line {number}: id {pair.id} comes after id {last}")
            last = pair.id
            if pair.target or monolingual:
                yield pair
    if last < 0:
        _refuse(f"{path}: no line in it")


def read(path: Path) -> list[Pair]:
    """Return the pairs of a file that `write` made. Raise InputError as stream does."""
    return list(stream(path))


def count_pairs(path: Path, *, repeats: bool = False, monolingual: bool = True) -> int:
    """Return the number of pairs that stream yields. Raise InputError as it does."""
    return sum(1 for _ in stream(path, repeats=repeats, monolingual=monolingual))


def mix(texts: Mapping[Path, int]) -> Iterator[Pair]:
    """Yield the lines of several texts, of each so many copies, in the order of their ids."""
    copies = [stream(path, repeats=True) for path, count in texts.items() for _ in range(count)]
    return heapq.merge(*copies, key=lambda pair: pair.id)


def read_about(path: Path) -> dict[str, Any]:
    """Return the facts about a corpus that preprocess wrote. Raise InputError for anything else."""
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        about = None
    counts = [about.get(name, {}) for name in ("pairs", "dropped")] if isinstance(about, dict) else [None]
    if not all(isinstance(table, dict) and all(isinstance(count, int) for count in table.values()) for table in counts):
        _refuse(f"{path}: not what preprocess writes about a corpus")
    return dict(about)


_LINE = re.compile(rb"(\d{1,18})\t([^\t\n]*)\t([^\t\n]*)\n")  # with its end: the last line of a cut file is refused


def _refuse(fault: str) -> NoReturn:
    raise InputError(f"{fault}; make the file anew with dvc repro.") from None
