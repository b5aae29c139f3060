"""The audit of a selection: which hypotheses were chosen, what that gained in BLEU, and their faults."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain, compress
from typing import Annotated, Any, ClassVar

from pydantic import Field

from seqkd.config.schema import SelectSettings
from seqkd.data import vocab
from seqkd.data.list_origin import ListOrigin
from seqkd.data.nbest import Hypothesis
from seqkd.evaluation import metrics
from seqkd.evaluation.measurements import Count, Measurement, Number
from seqkd.utils.errors import InputError

Total = Annotated[int, Field(ge=0, le=1 << 53)]
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

    without_none: ClassVar[bool] = True
    row: str
    settings: SelectSettings
    lines: Count
    hypotheses: Count
    hypotheses_per_line: HypothesisCounts
    ranks: Annotated[list[Total], Field(min_length=1)]  # lines by chosen rank
    mean_rank: Number
    ties: Number  # fraction of lines in which several different texts have the highest score
    no_overlap: Number  # fraction of lines in which the chosen text shares no word with the reference
    bleu_chosen: Number | None = None  # corpus BLEU against the reference; None: no line has one
    bleu_first: Number | None = None
    oracle_gain: Number | None = None  # bleu_chosen - bleu_first
    signature: str  # of both
    length_ratio: LengthRatios | None = None
    chosen: dict[str, Number]  # fraction of chosen hypotheses with each of FAULTS
    all: dict[str, Number]  # fraction of all hypotheses with each of FAULTS
    compared: Total | None = None  # lines with a human target, of which BLEU is; None: all
    without_target: Total | None = None  # lines left out, because the metric needs a human target; None: none
    causes: dict[str, Total] | None = (
        None  # chosen texts that teach badly, by cause; None: of our own teacher, not told
    )
    teachers: dict[str, Total] | None = None  # chosen texts by their external teacher
    changed: Total | None = None  # hypotheses that the vocabulary changed; None: of our own teacher, none can be


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
    compared: int = 0  # lines with a human target
    without_target: int = 0  # lines that were left out for want of one
    causes: Counter[str] = field(default_factory=Counter)  # chosen texts that teach badly, by data.faults
    teachers: Counter[int] = field(default_factory=Counter)  # chosen texts by the number of their teacher

    def count_line(self, hypotheses: Sequence[Hypothesis], texts: Sequence[str], rank: int) -> None:
        """Count a line whose hypothesis of this rank was chosen."""
        faults = [_faults(hypothesis, text) for hypothesis, text in zip(hypotheses, texts, strict=True)]
        self.ranks[rank] += 1
        self.sizes[len(texts)] += 1
        self.distinct += len(set(texts))
        self.chosen_faults.update(faults[rank])
        self.all_faults.update(chain.from_iterable(faults))

    def count_choice(self, cause: str | None, *, teacher: int) -> None:
        """Count what may be wrong with a line's chosen text, and whose it is."""
        self.teachers[teacher] += 1
        if cause:
            self.causes[cause] += 1

    def count_ngrams(self, chosen: Sequence[int], first: Sequence[int]) -> None:
        """Add the line's 10 BLEU counts, those of the chosen and of the first hypothesis."""
        self.chosen = _sums(self.chosen, chosen)
        self.first = _sums(self.first, first)
        self.no_overlap += chosen[2] == 0
        self.compared += 1

    def add(self, other: "SelectionStats") -> None:
        """Add the counts of another part."""
        for name in ("ranks", "sizes", "chosen_faults", "all_faults", "causes", "teachers"):
            getattr(self, name).update(getattr(other, name))
        for name in ("distinct", "ties", "no_overlap", "compared", "without_target"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.chosen = _sums(self.chosen, other.chosen)
        self.first = _sums(self.first, other.first)


def _sums(counts: Sequence[int], others: Sequence[int]) -> list[int]:
    return [count + other for count, other in zip(counts, others, strict=True)]


def _faults(hypothesis: Hypothesis, text: str) -> list[str]:
    flags = (not text, not hypothesis.finished, vocab.UNK in hypothesis.ids)
    return list(compress(FAULTS, flags))


def summarize(
    stats: SelectionStats, row: str, settings: SelectSettings, *, tokenizer: str, origin: ListOrigin | None = None
) -> Audit:
    """Return the audit of a row of select from the counts of all its lines.

    tokenizer: the one that made the counts; origin: of an external teacher's list. Raise InputError where no line is
    left.
    """
    lines = stats.ranks.total()
    if lines == 0 or lines == sum(stats.causes[cause] for cause in settings.drop or ()):
        raise InputError(f"select.{row}: no line is left; lines without a human target have no {settings.metric}.")
    hypotheses = sum(size * count for size, count in stats.sizes.items())
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
        no_overlap=_ratio(stats.no_overlap, stats.compared),
        signature=metrics.bleu_from_counts(stats.chosen, tokenizer=tokenizer).signature,
        **(_compared_with_references(stats, tokenizer) if stats.compared else {}),
        chosen={fault: _ratio(stats.chosen_faults[fault], lines) for fault in FAULTS},
        all={fault: _ratio(stats.all_faults[fault], hypotheses) for fault in FAULTS},
        **_of_outside_text(stats, settings, origin),
    )


