"""Records of what was measured, as JSON files: the stages write them, the report reads them."""

import json
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import Field

from seqkd.config import records
from seqkd.config.records import Record
from seqkd.utils import atomic
from seqkd.utils.errors import InputError

# The bounds refuse a number that no run reaches, such as one of 300 digits: no plot can show it.
Count = Annotated[int, Field(ge=1, le=1 << 53)]
Number = Annotated[float, Field(ge=-1e9, le=1e9)]


class Measurement(Record, extra="ignore"):
    """A record that a stage wrote; keys that a later version adds are ignored."""

    without_none: ClassVar[bool] = False  # whether its file leaves out what is None


M = TypeVar("M", bound=Measurement)


class BeamScores(Measurement):
    """Scores of the translations of the test set at one beam size."""

    bleu: Number  # 0 to 100
    chrf: Number  # 0 to 100
    length_ratio: Number  # words of the translations to words of the references


class ModelScores(Measurement):
    """Size of one model and its scores on the test set; None: not known, or of an external teacher not to be had."""

    without_none: ClassVar[bool] = True
    model: str
    parameters: Count | None = None  # all
    remaining: Count | None = None  # not pruned
    bytes: Count | None = None  # of the weights file
    perplexity: float | None = None  # of the references, per target token
    mode_probability: Number | None = None  # p(t = y_hat): mean probability of its own output at the largest beam size
    signature_bleu: str | None = None
    signature_chrf: str | None = None
    beams: dict[str, BeamScores] = Field(default_factory=dict)  # by beam size; none: no translation of the test set

    def bleu(self, beam: int) -> float | None:
        """Return BLEU at this beam size; None where the model has no translations. Raises KeyError for another beam."""
        return self.beams[str(beam)].bleu if self.beams else None


class Speed(Measurement):
    """Translation speed of one model at one beam size."""

    model: str
    beam: int
    words_per_second: float  # words of the source
    measured: str  # device and date


def write(path: Path, record: Measurement) -> None:
    """Write the record as JSON with sorted keys, so that equal results give equal bytes."""
    with atomic.open_text(path) as file:
        json.dump(record.model_dump(exclude_none=record.without_none), file, indent=2, sort_keys=True)
        file.write("\n")


def read(kind: type[M], path: Path) -> M:
    """Return the record that `write` wrote. Raises InputError where the file is missing or broken."""
    return records.parse(kind, read_json(path), where=str(path), hint="make it anew with dvc repro")


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file. Raises InputError where the file is missing or holds anything else."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: params.yaml has a row {path.stem} without results; run dvc repro.") from None
    except (ValueError, RecursionError):
        raise InputError(f"{path}: not valid JSON; delete it and run dvc repro.") from None
    if not isinstance(values, dict):
        raise InputError(f"{path}: not a JSON object; delete it and run dvc repro.")
    return values
