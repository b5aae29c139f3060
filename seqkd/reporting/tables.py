"""The tables of results as data frames: all numbers as CSV, the readable ones as Markdown."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from seqkd.config.schema import Params
from seqkd.evaluation.evidence import HUMAN, Evidence
from seqkd.evaluation.measurements import ModelScores, Speed
from seqkd.evaluation.robustness import FAULTS
from seqkd.reporting import results
from seqkd.reporting.table_text import READABLE, TEXT_COLUMNS, beam_sizes, split_beam, to_markdown
from seqkd.utils import atomic
from seqkd.utils.errors import InputError

COMPARED = ("baseline", "teacher", "best")  # the rows that every row is compared with; best: the best student
BEST = "(best student)"  # in metrics.json; no row has such a name


def method_table(params: Params, scores: Mapping[str, ModelScores], evidence: Evidence) -> pd.DataFrame:
    """Return Table 1: every model as (text, loss, start), its scores, and its gain over baseline or teacher.

    A column's name with _ci: half the 95 % interval; with _p: the p-value of a gain; with _p_baseline, _p_teacher and
    _p_best: the p-value against that model.
    """
    return _frame([_method_row(params, scores, model) | _certainty(params, evidence, model) for model in params.models])


def _method_row(params: Params, scores: Mapping[str, ModelScores], model: str) -> dict[str, Any]:
    """Return a model's row of Table 1 without how sure its numbers are, by column."""
    own = scores[model]
    row: dict[str, Any] = {"model": model, **_method(params, model), "parameters": own.parameters}
    for beam in params.evaluate.beams:
        row[f"bleu_{beam}"] = own.bleu(beam)
        row[f"gain_{beam}"] = _gain(params, scores, model=model, beam=beam)
        row[f"closed_{beam}"] = results.gap_closed(params, scores, model=model, beam=beam)
    for name in ("chrf", "length_ratio"):
        row |= {f"{name}_{beam}": getattr(own.beams.get(str(beam)), name, None) for beam in params.evaluate.beams}
    row |= {"perplexity": own.perplexity, "mode_probability": own.mode_probability}
    return row | {"signature_bleu": own.signature_bleu, "signature_chrf": own.signature_chrf}


def _compared_with(params: Params, model: str) -> str | None:
    """Return the model over which a model's gain is counted: the teacher, or the baseline of a student's size."""
    return params.main_teacher if params.role(model) == "teacher" else params.baseline_of(model)


def _gain(params: Params, scores: Mapping[str, ModelScores], *, model: str, beam: int) -> float | None:
    """Return a model's BLEU above the one it is compared with; None for that one itself, and for another's teacher."""
    other = _compared_with(params, model)
    if other is None or model in (other, *params.external):
        return None
    own, compared = scores[model].bleu(beam), scores[other].bleu(beam)
    return None if own is None or compared is None else own - compared


def _certainty(params: Params, evidence: Evidence, model: str) -> dict[str, Any]:
    """Return the columns that say how sure a model's scores and gains are; none for a model without translations."""
    row: dict[str, Any] = {}
    for beam, by_metric in evidence.certainty.get(model, {}).items():
        role = "teacher" if params.role(model) == "teacher" else "baseline"
        row[f"gain_p_{beam}"] = by_metric["bleu"].p.get(role)
        for metric, own in by_metric.items():
            row[f"{metric}_ci_{beam}"] = own.half_width
            row |= {f"{metric}_p_{other}_{beam}": own.p.get(other) for other in COMPARED}
    return row | {"bootstrap": _bootstrap(evidence)}


def _bootstrap(evidence: Evidence) -> str:
    return f"{evidence.resamples:,} resamples of {evidence.lines:,} lines, seed {evidence.seed}"


def _method(params: Params, model: str) -> dict[str, str]:
    """Return what defines a method: the text it trains on, the loss it minimizes, the model it starts from."""
    if model in params.external:
        return {"text": "its own", "loss": "its own", "start": params.external[model].kind}
    row = params.finetune.get(model) or params.distill.get(model)
    if row is None:
        return {"text": "human", "loss": "NLL", "start": "random"}
    weights = {"NLL": 1 - row.alpha, "Word-KD": row.alpha}
    loss = " + ".join(name if weight == 1 else f"{weight:g} {name}" for name, weight in weights.items() if weight)
    return {
        "text": {"reference": "human", "own": "its own"}.get(row.train_text, row.train_text),
        "loss": loss,
        "start": getattr(row, "init_from", "random"),
    }


def speed_table(speeds: Sequence[Speed], scores: Mapping[str, ModelScores]) -> pd.DataFrame:
    """Return Table 2: source words per second at each beam size, the ratio to the teacher's largest beam, BLEU.

    Raises InputError where the teacher was not measured.
    """
    teacher = {speed.beam: speed.words_per_second for speed in speeds if speed.model == "teacher"}
    if not teacher and "teacher" in scores:
        raise InputError("speeds: the teacher, which the others are compared with, was not measured; measure it too.")
    rows: dict[str, dict[str, Any]] = {}
    for speed in speeds:
        model, beam = scores[speed.model], speed.beam
        row = rows.setdefault(speed.model, {"model": speed.model, "parameters": model.remaining})
        row[f"words_per_second_{beam}"] = speed.words_per_second
        row[f"ratio_{beam}"] = speed.words_per_second / teacher[max(teacher)] if teacher else None
        row[f"bleu_{beam}"] = model.bleu(beam)
    for speed in speeds:  # the last columns
        rows[speed.model] |= {"measured": speed.measured, "signature_bleu": scores[speed.model].signature_bleu}
    return _frame(list(rows.values()))


