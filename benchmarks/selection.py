"""How fast selection is, on n-best lists made up from a seed and as large as those of the default corpus.

python benchmarks/selection.py [--lines 16000] [--hypotheses 35] [--processes 2] [--pick bleu]
"""

import argparse
import random
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from itertools import product
from pathlib import Path

from seqkd import nbest, selection, vocab, workers
from seqkd.config import Select
from seqkd.corpus import Pair

SYLLABLES = ["".join(pair) for pair in product(["b", "d", "f", "g", "k", "l", "m", "n", "r", "s", "st", "t"], "aeiou")]
WORDS = 20_000  # of the made-up language, by Zipf's law


def sentences(lines: int, generator: random.Random) -> Iterator[str]:
    """4 to 16 words each."""
    words = ["".join(generator.choices(SYLLABLES, k=generator.randint(1, 4))) for _ in range(WORDS)]
    weights = [1 / rank for rank in range(1, WORDS + 1)]
    for _ in range(lines):
        sentence = generator.choices(words, weights, k=generator.randint(4, 16))
        yield " ".join(sentence) + generator.choice([".", "", " (?)"])


def changed(ids: list[int], generator: random.Random) -> Iterator[int]:
    """A copy with about a tenth of the pieces exchanged, lost or doubled."""
    for piece in ids:
        luck = generator.random()
        if luck < 0.05:
            yield generator.randint(4, 3000)
        elif luck > 0.07:
            yield piece
        if luck > 0.97:
            yield piece


def write(folder: Path, pairs: list[Pair], pieces: vocab.Vocab, *, hypotheses: int) -> None:
    generator = random.Random(17)
    for index in range(nbest.count(len(pairs))):
        entries = []
        for pair in pairs[nbest.positions(index)]:
            copies = [tuple(changed(pieces.encode(pair.target), generator)) for _ in range(hypotheses)]
            entries.append((pair.id, [nbest.Hypothesis(ids, -1.0, True) for ids in copies]))
        nbest.write_part(folder, index, entries)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--lines", type=int, default=16_000)
    parser.add_argument("--hypotheses", type=int, default=35)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--pick", choices=["score", "bleu", "chrf"], default="bleu")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, model = Path(name) / "nbest", Path(name) / "joint.model"
        pairs = [Pair(line, "", text) for line, text in enumerate(sentences(given.lines, random.Random(17)))]
        pieces = vocab.train([pair.target for pair in pairs], model, size=4000)
        write(folder, pairs, pieces, hypotheses=given.hypotheses)
        choose = partial(selection.choose, model=model, settings=Select(nbest="made-up", pick=given.pick))
        began = time.perf_counter()
        parts = workers.ordered(choose, selection.parts(folder, pairs), processes=given.processes)
        chosen = sum(len(texts) for texts, _ in parts)
        seconds = time.perf_counter() - began
    total = chosen * given.hypotheses
    print(f"{chosen:,} lines, {total:,} hypotheses, {given.processes} processes, pick {given.pick}: ", end="")
    print(f"{seconds:.1f} s, {total / seconds:,.0f} hypotheses/s")


if __name__ == "__main__":
    main()
