"""What the translations of the test set show beyond a score: how sure it is, where the loss comes from, which faults.

The stage `evidence` writes a record of it and the scores of all sentences, which the report reads.
"""

import csv
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import Field

from seqkd.config.schema import Params
from seqkd.data.bitext import Pair
from seqkd.evaluation import robustness, significance
from seqkd.evaluation.breakdown import Kind
from seqkd.evaluation.measurements import Count, Measurement, Number
from seqkd.evaluation.significance import Sample, Scorer, Statistics
from seqkd.evaluation.translations import Output
from seqkd.utils import atomic, pool
from seqkd.utils.errors import InputError

RECORD, SENTENCES = "evidence.json", "sentences.csv"  # in the folder of the evidence
METRICS, HUMAN = ("bleu", "chrf"), "(human)"  # no model has such a name


class Certainty(Measurement):
    """How sure one score of one model is."""

    score: Number  # 0 to 100
    half_width: Number  # of the 95 % interval
    p: dict[str, Number]  # against each model that rows are compared with, that is baseline, teacher or best


class KindScores(Measurement):
    """BLEU of every model on one kind of lines, with the widest beam."""

    feature: str
    name: str
    lines: Count
    bleu: dict[str, Number]  # by model


class HardOutput(Measurement):
    """One model's output for one hard line, and its faults."""

    text: str
    faults: list[str]


class HardResult(Measurement):
    """One hard line and what the models make of it."""

    kind: str
    source: str
    outputs: dict[str, dict[str, HardOutput]]  # by model and beam size


class Rung(Measurement):
    """One step of the ladder from the teacher to the smallest student; the step is the loss since the rung above."""

    name: str
    model: str
    beam: int
    bytes: Count  # of the weights file
    bleu: Number
    half_width: Number  # of the 95 % interval, as the one below
    step_value: Number | None = None  # BLEU; the first rung has no step
    step_half_width: Number | None = None
    step_p: Number | None = None


class Evidence(Measurement):
    """All of it. Beam sizes are keys as text."""

    lines: Count
    resamples: Count
    seed: int
    best: str  # the best student, by BLEU at the smallest beam size
    certainty: dict[str, dict[str, dict[str, Certainty]]]  # by model, beam size and metric
    kinds: list[KindScores]
    faults: dict[str, dict[str, dict[str, int]]]  # lines by model (HUMAN: the references), beam size and fault
    hard_lines: list[HardResult]
    ladder: Annotated[list[Rung], Field(min_length=2)]  # the teacher, if trained; student and its weights in int8


class Measured(NamedTuple):
    """What is counted of one output."""

    statistics: Statistics  # of BLEU
    samples: dict[str, Sample]  # by metric
    sentences: list[float]  # chrF of each line


AllMeasured = dict[str, dict[int, Measured]]  # by model and beam size


def measure(outputs: Sequence[Output], scorer: Scorer, *, processes: int) -> AllMeasured:
    """Return statistics and resampled scores of every output."""
    significance.resample_counts(scorer.lines)  # before the processes part, so that they share it
    texts = (output.texts for output in outputs)
    found: AllMeasured = {}
    for output, measured in zip(
        outputs, pool.map_ordered(partial(_measure, scorer=scorer), texts, processes=processes), strict=True
    ):
        found.setdefault(output.model, {})[output.beam] = measured
    return found


def _measure(texts: Sequence[str], *, scorer: Scorer) -> Measured:
    statistics = {metric: scorer.statistics(metric, texts) for metric in METRICS}
    samples = {metric: scorer.sample(metric, statistics[metric]) for metric in METRICS}
    sentences = [scorer.score("chrf", line[None]) for line in statistics["chrf"]]
    return Measured(statistics["bleu"], samples, sentences)


def write_sentences(path: Path, pairs: Sequence[Pair], measured: AllMeasured) -> None:
    """Write chrF of every line, a column for each model and beam size, as CSV."""
    columns = {f"{model} {beam}": own.sentences for model, beams in measured.items() for beam, own in beams.items()}
    with atomic.open_text(path) as file:
        file.write(",".join(["id", *columns]) + "\n")
        for pair, *scores in zip(pairs, *columns.values(), strict=True):
            file.write(",".join([str(pair.id), *(f"{score:.1f}" for score in scores)]) + "\n")