def pruning_table(params: Params, scores: Mapping[str, ModelScores], evidence: Evidence) -> pd.DataFrame:
    """Return Table 3: the model of params.prune, unpruned and pruned, with the size of its weights file and BLEU."""
    rows = []
    for model, ratio in {params.prune.model: 0.0, **params.pruned}.items():
        own = scores[model]
        row = {"model": model, "pruned": ratio, "remaining": own.remaining, "bytes": own.bytes}
        for beam in params.evaluate.beams:
            row[f"bleu_{beam}"] = own.bleu(beam)
            row[f"gain_{beam}"] = _gain(params, scores, model=model, beam=beam)
        rows.append(row | {"signature_bleu": own.signature_bleu} | _certainty(params, evidence, model))
    return _frame(rows)


def ladder_table(evidence: Evidence, speeds: Sequence[Speed]) -> pd.DataFrame:
    """Return the ladder from the teacher's beam to the smallest student: what each step costs, and what it gives."""
    measured = {(speed.model, speed.beam): speed.words_per_second for speed in speeds}
    rows = []
    for rung in evidence.ladder:
        named = {"rung": rung.name, "model": rung.model, "search": results.beam_name(rung.beam)}
        bleu = {"bleu": rung.bleu, "bleu_ci": rung.half_width}
        step = {"step": rung.step_value, "step_ci": rung.step_half_width, "step_p": rung.step_p}
        speed = measured.get((rung.model, rung.beam))
        size = {"words_per_second": speed, "bytes": rung.bytes, "bootstrap": _bootstrap(evidence)}
        rows.append(named | bleu | step | size)
    return _frame(rows)


def fault_table(params: Params, evidence: Evidence) -> pd.DataFrame:
    """Return how many lines of the test set have each fault, and how many of the hard lines have one."""
    human = {name: evidence.faults[HUMAN]["0"][name] for name in FAULTS}
    rows: list[dict[str, Any]] = [{"model": HUMAN, "search": "-", **human, "hard": None}]
    for model in [each for each in [*params.models, *params.pruned] if each in evidence.certainty]:
        for beam in params.evaluate.beams:
            lines = [line for line in evidence.hard_lines if model in line.outputs]  # another's teacher had none
            outputs = [line.outputs[model][str(beam)] for line in lines]
            hard = sum(bool(output.faults) for output in outputs) if outputs else None
            faults = {name: evidence.faults[model][str(beam)][name] for name in FAULTS}
            rows.append({"model": model, "search": results.beam_name(beam), **faults, "hard": hard})
    return _frame(rows)


def _frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(dict.fromkeys(name for row in rows for name in row)))


def dvc_metrics(params: Params, scores: Mapping[str, ModelScores], evidence: Evidence) -> dict[str, dict[str, float]]:
    """Return BLEU of every model, in two levels for `dvc metrics diff`.

    So that the list stays short, it has the perplexity only of unpruned models of the teacher's or the students' common
    size, and only the p-values of the best student against the baseline. All others stand in the CSV files.
    """
    metrics = {}
    for model in [*params.models, *params.pruned]:
        values = {f"bleu_{beam}": scores[model].bleu(beam) for beam in params.evaluate.beams}
        if model in params.models and params.network_of(model) in (params.teacher, params.student):
            values["perplexity"] = scores[model].perplexity
        metrics[model] = {name: round(value, 2) for name, value in values.items() if value is not None}
    best = evidence.certainty[evidence.best]
    p = {f"p_{beam}": round(own["bleu"].p["baseline"], 4) for beam, own in best.items() if "baseline" in own["bleu"].p}
    return metrics | {BEST: p}


def write(frame: pd.DataFrame, folder: Path, name: str) -> None:
    """Write NAME.csv with all numbers and NAME.md with the readable ones."""
    with atomic.open_text(folder / f"{name}.csv") as file:
        frame.to_csv(file, index=False, lineterminator="\n", float_format="%.10g")
    with atomic.open_text(folder / f"{name}.md") as file:
        file.write(to_markdown(frame))


def read(path: Path) -> pd.DataFrame:
    """Return a table from the CSV that `write` wrote. Raises InputError where the file is missing or broken."""
    try:
        # Only an empty cell is no value: a row may be called NA or 007.
        frame = pd.read_csv(path, keep_default_na=False, na_values=[""], dtype=dict.fromkeys(TEXT_COLUMNS, str))
    except FileNotFoundError:
        raise InputError(f"{path}: no such table yet; run dvc repro.") from None
    except ValueError:  # pandas: an empty file, lines of unequal length, not UTF-8
        raise _broken(path) from None
    texts = [column for column in frame.columns if column in TEXT_COLUMNS]
    numbers = [column for column in frame.columns if split_beam(column)[0] in READABLE and column not in TEXT_COLUMNS]
    if "model" not in texts or not numbers or frame[texts].isna().any(axis=None):
        raise _broken(path)
    if not all(frame[column].dtype.kind in "iuf" for column in numbers):
        raise _broken(path)
    return frame


def read_methods(path: Path) -> pd.DataFrame:
    """Return Table 1, with every column that `headline` needs. Raises InputError as `read` does."""
    frame = read(path)
    needed = {"text", "parameters", "perplexity", "mode_probability", "bootstrap"}
    needed |= {
        f"{name}_{beam}" for name in ("closed", "bleu_ci", "gain_p", "bleu_p_best") for beam in beam_sizes(frame)
    }
    if not beam_sizes(frame) or not needed <= set(frame.columns) or "baseline" not in set(frame["model"]):
        raise _broken(path)
    return frame


def _broken(path: Path) -> InputError:
    return InputError(f"{path}: not a table that seqkd wrote; make it anew with dvc repro.")
