"""How good the weights are that are sent: their translations of a test set, scored, with intervals."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from seqkd.data import bitext
from seqkd.decoding import beam_search
from seqkd.models.checkpoint import Model
from seqkd.utils import fingerprint

BEAMS = (1, 5)
LENGTH_PENALTY = 1.0  # as `seqkd translate` has it
Translate = Callable[[Sequence[str], int], Sequence[str]]  # texts and beam -> translations


class Estimate(NamedTuple):
    """A corpus score, and how sure it is."""

    metric: str
    value: float  # 0 to 100
    interval: float  # half of the 95 % bootstrap interval
    signature: str


class TestScores(NamedTuple):
    """What one search reached on the test set."""

    data: str  # the test set's name and checksum
    sentences: int
    beam: int
    estimates: Sequence[Estimate]


def measure(
    translate: Translate, test: Path | None, *, language: str, beams: Iterable[int] = BEAMS
) -> list[TestScores]:
    """Return the scores of each beam on the pairs of a file; none without a file. language: the target's code."""
    if test is None:
        return []
    pairs = bitext.read(test)
    sources, references = [pair.source for pair in pairs], [pair.target for pair in pairs]
    data = f"{test.name} (sha256 {fingerprint.file_sha256(test)[:16]})"
    return [
        TestScores(data, len(pairs), beam, estimates(translate(sources, beam), references, language=language))
        for beam in beams
    ]


def estimates(texts: Sequence[str], references: Sequence[str], *, language: str) -> list[Estimate]:
    """Return BLEU and chrF2 with their intervals; language: the target's code, which chooses BLEU's tokenizer."""
    from seqkd.evaluation import metrics, significance  # sacreBLEU is no base library

    tokenizer = metrics.tokenizer_name(language)
    scorer = significance.Scorer(references, tokenizer=tokenizer)
    bleu, chrf = metrics.bleu(texts, references, tokenizer=tokenizer), metrics.chrf(texts, references)
    found = []
    for name, score in (("BLEU", bleu), ("chrF2", chrf)):
        metric = name.lower().rstrip("2")
        sample = scorer.sample(metric, scorer.statistics(metric, texts))
        found.append(Estimate(name, score.value, sample.half_width(), score.signature))
    return found


def searcher(model: Model) -> Translate:
    """Return the translation of texts by a model's own search."""

    def translate(texts: Sequence[str], beam: int) -> Sequence[str]:
        sources = model.vocab.encode_all(list(texts))
        lists = beam_search.decode(model.network, sources, beam=beam, length_penalty=LENGTH_PENALTY)
        return model.vocab.decode_all([nbest[0].ids for nbest in lists], texts)

    return translate
