"""Numbered sentence pairs: every line of a corpus has an id, and every join is by id."""

import os
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TextIO

from seqkd.errors import InputError


class Pair(NamedTuple):
    id: int
    source: str
    target: str


@contextmanager
def replacing(path: Path) -> Iterator[TextIO]:
    """A text file written under a temporary name and renamed when whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", encoding="utf-8", newline="\n") as file:
        yield file
    os.replace(partial, path)


def normal(text: str) -> str:
    """NFC, with every run of white space (tabs and line breaks too) as one space."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def write(path: Path, pairs: Iterable[Pair]) -> None:
    """One line a pair: id, source, target, separated by tabs."""
    with replacing(path) as file:
        for pair in pairs:
            file.write(f"{pair.id}\t{normal(pair.source)}\t{normal(pair.target)}\n")


def read(path: Path) -> list[Pair]:
    """The pairs of a file that `write` made. Raises InputError for a broken line or a repeated id."""
    pairs: list[Pair] = []
    seen: set[int] = set()
    with path.open(encoding="utf-8", newline="\n") as file:
        for number, line in enumerate(file, start=1):
            parts = line.rstrip("\n").split("\t")
            if len(parts) != 3 or not parts[0].isdigit():
                raise InputError(f"{path}, line {number}: not 'id, source, target'; make the file anew with dvc repro.")
            if int(parts[0]) in seen:
                raise InputError(
                    f"{path}, line {number}: id {parts[0]} stands twice; make the file anew with dvc repro."
                )
            seen.add(int(parts[0]))
            pairs.append(Pair(int(parts[0]), parts[1], parts[2]))
    return pairs


def join(sources: Iterable[Pair], targets: dict[int, str], *, where: str) -> list[Pair]:
    """The sources with new targets, joined by id. Raises InputError on any gap or surplus."""
    pairs = [Pair(pair.id, pair.source, targets.get(pair.id, "\0")) for pair in sources]
    gaps = [pair.id for pair in pairs if pair.target == "\0"]
    surplus = set(targets) - {pair.id for pair in pairs}
    if gaps or surplus:
        example = gaps[0] if gaps else min(surplus)
        raise InputError(
            f"{where}: {len(gaps)} ids without a line and {len(surplus)} lines without an id"
            f" (id {example}, say); make it anew."
        )
    return pairs
