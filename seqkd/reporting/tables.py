"""The paper's three tables as data frames: CSV with all numbers, Markdown, HTML and text with the readable ones."""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd
from tabulate import tabulate

from seqkd.config.schema import Params
from seqkd.reporting import results
from seqkd.reporting.results import Scored, Speed
from seqkd.utils import atomic
from seqkd.utils.errors import InputError

WIDTH = 120  # columns of a terminal


def methods(params: Params, scored: Mapping[str, Scored]) -> pd.DataFrame:
    """Table 1: every model as (text, loss, start), its scores, and its gains over baseline or teacher."""
    rows = []
    for model in params.models:
        it = scored[model]
        row: dict[str, Any] = {"model": model, **_method(params, model), "parameters": it.parameters}
        origin = params.role(model) if params.role(model) == "teacher" else "baseline"
        for beam in params.evaluate.beams:
            row[f"bleu_{beam}"] = it.bleu(beam)
            row[f"gain_{beam}"] = None if model == origin else it.bleu(beam) - scored[origin].bleu(beam)
            row[f"closed_{beam}"] = results.closed(params, scored, model=model, beam=beam)
        for name in ("chrf", "length_ratio"):
            row |= {f"{name}_{beam}": getattr(it.beams[str(beam)], name) for beam in params.evaluate.beams}
        rows.append(row | {"perplexity": it.perplexity, "mode_probability": it.mode_probability} | _signatures(it))
    return _frame(rows)


def _method(params: Params, model: str) -> dict[str, str]:
    """What a method is: the text it trains on, the loss it minimises, the model it starts from."""
    row = params.finetune.get(model) or params.distill.get(model)
    if row is None:
        return {"text": "human", "loss": "NLL", "start": "random"}
    parts = {"NLL": 1 - row.alpha, "Word-KD": row.alpha}
    loss = " + ".join(name if weight == 1 else f"{weight:g} {name}" for name, weight in parts.items() if weight)
    return {
        "text": "human" if row.train_text == "reference" else row.train_text,
        "loss": loss,
        "start": getattr(row, "init_from", "random"),
    }


def _signatures(it: Scored) -> dict[str, str]:
    return {"signature_bleu": it.signature_bleu, "signature_chrf": it.signature_chrf}


def speed_table(records: Sequence[Speed], scored: Mapping[str, Scored]) -> pd.DataFrame:
    """Table 2: source words per second at each beam, as ratios to the teacher's widest beam, with BLEU beside them."""
    widest = max((it.beam for it in records if it.model == "teacher"), default=None)
    whole = next((it.words_per_second for it in records if it.model == "teacher" and it.beam == widest), None)
    if whole is None:
        raise InputError("speeds: the teacher, which the others are compared with, was not measured; measure it too.")
    rows: dict[str, dict[str, Any]] = {}
    for it in records:
        row = rows.setdefault(it.model, {"model": it.model, "parameters": scored[it.model].remaining})
        row[f"words_per_second_{it.beam}"] = it.words_per_second
        row[f"ratio_{it.beam}"] = it.words_per_second / whole
        row[f"bleu_{it.beam}"] = scored[it.model].bleu(it.beam)
    told = {it.model: {"measured": it.measured, "signature_bleu": scored[it.model].signature_bleu} for it in records}
    return _frame([row | told[model] for model, row in rows.items()])


def pruning(params: Params, scored: Mapping[str, Scored]) -> pd.DataFrame:
    """Table 3: the model of params.prune whole and pruned, with the size of its weights file and its BLEU."""
    rows = []
    for model, share in {params.prune.model: 0.0, **params.pruned}.items():
        it = scored[model]
        bleu = {f"bleu_{beam}": it.bleu(beam) for beam in params.evaluate.beams}
        size = {"pruned": share, "remaining": it.remaining, "bytes": it.bytes}
        rows.append({"model": model, **size, **bleu, "signature_bleu": it.signature_bleu})
    return _frame(rows)


def _frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(dict.fromkeys(name for row in rows for name in row)))


def metrics(params: Params, scored: Mapping[str, Scored]) -> dict[str, dict[str, float]]:
    """BLEU of every model, and perplexity of the unpruned ones: two levels, as dvc metrics diff reads them well."""
    found = {}
    for model in [*params.models, *params.pruned]:
        found[model] = {f"bleu_{beam}": round(scored[model].bleu(beam), 2) for beam in params.evaluate.beams}
        if model in params.models:
            found[model]["perplexity"] = round(scored[model].perplexity, 2)
    return found


def _millions(value: float, unit: str) -> str:
    return f"{value / 1e6:.2f}{unit}" if value < 1e7 else f"{value / 1e6:,.0f}{unit}"


