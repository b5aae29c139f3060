"""n-best lists of text, as an external teacher gives them: the pieces of such a list are Unicode's code points.

So its lines are kept, checked and written as those of our own lists, before there is a vocabulary. Once there is one,
`encode` turns them into the students' pieces.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from seqkd.data import bitext, faults, nbest
from seqkd.data.nbest import Hypothesis
from seqkd.data.normalization import normalize
from seqkd.data.vocab import Vocab

# Beside the folders of a teacher's rows, none of which has such a name:
TEST = "test.set"  # the folder of its lists of the test set
VOCAB = "vocab.model"  # its sentencepiece model with the students' special pieces, where vocab.from names the teacher


class TextHypothesis(NamedTuple):
    text: str
    score: float | None  # log-probability of the whole sentence, nats; None: not known
    finished: bool = True  # False: cut off at the greatest length


def to_nbest(hypotheses: Iterable[TextHypothesis]) -> list[Hypothesis]:
    """Return hypotheses, best first, as an n-best list of characters; each text in its normal form."""
    return [_to_characters(hypothesis) for hypothesis in hypotheses]


def _to_characters(hypothesis: TextHypothesis) -> Hypothesis:
    text, score, finished = hypothesis
    return Hypothesis(tuple(map(ord, normalize(text))), math.nan if score is None else min(score, 0.0), finished)


def _text(hypothesis: Hypothesis) -> str:
    """Return the text of a hypothesis that `to_nbest` made."""
    return "".join(map(chr, hypothesis.ids))


def encode(
    hypotheses: Sequence[Hypothesis], vocab: Vocab, *, source: str
) -> tuple[list[Hypothesis], list[tuple[str, str]]]:
    """Return a source's hypotheses of characters as those of a vocabulary's pieces, and what does not come back.

    The second are the texts that differ when they are decoded again, each with what it has become.
    """
    texts = [_text(hypothesis) for hypothesis in hypotheses]
    pieces = [vocab.encode(text, source) for text in texts]
    decoded = vocab.decode_all(pieces, [source] * len(pieces))
    changed = [(before, after) for before, after in zip(texts, decoded, strict=True) if before != after]
    encoded = [each._replace(ids=tuple(ids)) for each, ids in zip(hypotheses, pieces, strict=True)]
    return encoded, changed


def best(folder: Path, text: Path) -> Iterator[str]:
    """Yield the best hypothesis of each line of a list of characters.

    text: the pairs that the list belongs to. Raise InputError for another list.
    """
    paths = nbest.parts(folder, lines=bitext.count_pairs(text))
    for path, pairs in zip(paths, nbest.chunks(bitext.stream(text)), strict=True):
        yield from (_text(hypotheses[0]) for _, hypotheses in nbest.read_part(path, pairs))


def sound(folder: Path, text: Path) -> Iterator[str]:
    """Yield what `best` does, but for those hypotheses that teach badly."""
    for pair, target in zip(bitext.stream(text), best(folder, text), strict=True):
        if faults.fault(pair.source, target) is None:
            yield target
