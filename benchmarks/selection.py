"""Selection on one core: sentence BLEU of n-best lists beside sacreBLEU, and the whole choice of a text."""

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
BLEU = schema.SelectSettings(nbest="made-up", metric="bleu")
PEER = "sacrebleu.sentence_bleu"
PEER_PAIRS = 5000  # that sacreBLEU scores in a round


def run(settings: Settings) -> list[Row]:
    material = settings.material()
    lines = min(len(material.texts), 1000 * settings.rounds)
    with tempfile.TemporaryDirectory() as name:
        pairs = write(Path(name), material, lines=lines)
        scores = score_rows(settings, material, pairs, Path(name))
        return [*scores, *choose_rows(settings, material, pairs, Path(name))]


def _perturbed(ids: list[int], vocab_size: int, generator: random.Random) -> Iterator[int]:
    """Yield the ids with about a tenth of them replaced, deleted or doubled."""
    for piece in ids:
        draw = generator.random()
        if draw < 0.05:
            yield generator.randrange(4, vocab_size)
        elif draw > 0.07:
            yield piece
        if draw > 0.97:
            yield piece


def write(folder: Path, material: Material, *, lines: int) -> list[Pair]:
    """Write random n-best lists, from a fixed seed, for the first lines of the training text; return their pairs."""
    generator, pairs = random.Random(17), material.texts[:lines]
    for index in range(nbest.count(len(pairs))):
        entries = []
        for pair in pairs[nbest.positions(index)]:
            ids = material.vocab.encode(pair.target, pair.source)
            copies = [tuple(_perturbed(ids, material.vocab.size, generator)) for _ in range(HYPOTHESES)]
            entries.append((pair, [nbest.Hypothesis(copy, -1.0, True) for copy in copies]))
        nbest.write_part(folder, index, entries)
    return pairs


class Lists(NamedTuple):
    """Texts of one part, HYPOTHESES for each reference."""

    references: list[str]
    texts: list[str]

    def encode(self) -> sentence_bleu.Words:
        return select.encode([*self.references, *self.texts], metrics.DEFAULT)

    def scores(self, words: sentence_bleu.Words) -> list[float]:
        rows = np.arange(len(self.texts), dtype=np.int32)
        counts = sentence_bleu.counts(words, len(self.references) + rows, rows // HYPOTHESES)
        return list(sentence_bleu.bleu(counts, smoothing="exp", value=0.0).tolist())

    def sacrebleu_scores(self) -> list[float]:
        """Return sacreBLEU's scores of the first PEER_PAIRS texts."""
        pairs = ((text, self.references[row // HYPOTHESES]) for row, text in enumerate(self.texts[:PEER_PAIRS]))
        return [sacrebleu.sentence_bleu(text, [reference]).score for text, reference in pairs]


def read(part: select.Part, material: Material) -> Lists:
    lines = [hypotheses for _, hypotheses in nbest.read_part(part.path, part.pairs)]
    ids = [hypothesis.ids for hypotheses in lines for hypothesis in hypotheses]
    sources = [pair.source for pair, hypotheses in zip(part.pairs, lines, strict=True) for _ in hypotheses]
    return Lists([pair.target for pair in part.pairs], material.vocab.decode_all(ids, sources))


def score_rows(settings: Settings, material: Material, pairs: list[Pair], folder: Path) -> list[Row]:
    """Measure pairs scored per second; each round scores another part."""
    lists = [read(part, material) for part in select.parts(folder, pairs, lines=len(pairs))]
    words = lists[0].encode()
    lists[0].scores(words)  # compiles
    work: dict[str, Callable[[Lists], Sized]] = {
        PEER: Lists.sacrebleu_scores,
        "strings to numbers": lambda part: part.texts if part.encode() else [],
        "numbers to scores": lambda _: lists[0].scores(words),
        "strings to scores": lambda part: part.scores(part.encode()),
    }
    variants = {name: partial(_rate, step, cycle(lists[::-1])) for name, step in work.items()}
    rates = alternate(variants, settings.rounds)
    pairs_scored = [
        (ours, theirs)
        for part in lists
        for ours, theirs in zip(part.scores(part.encode()), part.sacrebleu_scores(), strict=False)
    ]
    same = sum(ours == theirs for ours, theirs in pairs_scored)
    note = f"{same:,} of {len(pairs_scored):,} scores equal to the last bit"
    rows = [Row(f"sentence BLEU, {name}", "pairs/s", rates[name], PEER, rates[PEER]) for name in [*work][1:]]
    return [replace(row, aim=50.0, note=note) if "numbers to scores" in row.work else row for row in rows]


def _rate(step: Callable[[Lists], Sized], lists: Iterator[Lists]) -> float:
    part = next(lists)
    began = time.process_time()
    count = len(step(part))
    return count / (time.process_time() - began)


def choose_rows(settings: Settings, material: Material, pairs: list[Pair], folder: Path) -> list[Row]:
    """Measure hypotheses per second, from the n-best files to the chosen text and its audit."""
    parts, model = list(select.parts(folder, pairs, lines=len(pairs))), material.folder / "joint.model"
    choose = partial(select.choose, model=model, settings=BLEU, tokenizer=metrics.DEFAULT)

    def measure() -> float:
        began = time.process_time()
        lines = sum(len(choose(part)[0]) for part in parts)
        return HYPOTHESES * lines / (time.process_time() - began)

    rate = alternate({"selection": measure}, settings.rounds)["selection"]
    return [Row("selection, files to text and audit", "hypotheses/s", rate, note="one process")]
