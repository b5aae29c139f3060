"""Table 1 in sentences: what the best student gains, and how sure that is."""

from collections.abc import Sequence

import pandas as pd

from seqkd.reporting import results
from seqkd.reporting.table_text import beam_sizes


def headline(frame: pd.DataFrame) -> list[str]:
    """Return Table 1 in two sentences: how much of the gap the best student closes, and what else changes with it."""
    beams = beam_sizes(frame)
    rows = {row["model"]: row for row in frame.to_dict("records")}
    size = rows["baseline"]["parameters"]
    students = [row for row in rows.values() if row["parameters"] == size and not pd.isna(row[f"closed_{beams[0]}"])]
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
    beams = beam_sizes(frame)
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
