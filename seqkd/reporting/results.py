"""What the report shows: scores, training curves and audits of the rows that params.yaml names."""

from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import NamedTuple

from seqkd.config.schema import Params
from seqkd.evaluation import measurements
from seqkd.evaluation.evidence import HUMAN, METRICS, RECORD, Evidence
from seqkd.evaluation.measurements import ModelScores
from seqkd.evaluation.robustness import FAULTS
from seqkd.selection.audit import Audit
from seqkd.training import curve
from seqkd.training.curve import Epoch
from seqkd.utils.errors import InputError


class Results(NamedTuple):
    """All that the report shows, by row of params.yaml."""

    scores: dict[str, ModelScores]
    curves: dict[str, list[Epoch]]
    audits: dict[str, Audit]
    evidence: Evidence


def scores(folder: Path, params: Params) -> dict[str, ModelScores]:
    """Return the scores of every model, pruned ones last, in the order of params.

    Raises InputError where a file is missing or broken, or lacks a beam size of evaluate.beams.
    """
    scores = {}
    for model in [*params.models, *params.pruned]:
        path = folder / f"{model}.json"
        scores[model] = measurements.read(ModelScores, path)
        for beam in params.evaluate.beams:
            if scores[model].beams and str(beam) not in scores[model].beams:
                raise InputError(f"{path}: no scores for beam {beam}, which evaluate.beams names; run dvc repro.")
    return scores


def curves(folder: Path, params: Params) -> dict[str, list[Epoch]]:
    """Return the epochs of every unpruned model that was trained.

    Raises InputError where a file is missing or broken.
    """
    paths = {model: folder / f"{model}.csv" for model in params.networks}
    return {model: curve.read(path) for model, path in paths.items() if not curve.is_untrained(path)}


def audits(folder: Path, params: Params) -> dict[str, Audit]:
    """Return the audit of every row of select. Raises InputError where a file is missing or broken."""
    return {row: measurements.read(Audit, folder / f"{row}.json") for row in params.select}


def own_teacher(params: Params, scores: Mapping[str, ModelScores], *, model: str, beam: int) -> float | None:
    """Return BLEU of the teacher that a model learns from: of several, the best; None where it has no score.

    A model of human text alone is measured against the trained teacher, or else the best one.
    """
    row = params.finetune.get(model) or params.distill.get(model)
    names = params.teachers_of(row.train_text) if row else []
    names = names or (["teacher"] if params.trains_teacher else [*params.external])
    return max((bleu for name in names if (bleu := scores[name].bleu(beam)) is not None), default=None)


def evidence(folder: Path, params: Params) -> Evidence:
    """Return the evidence. Raises InputError where it is missing, broken or lacks a row or beam size of params."""
    path = folder / RECORD
    if not path.exists():
        raise InputError(f"{path}: no evidence yet; run dvc repro.")
    found, models = measurements.read(Evidence, path), [*params.models, *params.pruned]
    if not {found.best} <= {*models} & {rung.model for rung in found.ladder}:
        raise InputError(f"{path}: the best student, {found.best}, is no row or not in the ladder; run dvc repro.")
    models = [model for model in models if model in found.certainty or model not in params.may_lack_translations]
    for model, beam in [(HUMAN, "0"), *product(models, map(str, params.evaluate.beams))]:
        complete = set(FAULTS) <= set(found.faults.get(model, {}).get(beam, {}))
        if model != HUMAN:
            complete &= set(METRICS) <= set(found.certainty.get(model, {}).get(beam, {}))
            complete &= model in params.external or all(
                beam in line.outputs.get(model, {}) for line in found.hard_lines
            )
            complete &= all(model in kind.bleu for kind in found.kinds)
        if not complete:
            raise InputError(f"{path}: not everything about {model} with beam {beam}; run dvc repro.")
    return found


def gap_closed(params: Params, scores: Mapping[str, ModelScores], *, model: str, beam: int) -> float | None:
    """Return the fraction of the BLEU gap between the baseline and a student's teacher that the student closes.

    The baseline is that of the student's size. None where there is no gap, and for a baseline and models of the
    teacher's size.
    """
    if params.role(model) == "teacher" or (baseline := params.baseline_of(model)) in (model, None):
        return None
    low, high = scores[baseline].bleu(beam), own_teacher(params, scores, model=model, beam=beam)
    own = scores[model].bleu(beam)
    if low is None or high is None or own is None or high <= low:
        return None
    return (own - low) / (high - low)


def beam_name(beam: int) -> str:
    """Return "greedy" for beam size 1, "beam N" for others."""
    return "greedy" if beam == 1 else f"beam {beam}"
