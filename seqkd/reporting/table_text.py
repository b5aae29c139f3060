"""How a table of results reads: its columns, their headings and notes, as text, Markdown and cells of the page."""

import math
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pandas as pd
from tabulate import tabulate

TERMINAL_WIDTH = 120  # columns


def _millions(value: float, unit: str) -> str:
    return f"{value / 1e6:.2f}{unit}" if value < 1e7 else f"{value / 1e6:,.0f}{unit}"


FAULT_HEADINGS = {
    "repeated": "repeats",
    "copied": "copies",
    "numbers": "numbers",
    "placeholders": "placeholders",
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
        name, beam = split_beam(column)
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


def split_beam(column: str) -> tuple[str, str]:
    """Split "bleu_5" into "bleu" and "5"; a name without beam size has an empty one."""
    match = re.fullmatch(r"(.+)_([1-9][0-9]{0,8})", column)
    return (match[1], match[2]) if match else (column, "")


def beam_sizes(frame: pd.DataFrame) -> list[int]:
    return sorted(int(beam) for name, beam in map(split_beam, frame.columns) if name == "bleu" and beam)


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
    names = [column for column in frame.columns if split_beam(column)[0] in READABLE]
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
