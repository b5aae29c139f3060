"""The audit of a selection: which hypotheses were chosen, what that gained in BLEU, and their faults."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain, compress
from typing import Annotated

from pydantic import Field

from seqkd.config.schema import SelectSettings
from seqkd.data import vocab
from seqkd.data.nbest import Hypothesis
from seqkd.evaluation import metrics
from seqkd.evaluation.measurements import Count, Measurement, Number

FAULTS = ("empty", "truncated", "unknown")  # no text; cut off at the greatest length; has the unknown piece


class HypothesisCounts(Measurement):
    """How many hypotheses a line has."""

    least: int
    mean: Number
    most: int
    distinct: Number  # mean number of different texts


class LengthRatios(Measurement):
    """Words of a text to words of its references."""

    chosen: Number
    first: Number


class Audit(Measurement):
    """The audit of one row of select. BLEU is 0 to 100, fractions are 0 to 1, ranks begin at 0.

    "first" is said of each line's first hypothesis, the one with the teacher's best score.
    """

    row: str
    settings: SelectSettings
    lines: Count
    hypotheses: Count
    hypotheses_per_line: HypothesisCounts
    ranks: Annotated[list[Annotated[int, Field(ge=0, le=1 << 53)]], Field(min_length=1)]  # lines by chosen rank
    mean_rank: Number
    ties: Number  # fraction of lines in which several different texts have the highest score
    no_overlap: Number  # fraction of lines in which the chosen text shares no word with the reference
    bleu_chosen: Number  # corpus BLEU against the reference
    bleu_first: Number
    oracle_gain: Number  # bleu_chosen - bleu_first
    signature: str  # of both
    length_ratio: LengthRatios
    chosen: dict[str, Number]  # fraction of chosen hypotheses with each of FAULTS
    all: dict[str, Number]  # fraction of all hypotheses with each of FAULTS


@dataclass
class SelectionStats:
    """Counts over the lines of one part of an n-best list; `add` sums those of several parts."""

    ranks: Counter[int] = field(default_factory=Counter)  # chosen rank: lines
    sizes: Counter[int] = field(default_factory=Counter)  # hypotheses of a line: lines
    distinct: int = 0  # different texts of a line, summed over lines
    ties: int = 0  # lines in which several different texts have the highest score
    no_overlap: int = 0  # lines whose chosen text shares no word with the reference
    chosen_faults: Counter[str] = field(default_factory=Counter)
    all_faults: Counter[str] = field(default_factory=Counter)
    chosen: list[int] = field(default_factory=lambda: [0] * 10)  # sums of the counts for metrics.bleu_from_counts
    first: list[int] = field(default_factory=lambda: [0] * 10)  # the same of the first hypotheses

    def count_line(self, hypotheses: Sequence[Hypothesis], texts: Sequence[str], rank: int) -> None:
        """Count a line whose hypothesis of this rank was chosen."""
        faults = [_faults(hypothesis, text) for hypothesis, text in zip(hypotheses, texts, strict=True)]
        self.ranks[rank] += 1
        self.sizes[len(texts)] += 1
        self.distinct += len(set(texts))
        self.chosen_faults.update(faults[rank])
        self.all_faults.update(chain.from_iterable(faults))

    def count_ngrams(self, chosen: Sequence[int], first: Sequence[int]) -> None:
        """Add the line's 10 BLEU counts, those of the chosen and of the first hypothesis."""
        self.chosen = _sums(self.chosen, chosen)
        self.first = _sums(self.first, first)
        self.no_overlap += chosen[2] == 0

    def add(self, other: "SelectionStats") -> None:
        """Add the counts of another part."""
        for name in ("ranks", "sizes", "chosen_faults", "all_faults"):
            getattr(self, name).update(getattr(other, name))
        self.distinct += other.distinct
        self.ties += other.ties
        self.no_overlap += other.no_overlap
        self.chosen = _sums(self.chosen, other.chosen)
        self.first = _sums(self.first, other.first)


def _sums(counts: Sequence[int], others: Sequence[int]) -> list[int]:
    return [count + other for count, other in zip(counts, others, strict=True)]


def _faults(hypothesis: Hypothesis, text: str) -> list[str]:
    flags = (not text, not hypothesis.finished, vocab.UNK in hypothesis.ids)
    return list(compress(FAULTS, flags))


def summarize(stats: SelectionStats, row: str, settings: SelectSettings, *, tokenizer: str) -> Audit:
    """Return the audit of a row of select from the counts of all its lines; tokenizer: the one that made them."""
    lines = stats.ranks.total()
    hypotheses = sum(size * count for size, count in stats.sizes.items())
    chosen, first = (metrics.bleu_from_counts(counts, tokenizer=tokenizer) for counts in (stats.chosen, stats.first))
    return Audit(
        row=row,
        settings=settings,
        lines=lines,
        hypotheses=hypotheses,
        hypotheses_per_line=HypothesisCounts(
            least=min(stats.sizes, default=0),
            mean=_ratio(hypotheses, lines),
            most=max(stats.sizes, default=0),
            distinct=_ratio(stats.distinct, lines),
        ),
        ranks=[stats.ranks[rank] for rank in range(max(stats.sizes, default=0))],
        mean_rank=_ratio(sum(rank * count for rank, count in stats.ranks.items()), lines),
        ties=_ratio(stats.ties, lines),
        no_overlap=_ratio(stats.no_overlap, lines),
        bleu_chosen=round(chosen.value, 2),
        bleu_first=round(first.value, 2),
        oracle_gain=round(chosen.value - first.value, 2),
        signature=chosen.signature,
        length_ratio=LengthRatios(
            chosen=_ratio(stats.chosen[0], stats.chosen[1]), first=_ratio(stats.first[0], stats.first[1])
        ),
        chosen={fault: _ratio(stats.chosen_faults[fault], lines) for fault in FAULTS},
        all={fault: _ratio(stats.all_faults[fault], hypotheses) for fault in FAULTS},
    )


def describe(audit: Audit) -> str:
    """Return the audit in two lines of text."""
    faults = ", ".join(f"{fault} {fraction:.2%}" for fault, fraction in audit.chosen.items())
    return (
        f"{audit.row}: {audit.lines:,} lines, {audit.hypotheses_per_line.mean:.1f} hypotheses each; "
        f"mean rank {audit.mean_rank + 1:.1f}, the first hypothesis in {audit.ranks[0] / audit.lines:.0%}, "
        f"ties in {audit.ties:.1%}\n"
        f"BLEU against the reference: first hypotheses {audit.bleu_first:.2f}, chosen {audit.bleu_chosen:.2f}; "
        f"length ratio {audit.length_ratio.chosen:.3f}; {faults}"
    )


def _ratio(part: int, total: int) -> float:
    return round(part / max(1, total), 4)
