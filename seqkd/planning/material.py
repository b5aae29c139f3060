"""How much text a run will read, and some of it to measure with: the corpus's own, or made up where it is absent."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, cast

from seqkd.config import yaml_file
from seqkd.config.schema import Params
from seqkd.data import bitext, vocab
from seqkd.data.bitext import Pair
from seqkd.data.vocab import Vocab
from seqkd.planning.budget import CorpusStats
from seqkd.utils.errors import InputError

MOST = 20_000  # pairs to measure with
HELD_OUT = 1000  # dev and test pairs where they are not known
WORDS, LONGEST = 25, 60  # of a made-up sentence: on average, and at most, as in news and parliament


@dataclass(frozen=True)
class CorpusSample:
    """What to measure with, and how much there is of it."""

    pairs: list[Pair]  # evenly taken from the whole text
    vocab: Vocab
    train: int  # pairs of the whole text
    dev: int
    test: int
    notes: tuple[str, ...]  # what was assumed, a sentence each

    def pieces(self) -> tuple[list[list[int]], list[list[int]]]:
        """Of the sources and of the targets."""
        sources, targets = ([getattr(pair, side) for pair in self.pairs] for side in ("source", "target"))
        return self.vocab.encode_all(sources), self.vocab.encode_all(targets)

    def extent(self, pairs: int | None = None) -> CorpusStats:
        """The whole text's, or that of so many pairs like it."""
        found = CorpusStats.of(*self.pieces())
        return CorpusStats(self.train if pairs is None else pairs, found.source, found.target, found.longest)


class Places(NamedTuple):
    """Where preprocess and vocab leave their files."""

    folder: Path  # of about.json
    text: Path
    vocabulary: Path


def places(pipeline: Path) -> Places:
    """As dvc.yaml names them. Raises InputError where it does not."""
    try:
        stages = cast(dict[str, Any], yaml_file.read(pipeline))["stages"]
        return Places(*map(Path, [*stages["preprocess"]["outs"], *stages["vocab"]["outs"]]))
    except (KeyError, TypeError, AttributeError):
        raise InputError(
            f"{pipeline}: the outs of preprocess and vocab must be a folder, a text and a vocabulary, by name alone;"
            " mend it, or git checkout it."
        ) from None


def gather(params: Params, where: Places, *, pairs: int | None = None) -> CorpusSample:
    """From the files of preprocess and vocab as far as they are there and belong to data.corpus.

    pairs: how many to plan for; None: as many as there are. Raises InputError when neither is known.
    """
    about, text, vocabulary = _about(where.folder / "about.json", params), where.text, where.vocabulary
    notes = []
    if about is None or not text.exists():
        if pairs is None:
            raise InputError(
                f"{text}: {params.data.corpus} is not there yet; run dvc repro vocab, or give its size with --pairs."
            )
        found, train, dev, test = list(made_up(params.seed)), pairs, HELD_OUT, HELD_OUT
        notes.append(f"{params.data.corpus} is not there yet: sentences of {WORDS} words assumed.")
    else:
        found, train = thinned(text, MOST)
        dev, test = about
        if pairs is not None:
            notes.append(f"{pairs:,} pairs like the {train:,} of {text} assumed.")
        train = train if pairs is None else pairs
    if not found:
        raise InputError(f"{text}: there is no pair in it; make the file anew with dvc repro.")
    known = vocabulary.exists() and about is not None
    pieces = vocab.load(vocabulary) if known else _learnt(found, params.vocab.size)
    if not known:
        notes.append("The vocabulary is not there yet: pieces of one learnt from a part of the text assumed.")
    return CorpusSample(found, pieces, train, dev, test, tuple(notes))


def _about(path: Path, params: Params) -> tuple[int, int] | None:
    """The dev and test pairs of the corpus there, if it is that of params."""
    if not path.exists():
        return None
    found, data = bitext.read_about(path), params.data
    if [found.get(name) for name in ("corpus", "source", "target")] != [data.corpus, data.source, data.target]:
        return None
    pairs = found.get("pairs", {})
    return pairs.get("dev", 0), pairs.get("test", 0)


def thinned(path: Path, most: int) -> tuple[list[Pair], int]:
    """At most so many pairs of a text, evenly taken, and how many it has. Raises InputError for a broken line."""
    count = sum(1 for _ in bitext.stream(path))
    return list(islice(bitext.stream(path), 0, None, max(1, -(-count // most)))), count


def made_up(seed: int) -> Iterator[Pair]:
    """MOST pairs of words that mean nothing, of lengths around WORDS."""
    drawn = random.Random(seed)
    words = ["".join(drawn.choices("abcdefghijklmnopqrstuvwxyz", k=drawn.randint(2, 9))) for _ in range(500)]
    for line in range(MOST):
        length = min(LONGEST, max(1, round(drawn.gammavariate(4, WORDS / 4))))
        source, target = (" ".join(drawn.choices(words, k=length)) for _ in range(2))
        yield Pair(line, source, target)


def _learnt(pairs: list[Pair], size: int) -> Vocab:
    """A vocabulary as near to size as some of the pairs can fill."""
    texts = [side for pair in pairs[:2000] for side in (pair.source, pair.target)]
    with TemporaryDirectory() as folder:
        while True:
            try:
                return vocab.train(texts, Path(folder, "joint.model"), size=size)
            except InputError:
                if size < 100:
                    raise
                size = size * 2 // 3
