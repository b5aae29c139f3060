"""What the stages measured, as records: scores, curves, speeds and audits of the rows that params.yaml names."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from seqkd import config, curve
from seqkd.config import Params, Positive, Record
from seqkd.curve import Epoch
from seqkd.errors import InputError


class _Measured(Record, extra="ignore"):
    """Written by a stage; what a later version adds to it does no harm."""


class Beam(_Measured):
    bleu: float  # 0 to 100
    chrf: float
    length_ratio: float  # words of the translations to those of the references


class Scored(_Measured):
    model: str
    parameters: int  # all
    remaining: int  # not zero
    bytes: int  # of the weights file
    perplexity: float  # per target token of the human test targets
    mode_probability: float  # p(t = y_hat): mean probability of the model's own widest-beam output
    signature_bleu: str
    signature_chrf: str
    beams: dict[str, Beam]  # by width

    def bleu(self, beam: int) -> float:
        return self.beams[str(beam)].bleu


class Audit(_Measured):
    """What the plots show of it; seqkd.audit says what it means."""

    settings: config.Select
    lines: Positive
    ranks: Annotated[list[int], Field(min_length=1)]
    mean_rank: float
    ties: float
    bleu_first: float
    bleu_chosen: float


class Speed(_Measured):
    model: str
    beam: int
    words_per_second: float  # of the source
    measured: str  # where and when


def scores(folder: Path, params: Params) -> dict[str, Scored]:
    """The scores of every model and pruned model of params, in that order. Raises InputError where one is missing."""
    found = {}
    for model in [*params.models, *params.pruned]:
        path = folder / f"{model}.json"
        found[model] = config.parse(Scored, record(path), where=str(path))
        for beam in params.evaluate.beams:
            if str(beam) not in found[model].beams:
                raise InputError(f"{path}: no scores for beam {beam}, which evaluate.beams names; run dvc repro.")
    return found


def curves(folder: Path, params: Params) -> dict[str, list[Epoch]]:
    """The epochs of every unpruned model of params. Raises InputError where a file is missing or broken."""
    return {model: curve.read(folder / f"{model}.csv") for model in params.models}


def audits(folder: Path, params: Params) -> dict[str, dict[str, Any]]:
    """The audit of every row of select. Raises InputError where one is missing."""
    found = {row: record(folder / f"{row}.json") for row in params.select}
    for row, told in found.items():
        config.parse(Audit, told, where=str(folder / f"{row}.json"))
    return found


class Results(NamedTuple):
    """All that the report shows, by row of params.yaml."""

    scores: dict[str, Scored]
    curves: dict[str, list[Epoch]]
    audits: dict[str, dict[str, Any]]


def record(path: Path) -> dict[str, Any]:
    """A JSON file. Raises InputError where it is missing or no record."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: params.yaml has a row {path.stem} without results; run dvc repro.") from None
    except (ValueError, RecursionError):
        raise InputError(f"{path}: not valid JSON; delete it and run dvc repro.") from None
    if not isinstance(found, dict):
        raise InputError(f"{path}: not a record; delete it and run dvc repro.")
    return found


def speeds(records: Iterable[Mapping[str, Any]]) -> list[Speed]:
    """What was measured, as records."""
    return [config.parse(Speed, dict(record), where="speeds") for record in records]


def closed(params: Params, scored: Mapping[str, Scored], *, model: str, beam: int) -> float | None:
    """The share of the BLEU gap between baseline and teacher that a student closes; None where there is no gap."""
    low, high = scored["baseline"].bleu(beam), scored["teacher"].bleu(beam)
    if params.role(model) == "teacher" or model == "baseline" or high <= low:
        return None
    return (scored[model].bleu(beam) - low) / (high - low)


def named(beam: int) -> str:
    """A beam's width in words."""
    return "greedy" if beam == 1 else f"beam {beam}"
