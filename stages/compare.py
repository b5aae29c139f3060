"""compare: two models, or a model and any other system's translations, on the same lines."""

import time
from pathlib import Path
from typing import Annotated, NamedTuple

import typer
from tabulate import tabulate

from seqkd.config import load
from seqkd.corpora import text_file
from seqkd.data.normalization import normalize
from seqkd.data.words import count_words
from seqkd.decoding import translator
from seqkd.decoding.translator import DecodingJob
from seqkd.evaluation import metrics, significance
from seqkd.evaluation.significance import Scorer
from seqkd.models import checkpoint
from seqkd.utils.errors import InputError

First = Annotated[Path, typer.Argument(help="A model's folder, or a file of translations, one a line.")]
Second = Annotated[Path, typer.Argument(help="What it is compared with: another one of these.")]
Data = Annotated[Path, typer.Option(help="A file of 'source, tab, human translation' lines; an id may stand first.")]
Beam = Annotated[int, typer.Option(min=1, max=10_000, help="Hypotheses kept by a model's search; 1 is greedy.")]
LengthPenalty = Annotated[float, typer.Option(min=0, max=1, help="Exponent of the length that divides a score.")]
Language = Annotated[str, typer.Option(help="The target language's code, such as ja: it chooses BLEU's tokenizer.")]
Lines = Annotated[int, typer.Option(min=0, help="Lines to show, those that differ most.")]
WARM_UP_SENTENCES = 8
NAMES = {"bleu": "BLEU", "chrf": "chrF"}


class Translated(NamedTuple):
    """One system's translations."""

    name: str
    texts: list[str]
    words_per_second: float | None  # of the source, in one process; None for a file


def main(
    first: First,
    second: Second,
    *,
    data: Data,
    beam: Beam = 5,
    length_penalty: LengthPenalty = 1.0,
    language: Language = "",
    lines: Lines = 5,
) -> None:
    """Print both systems' scores with 95 % intervals, their difference with its p-value, and where they differ most."""
    sources, references = read_data(data)
    job = DecodingJob(first, load.machine(), beam, length_penalty=length_penalty, sources=sources)
    systems = [translate(job._replace(model=path), data) for path in (first, second)]
    scorer = Scorer(references, tokenizer=metrics.tokenizer_name(language))
    rows: list[list[str]] = [[each.name, *_speed(each)] for each in systems]
    difference = ["difference", ""]
    for metric in NAMES:
        samples = [scorer.sample(metric, scorer.statistics(metric, each.texts)) for each in systems]
        for row, sample in zip(rows, samples, strict=True):
            row.append(f"{sample.score:.1f} ±{sample.half_width():.1f}")
        value, half_width, p = significance.compare(*samples)
        difference.append(f"{value:+.1f} ±{half_width:.1f}, p = {p:.3f}")
    headings = ["system", "words/s", *NAMES.values()]
    print(tabulate([*rows, difference], headings, disable_numparse=True, colalign=("left", *["right"] * 3)))
    print(f"\n±: half the 95 % interval; p: paired bootstrap, {significance.RESAMPLES:,} resamples")
    for line in _most_different(systems, references, count=lines):
        print(f"\nline {line + 1}: {sources[line]}\n  human: {references[line]}")
        for each in systems:
            score = metrics.sentence_chrf(each.texts[line], references[line])
            print(f"  {each.name} (chrF {score:.0f}): {each.texts[line]}")


def read_data(path: Path) -> tuple[list[str], list[str]]:
    """Return sources and references. Raises InputError, with the line, for a file of another form."""
    pairs = []
    for number, line in enumerate(text_file.read_lines(path), start=1):
        columns = [normalize(column) for column in line.split("\t")]
        if len(columns) not in (2, 3):
            raise InputError(f"{path}, line {number}: {len(columns)} columns; write 'source, tab, human translation'.")
        pairs.append(columns[-2:])
    return [source for source, _ in pairs], [reference for _, reference in pairs]


def translate(job: DecodingJob, data: Path) -> Translated:
    """Return the translations of job.sources by the model of a folder, or those in a file.

    Raises InputError where a file has another number of lines than data.
    """
    if not job.model.is_dir():
        texts = list(map(normalize, text_file.read_lines(job.model)))
        if len(texts) != len(job.sources):
            raise InputError(
                f"{job.model}: {len(texts):,} lines, but {data} has {len(job.sources):,}; give one translation a line."
            )
        return Translated(str(job.model), texts, None)
    pieces = checkpoint.load(job.model).vocab  # says what is wrong with a folder that is no model
    translator.report_long_lines(job.sources, pieces, where=data)
    translator.run(job._replace(sources=job.sources[:WARM_UP_SENTENCES]))  # untimed: loads and compiles code
    began = time.perf_counter()
    best = [hypotheses[0] for hypotheses in translator.run(job)]
    texts = pieces.decode_all([hypothesis.ids for hypothesis in best], job.sources)
    words = sum(map(count_words, job.sources))
    return Translated(str(job.model), texts, words / (time.perf_counter() - began))


def _speed(system: Translated) -> list[str]:
    return ["" if system.words_per_second is None else f"{system.words_per_second:,.0f}"]


def _most_different(systems: list[Translated], references: list[str], *, count: int) -> list[int]:
    """Return the lines whose sentence scores differ most."""
    first, second = (
        [metrics.sentence_chrf(text, reference) for text, reference in zip(each.texts, references, strict=True)]
        for each in systems
    )
    lost = [abs(one - other) for one, other in zip(first, second, strict=True)]
    return sorted((line for line, value in enumerate(lost) if value > 0), key=lambda line: -lost[line])[:count]
