"""What the stages measured, as records: scores, curves, speeds and audits of the rows that params.yaml names."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar

from pydantic import Field

from seqkd.config import schema
from seqkd.config.schema import Params, Record
from seqkd.training import curve
from seqkd.training.curve import Epoch
from seqkd.utils.errors import InputError

R = TypeVar("R", bound=Record)
# A number that no run reaches, such as one of 300 digits, is none that a stage wrote, and no plot has room for it.
Count = Annotated[int, Field(ge=1, le=1 << 53)]
Number = Annotated[float, Field(ge=-1e9, le=1e9)]


class _Measured(Record, extra="ignore"):
    """Written by a stage; what a later version adds to it does no harm."""


class Beam(_Measured):
    bleu: Number  # 0 to 100
    chrf: Number
    length_ratio: Number  # words of the translations to those of the references


class Scored(_Measured):
    model: str
    parameters: Count  # all
    remaining: Count  # not zero
    bytes: Count  # of the weights file
    perplexity: float  # per target token of the human test targets
    mode_probability: Number  # p(t = y_hat): mean probability of the model's own widest-beam output
    signature_bleu: str
    signature_chrf: str
    beams: dict[str, Beam]  # by width

    def bleu(self, beam: int) -> float:
        return self.beams[str(beam)].bleu


class Sizes(_Measured):
    mean: Number
    distinct: Number


class Lengths(_Measured):
    chosen: Number
    first: Number


class Audit(_Measured):
    """What plots and page show of it; seqkd.audit says what it means."""

    row: str
    settings: schema.SelectSettings
    lines: Count
    hypotheses_per_line: Sizes
    ranks: Annotated[list[Annotated[int, Field(ge=0, le=1 << 53)]], Field(min_length=1)]
    mean_rank: Number
    ties: Number
    no_overlap: Number
    bleu_first: Number
    bleu_chosen: Number
    oracle_gain: Number
    length_ratio: Lengths
    chosen: dict[str, Number]  # the share of each fault


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
        found[model] = _read(Scored, path)
        for beam in params.evaluate.beams:
            if str(beam) not in found[model].beams:
                raise InputError(f"{path}: no scores for beam {beam}, which evaluate.beams names; run dvc repro.")
    return found


def curves(folder: Path, params: Params) -> dict[str, list[Epoch]]:
    """The epochs of every unpruned model of params. Raises InputError where a file is missing or broken."""
    return {model: curve.read(folder / f"{model}.csv") for model in params.models}


def audits(folder: Path, params: Params) -> dict[str, Audit]:
    """The audit of every row of select. Raises InputError where one is missing or broken."""
    return {row: audit(folder / f"{row}.json") for row in params.select}


def audit(path: Path) -> Audit:
    """One row's audit. Raises InputError where it is missing or broken."""
    return _read(Audit, path)


def _read(kind: type[R], path: Path) -> R:
    return schema.parse(kind, record(path), where=str(path), hint="make it anew with dvc repro")


class Results(NamedTuple):
    """All that the report shows, by row of params.yaml."""

    scores: dict[str, Scored]
    curves: dict[str, list[Epoch]]
    audits: dict[str, Audit]


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
    return [schema.parse(Speed, dict(record), where="speeds") for record in records]


def closed(params: Params, scored: Mapping[str, Scored], *, model: str, beam: int) -> float | None:
    """The share of the BLEU gap between baseline and teacher that a student closes; None where there is no gap."""
    low, high = scored["baseline"].bleu(beam), scored["teacher"].bleu(beam)
    if params.role(model) == "teacher" or model == "baseline" or high <= low:
        return None
    return (scored[model].bleu(beam) - low) / (high - low)


def named(beam: int) -> str:
    """A beam's width in words."""
    return "greedy" if beam == 1 else f"beam {beam}"
