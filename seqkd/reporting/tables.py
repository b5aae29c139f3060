"""The paper's three tables as data frames: all numbers as CSV, the readable ones as Markdown, HTML and text."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from tabulate import tabulate

from seqkd.config.schema import Params
from seqkd.evaluation.evidence import HUMAN, Evidence
from seqkd.evaluation.measurements import ModelScores, Speed
from seqkd.evaluation.robustness import FAULTS
from seqkd.reporting import results
from seqkd.utils import atomic
from seqkd.utils.errors import InputError

TERMINAL_WIDTH = 120  # columns
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


def _compared_with(params: Params, model: str) -> str:
    """Return the model over which a model's gain is counted: for those of the teacher's size the teacher."""
    return params.main_teacher if params.role(model) == "teacher" else "baseline"


def _gain(params: Params, scores: Mapping[str, ModelScores], *, model: str, beam: int) -> float | None:
    """Return a model's BLEU above the one it is compared with; None for that one itself, and for another's teacher."""
    other = _compared_with(params, model)
    own, compared = scores[model].bleu(beam), scores[other].bleu(beam)
    return None if model in (other, *params.external) or own is None or compared is None else own - compared


def _certainty(params: Params, evidence: Evidence, model: str) -> dict[str, Any]:
    """Return the columns that say how sure a model's scores and gains are; none for a model without translations."""
    row: dict[str, Any] = {}
    for beam, by_metric in evidence.certainty.get(model, {}).items():
        row[f"gain_p_{beam}"] = by_metric["bleu"].p.get(_compared_with(params, model))
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
        "text": "human" if row.train_text == "reference" else row.train_text,
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
    """Return BLEU of every model and perplexity of the unpruned ones, in two levels for `dvc metrics diff`.

    Of the p-values only those of the best student against the baseline: all others stand in the CSV files.
    """
    metrics = {}
    for model in [*params.models, *params.pruned]:
        values = {f"bleu_{beam}": scores[model].bleu(beam) for beam in params.evaluate.beams}
        if model in params.models:
            values["perplexity"] = scores[model].perplexity
        metrics[model] = {name: round(value, 2) for name, value in values.items() if value is not None}
    best = evidence.certainty[evidence.best]
    p = {f"p_{beam}": round(own["bleu"].p["baseline"], 4) for beam, own in best.items() if "baseline" in own["bleu"].p}
    return metrics | {BEST: p}


def _millions(value: float, unit: str) -> str:
    return f"{value / 1e6:.2f}{unit}" if value < 1e7 else f"{value / 1e6:,.0f}{unit}"


FAULT_HEADINGS = {
    "repeated": "repeats",
    "copied": "copies",
    "numbers": "numbers",
    "empty": "empty",
    "at_limit": "cut off",
    "script": "script",
    "hard": "hard lines",
}
# Heading and format of each readable column, by its name in the CSV without the beam size; others are in the CSV only.
READABLE: dict[str, tuple[str, Callable[[Any], str]]] = {
    "model": ("model", str),
    "rung": ("rung", str),
    "search": ("search", str),
    "text": ("text", str),
    "loss": ("loss", str),
    "start": ("start", str),
    "pruned": ("pruned", "{:.0%}".format),
    "parameters": ("size", partial(_millions, unit="M")),
    "remaining": ("parameters", partial(_millions, unit="M")),
    "bytes": ("file", partial(_millions, unit=" MB")),
    "words_per_second": ("words/s", "{:,.0f}".format),
    "ratio": ("ratio", "{:.1f}x".format),
    "bleu": ("BLEU", "{:.1f}".format),
    "gain": ("gain", "{:+.1f}".format),
    "closed": ("gap", "{:.0%}".format),
    "chrf": ("chrF", "{:.1f}".format),
    "step": ("BLEU lost", "{:+.1f}".format),
    **{name: (heading, "{:,.0f}".format) for name, heading in FAULT_HEADINGS.items()},
    "perplexity": ("PPL", "{:.1f}".format),
    "mode_probability": ("p(t=ŷ)", "{:.1%}".format),
}
TEXT_COLUMNS = {"model", "text", "loss", "start", "rung", "search"}
NOTES = {
    "size": "size: parameters, in millions",
    "K=1": "K: the beam's width, K=1 is greedy",
    "gain": "gain: BLEU above the baseline, or above the teacher for models of its size",
    "gap": "gap: the share of the BLEU between baseline and teacher that the model closes",
    "ratio": "ratio: how many times the speed of the teacher with its widest beam",
    "words/s": "words/s: source words a second",
    "lost": "BLEU lost: since the row above; speed and size: of the row itself",
    "repeats": "repeats: a phrase twice in a row; copies: the source itself; numbers: not those of the source",
    "cut": "cut off: as long as the search allows; script: letters that neither references nor source use",
    "hard": "hard lines: how many of the authored hard lines come out with such a fault",
    "PPL": "PPL: perplexity of the human test targets, per piece",
    "p(t=ŷ)": "p(t=ŷ): mean probability of the model's own output with the widest beam",
}
OPTIONAL = ("loss", "chrf", "start", "text")  # left out in this order where a terminal is too narrow


