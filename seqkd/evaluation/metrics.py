"""BLEU and chrF by sacreBLEU, each with the signature that makes it comparable; 13a tokenization."""

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

from sacrebleu.metrics.base import Metric
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

_BLEU, _CHRF = BLEU(tokenize="13a"), CHRF()
CACHE_SIZE = 1 << 20  # strings


class Score(NamedTuple):
    value: float  # 0 to 100
    signature: str


def bleu(hypotheses: Sequence[str], references: Sequence[str]) -> Score:
    """Return corpus BLEU over 13a tokens, one reference each. Raises ValueError for unequal counts."""
    return _corpus_score(BLEU(tokenize="13a"), hypotheses, references)


def chrf(hypotheses: Sequence[str], references: Sequence[str]) -> Score:
    """Return corpus chrF2, one reference each. Raises ValueError for unequal counts."""
    return _corpus_score(CHRF(), hypotheses, references)


def _corpus_score(metric: Metric, hypotheses: Sequence[str], references: Sequence[str]) -> Score:
    if len(hypotheses) != len(references):
        raise ValueError(f"{len(hypotheses)} hypotheses against {len(references)} references")
    value = metric.corpus_score(hypotheses, [references]).score
    return Score(float(value), str(metric.get_signature()))


def bleu_from_counts(counts: Sequence[int]) -> Score:
    """Return corpus BLEU from the sums of 10 counts, those of `sentence_bleu.counts`.

    They are: words, words of the reference, matched n-grams of 1 to 4 words, all n-grams of 1 to 4 words.
    """
    if len(counts) != 10:
        raise ValueError(f"{len(counts)} counts; BLEU has 10")
    words, reference_words, *ngrams = counts
    score = BLEU.compute_bleu(ngrams[:4], ngrams[4:], sys_len=words, ref_len=reference_words, smooth_method="exp")
    return Score(float(score.score), bleu([""], [""]).signature)


def sentence_chrf(hypothesis: str, reference: str) -> float:
    """Return chrF2 of one sentence, 0 to 100."""
    return float(_CHRF.sentence_score(hypothesis, [reference]).score)


def tokenize(text: str) -> list[str]:
    """Return the 13a tokens of one line of text, which are the words that BLEU counts."""
    return list(chain.from_iterable(map(_CACHE.__getitem__, text.split())))


class _TokenCache(dict[str, tuple[str, ...]]):
    """The tokens of each string without spaces, computed once.

    13a never looks across white space, and its regular expressions are slow.
    """

    def __missing__(self, string: str) -> tuple[str, ...]:
        if len(self) >= CACHE_SIZE:
            self.clear()
        tokens = self[string] = (string,) if string.isalnum() else tuple(_BLEU.tokenizer(string).split())
        return tokens


_CACHE = _TokenCache()


def length_ratio(hypotheses: Sequence[str], references: Sequence[str]) -> float:
    """Return the number of 13a tokens of the hypotheses divided by that of the references."""
    return sum(len(tokenize(text)) for text in hypotheses) / max(1, sum(len(tokenize(text)) for text in references))
