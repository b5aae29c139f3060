"""Sentence BLEU of n-best lists beside sacreBLEU, the same scores to the last bit; and the whole choice; one core."""

import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sized
from dataclasses import replace
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

import numpy as np
import sacrebleu

from benchmarks.material import Material
from benchmarks.rows import Row, alternate
from benchmarks.settings import Settings
from seqkd.config import schema
from seqkd.data import nbest
from seqkd.data.bitext import Pair
from seqkd.evaluation import metrics
from seqkd.selection import select, sentence_bleu

HYPOTHESES = 35
PEER = "sacrebleu.sentence_bleu"
CHECKED = 5000  # pairs that sacreBLEU scores in a round


def run(settings: Settings) -> list[Row]:
    material = settings.material()
    lines = min(len(material.texts), 1000 * settings.rounds)
    with tempfile.TemporaryDirectory() as name:
        pairs = write(Path(name), material, lines=lines)
        return [*scored(settings, material, pairs, Path(name)), *chosen(settings, material, pairs, Path(name))]


def changed(ids: list[int], size: int, generator: random.Random) -> Iterator[int]:
    """A copy with about a tenth of the pieces exchanged, lost or doubled."""
    for piece in ids:
        luck = generator.random()
        if luck < 0.05:
            yield generator.randrange(4, size)
        elif luck > 0.07:
            yield piece
        if luck > 0.97:
            yield piece


def write(folder: Path, material: Material, *, lines: int) -> list[Pair]:
    """n-best lists made up from a seed for the first lines of the training text; returns their pairs."""
    generator, pairs = random.Random(17), material.texts[:lines]
    for index in range(nbest.count(len(pairs))):
        entries = []
        for pair in pairs[nbest.positions(index)]:
            ids = material.vocab.encode(pair.target)
            copies = [tuple(changed(ids, material.vocab.size, generator)) for _ in range(HYPOTHESES)]
            entries.append((pair, [nbest.Hypothesis(copy, -1.0, True) for copy in copies]))
        nbest.write_part(folder, index, entries)
    return pairs


class Lists(NamedTuple):
    """A part's texts, HYPOTHESES of them for each reference."""

    references: list[str]
    texts: list[str]

    def numbers(self) -> sentence_bleu.Words:
        return sentence_bleu.encode([*self.references, *self.texts], metrics.tokenize)

    def scores(self, words: sentence_bleu.Words) -> list[float]:
        places = np.arange(len(self.texts), dtype=np.int32)
        counts = sentence_bleu.counts(words, len(self.references) + places, places // HYPOTHESES)
        return list(sentence_bleu.bleu(counts, smoothing="exp", value=0.0).tolist())

    def scores_of_sacrebleu(self) -> list[float]:
        """Of the first texts."""
        some = ((text, self.references[at // HYPOTHESES]) for at, text in enumerate(self.texts[:CHECKED]))
        return [sacrebleu.sentence_bleu(text, [reference]).score for text, reference in some]


def read(part: select.Part, material: Material) -> Lists:
    lines = [hypotheses for _, hypotheses in nbest.read_part(part.path, part.pairs)]
    ids = [hypothesis.ids for hypotheses in lines for hypothesis in hypotheses]
    return Lists([pair.target for pair in part.pairs], material.vocab.decode_all(ids))


def scored(settings: Settings, material: Material, pairs: list[Pair], folder: Path) -> list[Row]:
    """Pairs a second of lists against their references; each round has a part of its own."""
    lists = [read(part, material) for part in select.parts(folder, pairs, lines=len(pairs))]
    numbers = [one.numbers() for one in lists[:1]]
    lists[0].scores(numbers[0])  # compiles
    work: dict[str, Callable[[Lists], Sized]] = {
        PEER: Lists.scores_of_sacrebleu,
        "strings to numbers": lambda one: one.texts if one.numbers() else [],
        "numbers to scores": lambda _: lists[0].scores(numbers[0]),
        "strings to scores": lambda one: one.scores(one.numbers()),
    }
    variants = {name: partial(_rate, step, cycle(lists[::-1])) for name, step in work.items()}
    rates = alternate(variants, settings.rounds)
    pairs_scored = [
        (ours, theirs)
        for one in lists
        for ours, theirs in zip(one.scores(one.numbers()), one.scores_of_sacrebleu(), strict=False)
    ]
    same = sum(ours == theirs for ours, theirs in pairs_scored)
    note = f"{same:,} of {len(pairs_scored):,} scores equal to the last bit"
    rows = [Row(f"sentence BLEU, {name}", "pairs/s", rates[name], PEER, rates[PEER]) for name in [*work][1:]]
    return [replace(row, aim=50.0, note=note) if "numbers to scores" in row.work else row for row in rows]


def _rate(step: Callable[[Lists], Sized], lists: Iterator[Lists]) -> float:
    one = next(lists)
    began = time.process_time()
    count = len(step(one))
    return count / (time.process_time() - began)


def chosen(settings: Settings, material: Material, pairs: list[Pair], folder: Path) -> list[Row]:
    """Hypotheses a second from the n-best files to the chosen text and its audit."""
    parts, model = list(select.parts(folder, pairs, lines=len(pairs))), material.folder / "joint.model"
    choose = partial(select.choose, model=model, settings=schema.SelectSettings(nbest="made-up", metric="bleu"))

    def measure() -> float:
        began = time.process_time()
        lines = sum(len(choose(part)[0]) for part in parts)
        return HYPOTHESES * lines / (time.process_time() - began)

    rate = alternate({"selection": measure}, settings.rounds)["selection"]
    return [Row("selection, files to text and audit", "hypotheses/s", rate, note="one process")]