def _compared_with_references(stats: SelectionStats, tokenizer: str) -> dict[str, Any]:
    """Return the fields that need human targets."""
    chosen, first = (
        metrics.bleu_from_counts(counts, tokenizer=tokenizer).value for counts in (stats.chosen, stats.first)
    )
    ratios = {"chosen": _ratio(*stats.chosen[:2]), "first": _ratio(*stats.first[:2])}
    gain = round(chosen - first, 2)
    scores = {"bleu_chosen": round(chosen, 2), "bleu_first": round(first, 2), "oracle_gain": gain}
    return {**scores, "length_ratio": LengthRatios(**ratios)}


def _of_outside_text(stats: SelectionStats, settings: SelectSettings, origin: ListOrigin | None) -> dict[str, Any]:
    """Return the fields that lines without a human target, external lists and settings.drop add."""
    lines, fields = stats.ranks.total(), dict[str, Any]()
    if stats.compared < lines or stats.without_target:
        fields |= {"compared": stats.compared, "without_target": stats.without_target}
    if fields or origin or settings.drop is not None:
        fields["causes"] = dict(sorted(stats.causes.items()))
    if origin:
        owners = {name: stats.teachers[number] for number, name in enumerate(origin.teachers)}
        fields |= {"teachers": owners, "changed": origin.changed}
    return fields


def describe(audit: Audit) -> str:
    """Return the audit in two lines of text."""
    faults = ", ".join(f"{fault} {fraction:.2%}" for fault, fraction in audit.chosen.items())
    own = (
        f"{audit.row}: {audit.lines:,} lines, {audit.hypotheses_per_line.mean:.1f} hypotheses each; "
        f"mean rank {audit.mean_rank + 1:.1f}, the first hypothesis in {audit.ranks[0] / audit.lines:.0%}, "
        f"ties in {audit.ties:.1%}\n"
    )
    if audit.length_ratio is not None:
        own += f"BLEU against the reference: first hypotheses {audit.bleu_first:.2f}, chosen {audit.bleu_chosen:.2f}; "
        own += f"length ratio {audit.length_ratio.chosen:.3f}; "
    own += faults
    return "\n".join([own, *outside(audit)])


def outside(audit: Audit) -> list[str]:
    """Return what lines without a human target, external lists and settings.drop add, a sentence each."""
    sentences = []
    if audit.teachers is not None:
        shares = ", ".join(f"{name} {count:,}" for name, count in audit.teachers.items())
        sentences += [f"Chosen texts by teacher: {shares}; the vocabulary changed {audit.changed:,} hypotheses."]
    if audit.compared is not None:
        left_out = f", and {audit.without_target:,} without one were left out" if audit.without_target else ""
        sentences += [f"Lines with a human target: {audit.compared:,}{left_out}."]
    if audit.causes is not None:
        listed = ", ".join(f"{cause} {count:,}" for cause, count in audit.causes.items()) or "none"
        dropped = sum(count for cause, count in audit.causes.items() if cause in (audit.settings.drop or ()))
        sentences += [f"Texts that teach badly: {listed}; {dropped:,} of them were left out (drop)."]
    return sentences


def _ratio(part: int, total: int) -> float:
    return round(part / max(1, total), 4)
