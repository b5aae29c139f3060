"""Numbered sentence pairs: every line of a corpus has an id, and every join is by id."""

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from seqkd.utils import atomic
from seqkd.utils.errors import InputError


class Pair(NamedTuple):
    id: int
    source: str
    target: str


def normalize(text: str) -> str:
    """NFC, with every run of white space (tabs and line breaks too) as one space."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def write(path: Path, pairs: Iterable[Pair]) -> None:
    """One line a pair: id, source, target, separated by tabs."""
    with atomic.open_text(path) as file:
        for pair in pairs:
            file.write(f"{pair.id}\t{normalize(pair.source)}\t{normalize(pair.target)}\n")


def stream(path: Path) -> Iterator[Pair]:
    """The pairs of a file that `write` made, one by one.

    Raises InputError for a broken line, ids that do not rise, an empty file.
    """
    last = -1
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            found = _LINE.fullmatch(line)
            if found is None:
                _refuse(f"{path}, line {number}: not 'id, source, target'")
            try:
                pair = Pair(int(found[1]), found[2].decode(), found[3].decode())
            except UnicodeDecodeError:
                _refuse(f"{path}, line {number}: not UTF-8")
            if pair.id <= last:
                _refuse(f"{path}, line {number}: id {pair.id} comes after id {last}")
            last = pair.id
            yield pair
    if last < 0:
        _refuse(f"{path}: no line in it")


def read(path: Path) -> list[Pair]:
    """The pairs of a file that `write` made. Raises InputError as stream does."""
    return list(stream(path))


def count_pairs(path: Path) -> int:
    """How many pairs such a file has. Raises InputError as stream does."""
    return sum(1 for _ in stream(path))


def read_about(path: Path) -> dict[str, Any]:
    """What preprocess tells of the corpus. Raises InputError for anything else."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        found = None
    tables = [found.get(name, {}) for name in ("pairs", "dropped")] if isinstance(found, dict) else [None]
    if not all(isinstance(table, dict) and all(isinstance(it, int) for it in table.values()) for table in tables):
        _refuse(f"{path}: not what preprocess tells of a corpus")
    return dict(found)


_LINE = re.compile(rb"(\d{1,18})\t([^\t\n]*)\t([^\t\n]*)\n")  # the line end too: a file cut short is not whole


def _refuse(what: str) -> NoReturn:
    raise InputError(f"{what}; make the file anew with dvc repro.") from None


def join_by_id(sources: Iterable[Pair], targets: dict[int, str], *, where: str) -> list[Pair]:
    """The sources with new targets, joined by id. Raises InputError on any gap or surplus."""
    wanted = list(sources)
    gaps = [pair.id for pair in wanted if pair.id not in targets]
    surplus = set(targets) - {pair.id for pair in wanted}
    if gaps or surplus:
        example = gaps[0] if gaps else min(surplus)
        raise InputError(
            f"{where}: {len(gaps)} ids without a line and {len(surplus)} lines without an id"
            f" (id {example}, say); make it anew."
        )
    return [Pair(pair.id, pair.source, targets[pair.id]) for pair in wanted]
