"""Translations of the test set, as the evaluate stages wrote them."""

from pathlib import Path
from typing import NamedTuple

from seqkd.utils.errors import InputError


class Output(NamedTuple):
    """Translations by one model at one beam size."""

    model: str
    beam: int
    texts: list[str]
    at_limit: list[bool]  # by line: whether it is as long as the search allows


def exist(folder: Path, model: str) -> bool:
    """Return whether a model has translations: another's teacher, or a baseline that was not trained, may have none."""
    return any((folder / model).glob("beam*.txt"))


def read(folder: Path, model: str, *, beam: int, lines: int) -> list[str]:
    """Return a model's translations of the test set. Raises InputError where they are missing, or of another set."""
    path = folder / model / f"beam{beam}.txt"
    try:
        texts = path.read_text(encoding="utf-8").split("\n")[:-1]  # other line ends may stand within a line
    except FileNotFoundError:
        raise InputError(f"{path}: {model} has no translations yet; run dvc repro.") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8; delete it and run dvc repro.") from None
    if len(texts) != lines:
        raise InputError(f"{path}: {len(texts):,} lines for a test set of {lines:,}; delete it and run dvc repro.")
    return texts