def read_sentences(path: Path, columns: Sequence[str], *, lines: int) -> dict[str, list[float]]:
    """Return the named columns of what write_sentences wrote. Raises InputError where one is missing or broken."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        found = {column: [float(row[column]) for row in rows] for column in columns}
    except (KeyError, TypeError, ValueError, csv.Error):
        raise InputError(f"{path}: not the sentence scores of this pipeline; run dvc repro.") from None
    if len(rows) != lines or not all(0 <= score <= 100 for scores in found.values() for score in scores):
        raise InputError(f"{path}: not the sentence scores of this test set; run dvc repro.")
    return found


def best_student(params: Params, measured: AllMeasured) -> str:
    """Return the unpruned student of the baseline's size with the best BLEU at the smallest beam size.

    Where there is none, return the baseline.
    """
    bleu = {model: beams[min(beams)].samples["bleu"].score for model, beams in measured.items()}
    students = [model for model in params.networks if params.role(model) == "student" and model != "baseline"]
    students = [model for model in students if params.network_of(model) == params.student]
    return max(students, key=lambda model: bleu[model], default="baseline")


def certainties(
    measured: AllMeasured, best: str, *, teacher: str = "teacher", baselines: Mapping[str, str | None] | None = None
) -> dict[str, dict[str, dict[str, Certainty]]]:
    """Return intervals and p-values, by model, beam size and metric.

    teacher: the one that models are compared with; baselines: that of each student; others are compared with the
    baseline.
    """

    def others(model: str) -> dict[str, str]:
        own = {"baseline": (baselines or {}).get(model, "baseline"), "teacher": teacher, "best": best}
        return {name: other for name, other in own.items() if other in measured}

    return {
        model: {
            str(beam): {
                metric: _certainty(sample, _compared(measured, model, others(model), beam=beam, metric=metric))
                for metric, sample in own.samples.items()
            }
            for beam, own in beams.items()
        }
        for model, beams in measured.items()
    }


def _compared(
    measured: AllMeasured, model: str, others: Mapping[str, str], *, beam: int, metric: str
) -> dict[str, Sample]:
    """Return what a model is compared with: baseline, teacher and best student, but not the model itself."""
    return {name: measured[other][beam].samples[metric] for name, other in others.items() if other != model}


def _certainty(sample: Sample, compared: Mapping[str, Sample]) -> Certainty:
    p = {name: significance.compare(sample, other).p for name, other in compared.items()}
    return Certainty(score=sample.score, half_width=sample.half_width(), p=p)


def kind_scores(kinds: Iterable[Kind], measured: AllMeasured, scorer: Scorer) -> list[KindScores]:
    """Return BLEU of every model on every kind of lines."""
    widest = {model: beams[max(beams)].statistics for model, beams in measured.items()}
    return [
        KindScores(
            feature=kind.feature,
            name=kind.name,
            lines=len(kind.rows),
            bleu={model: scorer.score("bleu", statistics[kind.rows]) for model, statistics in widest.items()},
        )
        for kind in kinds
    ]


def fault_counts(
    outputs: Iterable[Output], sources: Sequence[str], references: Sequence[str]
) -> dict[str, dict[str, dict[str, int]]]:
    """Return how many lines have each fault, by model and beam size; the references are the model HUMAN."""
    scripts = robustness.common_scripts(references)
    human = Output(HUMAN, 0, list(references), [False] * len(references))
    counts: dict[str, dict[str, dict[str, int]]] = {}
    for output in (human, *outputs):
        lines = zip(sources, output.texts, output.at_limit, strict=True)
        faults = [robustness.faults(source, text, at_limit=cut, scripts=scripts) for source, text, cut in lines]
        counts.setdefault(output.model, {})[str(output.beam)] = robustness.count_faults(faults)
    return counts


def hard_results(
    lines: Sequence[robustness.HardLine], outputs: Iterable[Output], *, scripts: frozenset[str]
) -> list[HardResult]:
    """Return what the models made of the hard lines."""
    results = [HardResult(kind=line.kind, source=line.text, outputs={}) for line in lines]
    for output in outputs:
        for result, text, cut in zip(results, output.texts, output.at_limit, strict=True):
            faults = robustness.faults(result.source, text, at_limit=cut, scripts=scripts)
            result.outputs.setdefault(output.model, {})[str(output.beam)] = HardOutput(text=text, faults=faults)
    return results


class Step(NamedTuple):
    """What one rung of the ladder shows."""

    name: str
    model: str
    beam: int


def smallest_model(params: Params, best: str) -> str:
    """Return the model at the ladder's lower end: the one of which the least is pruned, or the best student."""
    return min(params.pruned, key=lambda model: params.pruned[model], default=best)


def rungs(params: Params, best: str, int8: str) -> list[Step]:
    """Return the ladder's rungs. int8: the name of the smallest model in int8."""
    low, high = min(params.evaluate.beams), max(params.evaluate.beams)
    pairs = [
        Step(name, model, beam)
        for name, model in (("teacher", "teacher"), ("best student", best))
        if model != "teacher" or params.trains_teacher
        for beam in (high, low)
    ]
    smallest = smallest_model(params, best)
    pruned = [Step(f"{params.pruned[smallest]:.0%} pruned", smallest, low)] if smallest != best else []
    return list(dict.fromkeys([*pairs, *pruned, Step("weights in int8", int8, low)]))


def ladder(steps: Iterable[Step], measured: AllMeasured, sizes: Mapping[str, int]) -> list[Rung]:
    """Return the ladder. sizes: bytes of the weights file by model."""
    found: list[Rung] = []
    above: Sample | None = None
    for name, model, beam in steps:
        sample = measured[model][beam].samples["bleu"]
        step = significance.compare(sample, above) if above else None
        rung = Rung(
            name=name,
            model=model,
            beam=beam,
            bytes=sizes[model],
            bleu=sample.score,
            half_width=sample.half_width(),
            step_value=step and step.value,
            step_half_width=step and step.half_width,
            step_p=step and step.p,
        )
        found.append(rung)
        above = sample
    return found
