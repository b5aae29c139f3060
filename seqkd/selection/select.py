"""Selection: which hypothesis of an n-best list a student trains on (Kim & Rush 2016, sections 3.2 and 3.3)."""

import math
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import accumulate, chain, pairwise, starmap
from pathlib import Path
from typing import NamedTuple

import numpy as np

from seqkd.config.schema import SelectSettings
from seqkd.data import bitext, nbest, vocab
from seqkd.data.bitext import Pair
from seqkd.evaluation import metrics
from seqkd.selection import sentence_bleu
from seqkd.selection.audit import SelectionStats
from seqkd.utils.errors import InputError


class ScoredList(NamedTuple):
    """The texts of one line, best-scored first."""

    ratings: list[float]  # how close each comes to what is asked for; one without words comes last
    counts: sentence_bleu.Integers  # (texts, 10), as corpus BLEU sums them

    @property
    def best(self) -> int:
        """The rank of the closest; of equally close ones, the better rank."""
        return self.ratings.index(max(self.ratings))


def score(lists: Sequence[Sequence[str]], references: Sequence[str], settings: SelectSettings) -> Iterator[ScoredList]:
    """For each reference, how close each text of its list comes to it."""
    sizes = [len(texts) for texts in lists]
    words = sentence_bleu.encode([*references, *chain.from_iterable(lists)], metrics.tokenize)
    hypotheses = np.arange(len(lists), len(lists) + sum(sizes), dtype=np.int32)
    counts = sentence_bleu.counts(words, hypotheses, np.repeat(np.arange(len(lists), dtype=np.int32), sizes))
    bleu = sentence_bleu.bleu(counts, smoothing=settings.smoothing, value=settings.smoothing_value)
    for texts, reference, (begin, end) in zip(lists, references, pairwise(accumulate(sizes, initial=0)), strict=True):
        if settings.metric == "score":
            found = {text: -float(rank) for rank, text in reversed(list(enumerate(texts)))}
        elif settings.metric == "chrf":
            found = {text: metrics.sentence_chrf(text, reference) for text in dict.fromkeys(texts)}
        else:
            found = dict(zip(texts, bleu[begin:end].tolist(), strict=True))
        yield ScoredList([found[text] if text else -math.inf for text in texts], counts[begin:end])


class Part(NamedTuple):
    """A part of an n-best list and the human pairs it belongs to."""

    path: Path
    pairs: list[Pair]


def parts(folder: Path, pairs: Iterable[Pair], *, lines: int) -> Iterator[Part]:
    """An n-best list beside the pairs of its text, which has so many lines; neither is held whole.

    Raises InputError where a part is missing or too many.
    """
    return starmap(Part, zip(nbest.parts(folder, lines=lines), nbest.chunks(pairs), strict=True))


def choose(part: Part, *, model: Path, settings: SelectSettings) -> tuple[list[Pair], SelectionStats]:
    """The part's sources with the texts chosen, detokenised, and its audit. Raises InputError for a wrong join."""
    tally, chosen = SelectionStats(), dict[int, str]()
    lines = [hypotheses for _, hypotheses in nbest.read_part(part.path, part.pairs)]
    try:
        decoded = iter(_vocab(model).decode_all([hypothesis.ids for hypotheses in lines for hypothesis in hypotheses]))
    except InputError as error:
        raise InputError(f"{part.path}: {error}") from None
    lists = [[next(decoded) for _ in hypotheses] for hypotheses in lines]
    rated = score(lists, [pair.target for pair in part.pairs], settings)
    for pair, hypotheses, texts, found in zip(part.pairs, lines, lists, rated, strict=True):
        rank = found.best
        chosen[pair.id] = texts[rank]
        tally.line(hypotheses, texts, rank)
        tied = {text for text, rating in zip(texts, found.ratings, strict=True) if rating == found.ratings[rank]}
        tally.ties += len(tied) > 1
        tally.compared(found.counts[rank].tolist(), found.counts[0].tolist())
    return bitext.join_by_id(part.pairs, chosen, where=str(part.path)), tally


_vocab = cache(vocab.load)  # one a process

__all__ = ["Part", "ScoredList", "choose", "parts", "score"]