# How a column of the CSV is shown, by its name without the beam; one that is not here is left to the CSV.
SHOWN: dict[str, tuple[str, Callable[[Any], str]]] = {
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
WORDS = {"model", "text", "loss", "start"}
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
SPARE = ("loss", "chrf", "start", "text")  # left out, in this order, where a terminal is too narrow


def shown(frame: pd.DataFrame, *, without: Sequence[str] = ()) -> dict[str, list[str]]:
    """The readable columns of a table: heading (a line break before the beam) and cells; an empty cell for no value."""
    found = {}
    for column in frame.columns:
        name, beam = _parted(column)
        if name in SHOWN and name not in without:
            heading, shape = SHOWN[name]
            cells = ["" if pd.isna(value) else shape(value) for value in frame[column]]
            found[f"{heading}\nK={beam}" if beam else heading] = cells
    return found


def _parted(column: str) -> tuple[str, str]:
    """A column's name and its beam; no beam for a column of none."""
    found = re.fullmatch(r"(.+)_([1-9][0-9]{0,8})", column)
    return (found[1], found[2]) if found else (column, "")


def _beams(frame: pd.DataFrame) -> list[int]:
    return sorted(int(beam) for name, beam in map(_parted, frame.columns) if name == "bleu" and beam)


def notes(frame: pd.DataFrame) -> list[str]:
    """What the headings mean, where speeds were measured, and the signatures of the scores."""
    text = " ".join(shown(frame)).split()
    sources = {"measured": "measured on", "signature_bleu": "BLEU: sacreBLEU", "signature_chrf": "chrF: sacreBLEU"}
    told = [f"{sources[it]} {value}" for it in sources if it in frame for value in frame[it].unique()]
    return [note for heading, note in NOTES.items() if heading in text] + told


def plain(frame: pd.DataFrame, *, width: int = WIDTH) -> str:
    """The table and its notes as aligned text; columns of less weight are left out until it fits the width."""
    for spared in range(len(SPARE) + 1):
        text = _aligned(shown(frame, without=SPARE[:spared]), "simple")
        if max(map(len, text.splitlines())) <= width:
            break
    return "\n".join([text, "", *notes(frame)])


def markdown(frame: pd.DataFrame) -> str:
    """The table as Markdown, its notes as a list below."""
    columns = {heading.replace("\n", " "): cells for heading, cells in shown(frame).items()}
    return _aligned(columns, "pipe") + "\n\n" + "".join(f"- {note}\n" for note in notes(frame))


def _aligned(columns: dict[str, list[str]], shape: str) -> str:
    sides = ["left" if heading in WORDS else "right" for heading in columns]
    return tabulate(columns, headers="keys", tablefmt=shape, colalign=sides, disable_numparse=True)


def page(frame: pd.DataFrame) -> str:
    """The table as HTML, its notes below."""
    columns = shown(frame)
    head = "".join(f"<th{_side(it)}>{escape(it).replace(chr(10), '<br>')}</th>" for it in columns)
    rows = []
    for row in zip(*columns.values(), strict=True):
        cells = [f"<td{_side(it)}>{escape(cell)}</td>" for it, cell in zip(columns, row, strict=True)]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    below = "".join(f"<li>{escape(note)}</li>" for note in notes(frame))
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    return f"<div class=wide>{table}</div><ul class=notes>{below}</ul>"


def _side(heading: str) -> str:
    return ' class="word"' if heading in WORDS else ""


def headline(frame: pd.DataFrame) -> list[str]:
    """Table 1 in two sentences: how far the best student comes, and what else changes with it."""
    beams = _beams(frame)
    rows = {row["model"]: row for row in frame.to_dict("records")}
    students = [row for row in rows.values() if not pd.isna(row[f"closed_{beams[0]}"])]
    if not students:
        return ["The teacher is no better than the baseline, so there is no gap to close."]
    best, baseline, teacher = max(students, key=lambda row: row[f"bleu_{beams[0]}"]), rows["baseline"], rows["teacher"]
    told = []
    for beam in beams:
        before, after, top = (row[f"bleu_{beam}"] for row in (baseline, best, teacher))
        closed = best[f"closed_{beam}"]
        way = f"the teacher: {top:.1f}" if pd.isna(closed) else f"{closed:.0%} of the way to the teacher's {top:.1f}"
        told.append(f"{results.named(beam)} from {before:.1f} to {after:.1f} ({way})")
    change = f"perplexity of the human targets goes from {baseline['perplexity']:.1f} to {best['perplexity']:.1f}"
    sure = f"p(t=ŷ) from {baseline['mode_probability']:.1%} to {best['mode_probability']:.1%}"
    return [f"{best['model']} takes the student's BLEU, {'; '.join(told)}.", f"Its {change}, {sure}."]


def write(frame: pd.DataFrame, folder: Path, name: str) -> None:
    """NAME.csv with all numbers and NAME.md with the readable ones."""
    with atomic.open_text(folder / f"{name}.csv") as file:
        frame.to_csv(file, index=False, lineterminator="\n", float_format="%.10g")
    with atomic.open_text(folder / f"{name}.md") as file:
        file.write(markdown(frame))


def read(path: Path) -> pd.DataFrame:
    """A table that write made, from its CSV. Raises InputError where there is none, or a broken one."""
    try:
        # A row may be called NA or 007; only an empty cell is no value.
        frame = pd.read_csv(path, keep_default_na=False, na_values=[""], dtype=dict.fromkeys(WORDS, str))
    except FileNotFoundError:
        raise InputError(f"{path}: no such table yet; run dvc repro.") from None
    except ValueError:  # pandas: an empty file, lines of unequal length, not UTF-8
        raise _broken(path) from None
    texts = [column for column in frame.columns if column in WORDS]
    numbers = [column for column in frame.columns if _parted(column)[0] in SHOWN and column not in WORDS]
    if "model" not in texts or not numbers or frame[texts].isna().any(axis=None):
        raise _broken(path)
    if not all(frame[column].dtype.kind in "iuf" for column in numbers):
        raise _broken(path)
    return frame


def read_methods(path: Path) -> pd.DataFrame:
    """Table 1, with all that headline tells of it. Raises InputError as read does."""
    frame = read(path)
    needed = {"text", "perplexity", "mode_probability", *(f"closed_{beam}" for beam in _beams(frame))}
    if not _beams(frame) or not needed <= set(frame.columns) or not {"teacher", "baseline"} <= set(frame["model"]):
        raise _broken(path)
    return frame


def _broken(path: Path) -> InputError:
    return InputError(f"{path}: not a table that seqkd wrote; make it anew with dvc repro.")


__all__ = [
    "headline",
    "markdown",
    "methods",
    "metrics",
    "page",
    "plain",
    "pruning",
    "read",
    "read_methods",
    "speed_table",
    "write",
]
