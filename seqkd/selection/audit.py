"""The audit of a selection: what was chosen, what it gained, and what is wrong with it."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain, compress
from pathlib import Path
from typing import Any

from seqkd.config.schema import SelectSettings
from seqkd.data import vocab
from seqkd.data.nbest import Hypothesis
from seqkd.evaluation import metrics
from seqkd.utils import atomic

FAULTS = ("empty", "truncated", "unknown")  # no text; no end within the length allowed; holds the unknown piece


@dataclass
class SelectionStats:
    """Counts of the lines of one part, or the sum of several."""

    ranks: Counter[int] = field(default_factory=Counter)  # chosen rank: lines
    sizes: Counter[int] = field(default_factory=Counter)  # hypotheses of a line: lines
    distinct: int = 0  # texts, each counted once a line
    ties: int = 0  # lines whose best rating several different texts reach
    no_overlap: int = 0  # lines whose chosen text shares no word with the human target
    chosen_faults: Counter[str] = field(default_factory=Counter)
    all_faults: Counter[str] = field(default_factory=Counter)
    chosen: list[int] = field(default_factory=lambda: [0] * 10)  # counts of corpus BLEU, as scores.bleu_of takes them
    first: list[int] = field(default_factory=lambda: [0] * 10)  # the same for the best-scored hypotheses

    def line(self, hypotheses: Sequence[Hypothesis], texts: Sequence[str], rank: int) -> None:
        """Counts a line with the rank chosen for it."""
        found = [_faults(*pair) for pair in zip(hypotheses, texts, strict=True)]
        self.ranks[rank] += 1
        self.sizes[len(texts)] += 1
        self.distinct += len(set(texts))
        self.chosen_faults.update(found[rank])
        self.all_faults.update(chain.from_iterable(found))

    def compared(self, chosen: Sequence[int], first: Sequence[int]) -> None:
        """Counts the line's BLEU counts, of the chosen and of the best-scored hypothesis."""
        self.chosen = [a + b for a, b in zip(self.chosen, chosen, strict=True)]
        self.first = [a + b for a, b in zip(self.first, first, strict=True)]
        self.no_overlap += chosen[2] == 0

    def add(self, other: "SelectionStats") -> None:
        for name in ("ranks", "sizes", "chosen_faults", "all_faults"):
            getattr(self, name).update(getattr(other, name))
        self.distinct += other.distinct
        self.ties += other.ties
        self.no_overlap += other.no_overlap
        self.chosen = [a + b for a, b in zip(self.chosen, other.chosen, strict=True)]
        self.first = [a + b for a, b in zip(self.first, other.first, strict=True)]


def _faults(hypothesis: Hypothesis, text: str) -> list[str]:
    flags = (not text, not hypothesis.finished, vocab.UNK in hypothesis.ids)
    return list(compress(FAULTS, flags))


def record(tally: SelectionStats, row: str, settings: SelectSettings) -> dict[str, Any]:
    """The audit as reports/audit holds it: counts of lines, corpus BLEU (0 to 100), shares and ratios (0 to 1)."""
    lines = tally.ranks.total()
    hypotheses = sum(size * count for size, count in tally.sizes.items())
    chosen, first = metrics.bleu_from_counts(tally.chosen), metrics.bleu_from_counts(tally.first)
    return {
        "row": row,
        "settings": settings.model_dump(),
        "lines": lines,
        "hypotheses": hypotheses,
        "hypotheses_per_line": {
            "least": min(tally.sizes, default=0),
            "mean": _share(hypotheses, lines),
            "most": max(tally.sizes, default=0),
            "distinct": _share(tally.distinct, lines),
        },
        "ranks": [tally.ranks[rank] for rank in range(max(tally.sizes, default=0))],
        "mean_rank": _share(sum(rank * count for rank, count in tally.ranks.items()), lines),
        "ties": _share(tally.ties, lines),
        "no_overlap": _share(tally.no_overlap, lines),
        "bleu_chosen": round(chosen.value, 2),
        "bleu_first": round(first.value, 2),
        "oracle_gain": round(chosen.value - first.value, 2),
        "signature": chosen.signature,
        "length_ratio": {
            "chosen": _share(tally.chosen[0], tally.chosen[1]),
            "first": _share(tally.first[0], tally.first[1]),
        },
        "chosen": {fault: _share(tally.chosen_faults[fault], lines) for fault in FAULTS},
        "all": {fault: _share(tally.all_faults[fault], hypotheses) for fault in FAULTS},
    }


def summary(found: dict[str, Any]) -> str:
    """An audit in two lines of text."""
    return (
        f"{found['row']}: {found['lines']:,} lines, {found['hypotheses_per_line']['mean']:.1f} hypotheses each; "
        f"rank {found['mean_rank']:.1f} on average, the first in {found['ranks'][0] / found['lines']:.0%}, "
        f"ties in {found['ties']:.1%}\n"
        f"BLEU against the human text {found['bleu_first']:.2f} -> {found['bleu_chosen']:.2f}, length ratio "
        f"{found['length_ratio']['chosen']:.3f}; "
        + ", ".join(f"{fault} {found['chosen'][fault]:.2%}" for fault in FAULTS)
    )


def write(path: Path, found: dict[str, Any]) -> None:
    with atomic.open_text(path) as file:
        json.dump(found, file, indent=2, sort_keys=True)
        file.write("\n")


def _share(part: int, whole: int) -> float:
    return round(part / max(1, whole), 4)


__all__ = ["FAULTS", "SelectionStats", "record", "summary", "write"]