def readable_columns(frame: pd.DataFrame, *, without: Sequence[str] = ()) -> dict[str, list[str]]:
    """Return the readable columns: heading (name, line break, beam size) and cells; an empty cell for no value."""
    columns = {}
    for column in frame.columns:
        name, beam = _split_beam(column)
        if name in READABLE and name not in without:
            heading, form = READABLE[name]
            cells = ["" if pd.isna(value) else form(value) for value in frame[column]]
            columns[f"{heading}\nK={beam}" if beam else heading] = _with_certainty(frame, cells, name=name, beam=beam)
    return columns


def _with_certainty(frame: pd.DataFrame, cells: list[str], *, name: str, beam: str) -> list[str]:
    """Return the cells with the half width of their intervals and with stars, where the frame has them."""
    end = f"_{beam}" if beam else ""
    nothing = [math.nan] * len(cells)
    widths, p = (frame.get(f"{name}{kind}{end}", nothing) for kind in ("_ci", "_p"))
    intervals = ["" if pd.isna(width) else f" ±{width:.1f}" for width in widths]
    return [
        f"{cell}{width}{stars(value)}" if cell else "" for cell, width, value in zip(cells, intervals, p, strict=True)
    ]


def stars(p: float) -> str:
    """Return two stars for p < 0.01, one for p < 0.05."""
    return "**" if p < 0.01 else "*" if p < 0.05 else ""


def _split_beam(column: str) -> tuple[str, str]:
    """Split "bleu_5" into "bleu" and "5"; a name without beam size has an empty one."""
    match = re.fullmatch(r"(.+)_([1-9][0-9]{0,8})", column)
    return (match[1], match[2]) if match else (column, "")


def _beams(frame: pd.DataFrame) -> list[int]:
    return sorted(int(beam) for name, beam in map(_split_beam, frame.columns) if name == "bleu" and beam)


def notes(frame: pd.DataFrame) -> list[str]:
    """Return what the headings mean, where speeds were measured, and the signatures of the scores."""
    words = " ".join(readable_columns(frame)).split()
    origins = {
        "measured": "measured on",
        "signature_bleu": "BLEU: sacreBLEU",
        "signature_chrf": "chrF: sacreBLEU",
        "bootstrap": "±: half the 95 % interval; * p < 0.05, ** p < 0.01: paired bootstrap,",
    }
    stated = [
        f"{origins[name]} {value}" for name in origins if name in frame for value in frame[name].dropna().unique()
    ]
    return [note for heading, note in NOTES.items() if heading in words] + stated


def to_text(frame: pd.DataFrame, *, width: int = TERMINAL_WIDTH) -> str:
    """Return the table and its notes as aligned text, without as many of the OPTIONAL columns as the width demands."""
    for count in range(len(OPTIONAL) + 1):
        text = _tabulate(readable_columns(frame, without=OPTIONAL[:count]), "simple")
        if max(map(len, text.splitlines())) <= width:
            break
    return "\n".join([text, "", *notes(frame)])


def to_markdown(frame: pd.DataFrame) -> str:
    """Return the table as Markdown, with its notes as a list below."""
    columns = {heading.replace("\n", " "): cells for heading, cells in readable_columns(frame).items()}
    return _tabulate(columns, "pipe") + "\n\n" + "".join(f"- {note}\n" for note in notes(frame))


def _tabulate(columns: dict[str, list[str]], form: str) -> str:
    sides = ["left" if heading in TEXT_COLUMNS else "right" for heading in columns]
    return tabulate(columns, headers="keys", tablefmt=form, colalign=sides, disable_numparse=True)


def to_page(frame: pd.DataFrame) -> dict[str, Any]:
    """Return the table for the page's template: head, rows of cells that know by which value they sort, and notes."""
    columns = readable_columns(frame)
    names = [column for column in frame.columns if _split_beam(column)[0] in READABLE]
    head = []
    for heading in columns:
        text, _, search = heading.partition("\n")
        head.append({"text": text, "search": search, "words": heading in TEXT_COLUMNS})
    values = [["" if pd.isna(value) else str(value) for value in frame[name]] for name in names]
    cells = [
        [{"text": text, "value": value} for text, value in zip(texts, own, strict=True)]
        for texts, own in zip(columns.values(), values, strict=True)
    ]
    return {"head": head, "rows": list(zip(*cells, strict=True)), "notes": notes(frame)}


