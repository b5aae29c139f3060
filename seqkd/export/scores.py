"""How good the weights are that are sent: their translations of a test set, scored, with intervals."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from seqkd.data import bitext
from seqkd.decoding import beam_search
from seqkd.models.checkpoint import Model
from seqkd.utils import fingerprint

if TYPE_CHECKING:  # sacreBLEU is no base library
    from seqkd.evaluation.metrics import Estimate

BEAMS = (1, 5)
LENGTH_PENALTY = 1.0  # as `seqkd translate` has it
Translate = Callable[[Sequence[str], int], Sequence[str]]  # texts and beam -> translations


class TestScores(NamedTuple):
    """What one search reached on the test set."""

    data: str  # the test set's name and checksum
    sentences: int
    beam: int
    estimates: Sequence["Estimate"]


def measure(
    translate: Translate, test: Path | None, *, language: str, beams: Iterable[int] = BEAMS
) -> list[TestScores]:
    """Return the scores of each beam on the pairs of a file; none without a file. language: the target's code."""
    if test is None:
        return []
    from seqkd.evaluation import metrics

    pairs = bitext.read(test)
    sources, references = [pair.source for pair in pairs], [pair.target for pair in pairs]
    data = f"{test.name} (sha256 {fingerprint.file_sha256(test)[:16]})"
    found, tokenizer = [], metrics.tokenizer_name(language)
    for beam in beams:
        estimates = metrics.estimates(translate(sources, beam), references, tokenizer=tokenizer)
        found.append(TestScores(data, len(pairs), beam, estimates))
    return found


def searcher(model: Model) -> Translate:
    """Return the translation of texts by a model's own search."""

    def translate(texts: Sequence[str], beam: int) -> Sequence[str]:
        sources = model.vocab.encode_all(list(texts))
        lists = beam_search.decode(model.network, sources, beam=beam, length_penalty=LENGTH_PENALTY)
        return model.vocab.decode_all([nbest[0].ids for nbest in lists])

    return translate
