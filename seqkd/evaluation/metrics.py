"""Corpus scores by sacreBLEU, each with the signature that makes it comparable; and its 13a words."""

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

from sacrebleu.metrics.base import Metric
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

_BLEU, _CHRF = BLEU(tokenize="13a"), CHRF()


class Score(NamedTuple):
    value: float  # 0 to 100
    signature: str


def bleu(hypotheses: Sequence[str], references: Sequence[str]) -> Score:
    """Corpus BLEU over 13a words, one reference each. Raises ValueError for unequal counts."""
    return _corpus(BLEU(tokenize="13a"), hypotheses, references)


def chrf(hypotheses: Sequence[str], references: Sequence[str]) -> Score:
    """Corpus chrF2, one reference each. Raises ValueError for unequal counts."""
    return _corpus(CHRF(), hypotheses, references)


def _corpus(metric: Metric, hypotheses: Sequence[str], references: Sequence[str]) -> Score:
    if len(hypotheses) != len(references):
        raise ValueError(f"{len(hypotheses)} hypotheses against {len(references)} references")
    value = metric.corpus_score(hypotheses, [references]).score
    return Score(float(value), str(metric.get_signature()))


def bleu_from_counts(counts: Sequence[int]) -> Score:
    """Corpus BLEU from summed counts: words, reference words, 4 of matched n-grams, 4 of all n-grams."""
    if len(counts) != 10:
        raise ValueError(f"{len(counts)} counts; BLEU has 10")
    words, reference_words, *rest = counts
    score = BLEU.compute_bleu(rest[:4], rest[4:], sys_len=words, ref_len=reference_words, smooth_method="exp")
    return Score(float(score.score), bleu([""], [""]).signature)


def sentence_chrf(hypothesis: str, reference: str) -> float:
    """chrF2 of one sentence, 0 to 100."""
    return float(_CHRF.sentence_score(hypothesis, [reference]).score)


def tokenize(text: str) -> list[str]:
    """The 13a words of one line of text, as BLEU counts them."""
    return list(chain.from_iterable(map(_SPACED.__getitem__, text.split())))


class _Spaced(dict[str, tuple[str, ...]]):
    """Each spaced word tokenised once: 13a never looks across white space, and its regular expressions are slow."""

    def __missing__(self, spaced: str) -> tuple[str, ...]:
        if len(self) >= 1 << 20:
            self.clear()
        found = self[spaced] = (spaced,) if spaced.isalnum() else tuple(_BLEU.tokenizer(spaced).split())
        return found


_SPACED = _Spaced()


def length_ratio(hypotheses: Sequence[str], references: Sequence[str]) -> float:
    """13a words of the hypotheses to those of the references."""
    return sum(len(tokenize(text)) for text in hypotheses) / max(1, sum(len(tokenize(text)) for text in references))