def headline(frame: pd.DataFrame) -> list[str]:
    """Return Table 1 in two sentences: how much of the gap the best student closes, and what else changes with it."""
    beams = _beams(frame)
    rows = {row["model"]: row for row in frame.to_dict("records")}
    students = [row for row in rows.values() if not pd.isna(row[f"closed_{beams[0]}"])]
    if not students and pd.isna(rows["baseline"][f"bleu_{beams[0]}"]):
        return ["No baseline was trained, as no training line has a human translation, so there is no gap to close."]
    if not students:
        return ["The teacher is no better than the baseline, so there is no gap to close."]
    best, baseline = max(students, key=lambda row: row[f"bleu_{beams[0]}"]), rows["baseline"]
    changes = []
    for beam in beams:
        before, after, closed = baseline[f"bleu_{beam}"], best[f"bleu_{beam}"], best[f"closed_{beam}"]
        way = _way(before, after, closed, teacher=rows.get("teacher", {}).get(f"bleu_{beam}"))
        changes.append(f"{results.beam_name(beam)} from {before:.1f} to {after:.1f} ({way})")
    perplexity = f"perplexity of the references goes from {baseline['perplexity']:.1f} to {best['perplexity']:.1f}"
    mode = f"p(t=ŷ) from {baseline['mode_probability']:.1%} to {best['mode_probability']:.1%}"
    return [f"{best['model']} takes the student's BLEU, {'; '.join(changes)}.", f"Its {perplexity}, {mode}."]


def _way(before: float, after: float, closed: float, *, teacher: float | None) -> str:
    """Return how much of the way to its teacher a student goes; teacher: BLEU of the trained one, where it is known."""
    if not pd.isna(closed) and closed:
        return f"{closed:.0%} of the way to the teacher's {before + (after - before) / closed:.1f}"
    return "no gap" if teacher is None else f"the teacher: {teacher:.1f}"


def certainty(frame: pd.DataFrame) -> list[str]:
    """Return how sure Table 1 is in sentences: its intervals, who is better than the baseline, who as good as the best.

    README repeats these, and a test compares.
    """
    beams = _beams(frame)
    widest = max(frame[f"bleu_ci_{beam}"].max() for beam in beams)
    size = frame["parameters"][frame["model"] == "baseline"].iloc[0]
    students = frame[(frame["parameters"] == size) & (frame["model"] != "baseline")]
    better = [_names(students, students[f"gain_{beam}"].gt(0) & students[f"gain_p_{beam}"].lt(0.01)) for beam in beams]
    is_best = students[f"bleu_p_best_{beams[0]}"].isna()
    ties = [_names(students[~is_best], students[f"bleu_p_best_{beam}"][~is_best].ge(0.05)) for beam in beams]
    best = ", ".join(students["model"][is_best])
    interval = f"BLEU is sure to ±{widest:.1f} (95 % intervals; bootstrap, {frame['bootstrap'].iloc[0]})."
    if not best:
        return [interval]
    return [
        interval,
        f"Better than the baseline (paired bootstrap, p < 0.01): {_by_beam(beams, better)}.",
        f"Not surely worse than the best student, {best} (p ≥ 0.05): {_by_beam(beams, ties)}.",
    ]


def _names(rows: pd.DataFrame, chosen: "pd.Series[bool]") -> str:
    """Return the chosen rows in words."""
    names, others = list(rows["model"][chosen]), list(rows["model"][~chosen])
    if not names:
        return "none"
    if len(others) < len(names):
        return f"all students except {', '.join(others)}" if others else "all students"
    return ", ".join(names)


def _by_beam(beams: Sequence[int], texts: Sequence[str]) -> str:
    """Return what is said of each beam, in one part where it is the same."""
    names = [results.beam_name(beam) for beam in beams]
    if len(set(texts)) == 1:
        return f"{texts[0]} ({' and '.join(names)})"
    return "; ".join(f"{name}: {text}" for name, text in zip(names, texts, strict=True))


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
    numbers = [column for column in frame.columns if _split_beam(column)[0] in READABLE and column not in TEXT_COLUMNS]
    if "model" not in texts or not numbers or frame[texts].isna().any(axis=None):
        raise _broken(path)
    if not all(frame[column].dtype.kind in "iuf" for column in numbers):
        raise _broken(path)
    return frame


def read_methods(path: Path) -> pd.DataFrame:
    """Return Table 1, with every column that `headline` needs. Raises InputError as `read` does."""
    frame = read(path)
    needed = {"text", "parameters", "perplexity", "mode_probability", "bootstrap"}
    needed |= {f"{name}_{beam}" for name in ("closed", "bleu_ci", "gain_p", "bleu_p_best") for beam in _beams(frame)}
    if not _beams(frame) or not needed <= set(frame.columns) or "baseline" not in set(frame["model"]):
        raise _broken(path)
    return frame


def _broken(path: Path) -> InputError:
    return InputError(f"{path}: not a table that seqkd wrote; make it anew with dvc repro.")
