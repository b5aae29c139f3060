"""The paper's three tables as data frames: all numbers as CSV, the readable ones as Markdown, HTML and text."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd
from tabulate import tabulate

from seqkd.config.schema import Params
from seqkd.evaluation.measurements import ModelScores, Speed
from seqkd.reporting import results
from seqkd.utils import atomic
from seqkd.utils.errors import InputError

TERMINAL_WIDTH = 120  # columns


def method_table(params: Params, scores: Mapping[str, ModelScores]) -> pd.DataFrame:
    """Return Table 1: every model as (text, loss, start), its scores, and its gain over baseline or teacher."""
    return _frame([_method_row(params, scores, model) for model in params.models])


def _method_row(params: Params, scores: Mapping[str, ModelScores], model: str) -> dict[str, Any]:
    """Return a model's row of Table 1, by column."""
    own = scores[model]
    row: dict[str, Any] = {"model": model, **_method(params, model), "parameters": own.parameters}
    compared = "teacher" if params.role(model) == "teacher" else "baseline"
    for beam in params.evaluate.beams:
        row[f"bleu_{beam}"] = own.bleu(beam)
        row[f"gain_{beam}"] = None if model in (compared, *params.external) else _gain(scores, model, compared, beam)
        row[f"closed_{beam}"] = results.gap_closed(params, scores, model=model, beam=beam)
    for name in ("chrf", "length_ratio"):
        row |= {f"{name}_{beam}": getattr(own.beams.get(str(beam)), name, None) for beam in params.evaluate.beams}
    row |= {"perplexity": own.perplexity, "mode_probability": own.mode_probability}
    return row | {"signature_bleu": own.signature_bleu, "signature_chrf": own.signature_chrf}


def _gain(scores: Mapping[str, ModelScores], model: str, compared: str, beam: int) -> float | None:
    own, other = scores[model].bleu(beam), scores[compared].bleu(beam)
    return None if own is None or other is None else own - other


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


def pruning_table(params: Params, scores: Mapping[str, ModelScores]) -> pd.DataFrame:
    """Return Table 3: the model of params.prune, unpruned and pruned, with the size of its weights file and BLEU."""
    rows = []
    for model, ratio in {params.prune.model: 0.0, **params.pruned}.items():
        own = scores[model]
        bleu = {f"bleu_{beam}": own.bleu(beam) for beam in params.evaluate.beams}
        size = {"pruned": ratio, "remaining": own.remaining, "bytes": own.bytes}
        rows.append({"model": model, **size, **bleu, "signature_bleu": own.signature_bleu})
    return _frame(rows)


def _frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(dict.fromkeys(name for row in rows for name in row)))


def dvc_metrics(params: Params, scores: Mapping[str, ModelScores]) -> dict[str, dict[str, float]]:
    """Return BLEU of every model and perplexity of the unpruned ones, in two levels for `dvc metrics diff`."""
    metrics = {}
    for model in [*params.models, *params.pruned]:
        values = {f"bleu_{beam}": scores[model].bleu(beam) for beam in params.evaluate.beams}
        if model in params.models:
            values["perplexity"] = scores[model].perplexity
        metrics[model] = {name: round(value, 2) for name, value in values.items() if value is not None}
    return metrics


def _millions(value: float, unit: str) -> str:
    return f"{value / 1e6:.2f}{unit}" if value < 1e7 else f"{value / 1e6:,.0f}{unit}"


# Heading and format of each readable column, by its name in the CSV without the beam size; others are in the CSV only.
READABLE: dict[str, tuple[str, Callable[[Any], str]]] = {
    "model": ("model", str),
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
    "perplexity": ("PPL", "{:.1f}".format),
    "mode_probability": ("p(t=ŷ)", "{:.1%}".format),
}
TEXT_COLUMNS = {"model", "text", "loss", "start"}
NOTES = {
    "size": "size: parameters, in millions",
    "K=1": "K: the beam's width, K=1 is greedy",
    "gain": "gain: BLEU above the baseline, or above the teacher for models of its size",
    "gap": "gap: the share of the BLEU between baseline and teacher that the model closes",
    "ratio": "ratio: how many times the speed of the teacher with its widest beam",
    "words/s": "words/s: source words a second",
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
            columns[f"{heading}\nK={beam}" if beam else heading] = cells
    return columns


def _split_beam(column: str) -> tuple[str, str]:
    """Split "bleu_5" into "bleu" and "5"; a name without beam size has an empty one."""
    match = re.fullmatch(r"(.+)_([1-9][0-9]{0,8})", column)
    return (match[1], match[2]) if match else (column, "")


def _beams(frame: pd.DataFrame) -> list[int]:
    return sorted(int(beam) for name, beam in map(_split_beam, frame.columns) if name == "bleu" and beam)


def notes(frame: pd.DataFrame) -> list[str]:
    """Return what the headings mean, where speeds were measured, and the signatures of the scores."""
    words = " ".join(readable_columns(frame)).split()
    origins = {"measured": "measured on", "signature_bleu": "BLEU: sacreBLEU", "signature_chrf": "chrF: sacreBLEU"}
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


def to_html(frame: pd.DataFrame) -> str:
    """Return the table as HTML, with its notes as a list below."""
    columns = readable_columns(frame)
    classes = ['class="word"' if heading in TEXT_COLUMNS else "" for heading in columns]
    head = _html_row("th", columns, classes).replace("\n", "<br>")
    body = "".join(_html_row("td", cells, classes) for cells in zip(*columns.values(), strict=True))
    items = "".join(f"<li>{escape(note)}</li>" for note in notes(frame))
    table = f"<table><thead>{head}</thead><tbody>{body}</tbody></table>"
    return f"<div class=wide>{table}</div><ul class=notes>{items}</ul>"


def _html_row(tag: str, cells: Iterable[str], classes: Sequence[str]) -> str:
    pairs = zip(cells, classes, strict=True)
    return "<tr>" + "".join(f"<{f'{tag} {name}'.rstrip()}>{escape(cell)}</{tag}>" for cell, name in pairs) + "</tr>"


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
    needed = {"text", "perplexity", "mode_probability", *(f"closed_{beam}" for beam in _beams(frame))}
    if not _beams(frame) or not needed <= set(frame.columns) or "baseline" not in set(frame["model"]):
        raise _broken(path)
    return frame


def _broken(path: Path) -> InputError:
    return InputError(f"{path}: not a table that seqkd wrote; make it anew with dvc repro.")
