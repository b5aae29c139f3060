"""Whose hypotheses an external n-best list has, and what the vocabulary changed in them: files beside its parts."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from seqkd.config import records
from seqkd.config.records import Record
from seqkd.data import nbest
from seqkd.utils import atomic
from seqkd.utils.errors import InputError

ABOUT = "about.json"


class ListOrigin(Record):
    """The facts about an external n-best list."""

    teachers: list[str]
    hypotheses: int
    changed: int  # hypotheses that differ when the vocabulary has encoded and decoded them
    examples: list[list[str]]  # a few of them, before and after


def write(folder: Path, origin: ListOrigin) -> None:
    """Write the facts into the folder of a list."""
    with atomic.open_text(folder / ABOUT) as file:
        json.dump(origin.model_dump(), file, indent=2, ensure_ascii=False)
        file.write("\n")


def read(folder: Path) -> ListOrigin | None:
    """Return the facts about a list; None: the trained teacher made it. Raise InputError for a broken file."""
    path = folder / ABOUT
    if not path.exists():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        raise InputError(f"{path}: not valid JSON; make it anew with dvc repro.") from None
    return records.parse(ListOrigin, values, where=str(path), hint="make it anew with dvc repro")


def write_part(folder: Path, index: int, owners: Iterable[Sequence[int]]) -> None:
    """Write, for each line of a part, the numbers of the teachers whose hypotheses it has, in their order."""
    with atomic.open_text(owners_path(nbest.part_path(folder, index))) as file:
        file.writelines(f"{' '.join(map(str, line))}\n" for line in owners)


def read_part(path: Path, sizes: Sequence[int]) -> list[list[int]]:
    """Return, for each line of the part of an n-best list, the number of each hypothesis's teacher.

    sizes: hypotheses of each line. A list of one teacher has no such files: all numbers are 0.
    """
    owners = owners_path(path)
    if not owners.exists():
        return [[0] * size for size in sizes]
    lines = [list(map(int, line.split())) for line in owners.read_text(encoding="ascii").splitlines()]
    if list(map(len, lines)) != list(sizes):
        raise InputError(f"{owners}: not of the same list as {path.name}; decode this text anew.")
    return lines


def owners_path(path: Path) -> Path:
    """Return where the numbers for a part of a list stand; a list of one teacher has no such file."""
    return path.with_name(path.name.replace("part-", "teachers-", 1)).with_suffix("").with_suffix(".txt")
