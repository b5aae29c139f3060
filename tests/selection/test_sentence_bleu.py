import random
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import sacrebleu
from hypothesis import given
from hypothesis import strategies as st

from seqkd.data.normalization import normalize
from seqkd.evaluation import metrics
from seqkd.selection import select, sentence_bleu

WORDS = ["der", "die", "Hund", "Katze", "schläft", "3.5", "am", "See.", "(ja)", "e.g.,", "a-b", "&amp;", "1-2", "..."]
ODD = [*"aZ09.,-&;<>'\"/()äß²½中🙂 ", "  ", "\u00a0", "\u2003", "\x85", "\x1c", "\ud800", "<skipped>", "&lt;", "&quot;"]
SMOOTHINGS: list[tuple[sentence_bleu.Smoothing, float]] = [
    ("none", 0.0),
    ("floor", 0.1),
    ("floor", 0.0),
    ("add-k", 1.0),
    ("add-k", 0.5),
    ("add-k", 0.0),
    ("exp", 0.0),
]
Pairs = list[tuple[str, str]]


def _sentences(max_words: int) -> Pairs:
    """Random sentences, half of them with a reference close to them."""
    generator = random.Random(5)
    pairs = []
    for _ in range(1500):
        one = generator.choices(WORDS, k=generator.randint(0, max_words))
        other = generator.choices(WORDS, k=generator.randint(1, max_words))
        if generator.random() < 0.5 and one:
            other = [word if generator.random() < 0.8 else generator.choice(WORDS) for word in one]
        pairs.append((" ".join(one), " ".join(other)))
    return pairs


def _noise(kinds: Sequence[str], count: int) -> Pairs:
    """Strings of random characters and their copies with some of them exchanged."""
    generator = random.Random(7)
    pairs = []
    for _ in range(count):
        one = generator.choices(kinds, k=generator.randint(0, 40))
        other = [mark if generator.random() < 0.9 else generator.choice(kinds) for mark in one]
        pairs.append(("".join(one), "".join(other)))
    return pairs


def _any_character() -> list[str]:
    """Letters that repeat, and code points of the whole of Unicode but line feeds."""
    generator = random.Random(9)
    drawn = [generator.randrange(11, generator.choice([800, 0x110000])) for _ in range(400)]
    return [*"ab1., ", *map(chr, drawn)]


def _counts(pairs: Pairs, tokenizer: str = "13a") -> sentence_bleu.Integers:
    words = select.encode([text for pair in pairs for text in pair], tokenizer)
    rows = np.arange(len(pairs), dtype=np.int32)
    return sentence_bleu.counts(words, 2 * rows, 2 * rows + 1)


def _ngrams(words: Sequence[str], order: int) -> Counter[tuple[str, ...]]:
    return Counter(zip(*[words[start:] for start in range(order)], strict=False))


def _counts_by_definition(hypothesis: Sequence[str], reference: Sequence[str]) -> list[int]:
    matched, total = [], []
    for order in range(1, 5):
        ours, theirs = (_ngrams(words, order) for words in (hypothesis, reference))
        matched.append((ours & theirs).total())
        total.append(ours.total())
    return [len(hypothesis), len(reference), *matched, *total]


CASES: dict[str, Callable[[], Pairs]] = {
    "short sentences": lambda: _sentences(4),
    "sentences": lambda: _sentences(16),
    "long sentences": lambda: _sentences(90),
    "odd characters": lambda: _noise(ODD, 2000),
    "any characters": lambda: _noise(_any_character(), 1000),
    "two words": lambda: _noise(["a ", "b "], 500),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_sentence_bleu_equals_sacrebleus_to_the_last_bit(case: str) -> None:
    pairs = CASES[case]()
    counts = _counts(pairs)
    for smoothing, value in SMOOTHINGS:
        metric = sacrebleu.BLEU(smooth_method=smoothing, smooth_value=value, effective_order=True)
        ours = sentence_bleu.bleu(counts, smoothing=smoothing, value=value).tolist()
        for pair, score in zip(pairs, ours, strict=True):
            assert score == metric.sentence_score(pair[0], [pair[1]]).score, (smoothing, pair)


# Strings that tokenizers split, join or leave alone by what stands beside them, a space or the end of a line.
STRINGS = [
    "a",
    "ab",
    " ",
    "  ",
    ".",
    ",",
    "3",
    "-",
    "&amp;",
    "\u3000",
    "。",
    "，",
    "３",
    "…",
    "我",
    "喜欢",
    "𠀀",
    "ｶﾞ",
    "東京",
    "に",
    "です",
]
STRINGS += ["한국", "어", "สวัส", "ดี", "ကို", "e\u0301", "\u200b", "(", "%", "<skipped>", "\u00a0", "\x85"]
TEXTS = st.lists(st.sampled_from(STRINGS), max_size=16)


@pytest.fixture(params=["13a", "zh", "char", "ja-mecab", "ko-mecab"])
def tokenizer(request: pytest.FixtureRequest) -> str:
    """Return the name of each of sacreBLEU's tokenizers that seqkd uses; skip one whose packages are not installed."""
    for name in metrics.PACKAGES.get(request.param, ()):
        pytest.importorskip(name)
    return str(request.param)


@given(one=TEXTS, other=TEXTS, kept=st.integers(0, 16), noise=st.text(max_size=8))
def test_sentence_bleu_by_every_tokenizer_equals_sacrebleus_to_the_last_bit(
    tokenizer: str, one: list[str], other: list[str], kept: int, noise: str
) -> None:
    hypothesis, reference = "".join([*one, noise]), "".join([*one[:kept], *other, noise])
    pair = (normalize(hypothesis), normalize(reference)) if "mecab" in tokenizer else (hypothesis, reference)
    counts = _counts([pair, pair[::-1]], tokenizer)
    for smoothing, value in SMOOTHINGS:
        metric = sacrebleu.BLEU(tokenize=tokenizer, smooth_method=smoothing, smooth_value=value, effective_order=True)
        expected = [metric.sentence_score(one, [other]).score for one, other in (pair, pair[::-1])]
        assert sentence_bleu.bleu(counts, smoothing=smoothing, value=value).tolist() == expected, (smoothing, pair)


@pytest.mark.parametrize("case", CASES)
def test_sentence_bleu_counts_are_those_of_the_definition(case: str) -> None:
    pairs = CASES[case]()
    for (hypothesis, reference), counts in zip(pairs, _counts(pairs).tolist(), strict=True):
        assert counts == _counts_by_definition(
            *(metrics.tokenize(text, tokenizer="13a") for text in (hypothesis, reference))
        )


def test_sentence_bleu_by_hand() -> None:
    counts = _counts([("a b d", "a b c d")])
    assert counts.tolist() == [[3, 4, 3, 1, 0, 0, 3, 2, 1, 0]]
    add_one = 100 * (1 * (2 / 3) * (1 / 2) * (1 / 1)) ** (1 / 4) * 2.718281828459045 ** (1 - 4 / 3)
    assert sentence_bleu.bleu(counts, smoothing="add-k", value=1.0).tolist() == [pytest.approx(add_one)]


def test_sentence_bleu_matches_repeated_words_no_oftener_than_the_reference_has_them() -> None:
    counts = _counts([("the the the the", "the cat the"), ("the the the the", "the cat")])
    assert counts.tolist() == [[4, 3, 2, 0, 0, 0, 4, 3, 2, 1], [4, 2, 1, 0, 0, 0, 4, 3, 2, 1]]


def test_encode_gives_equal_words_equal_ids_and_tokenizes_each_string_once() -> None:
    tokenized: list[str] = []

    def tokenize(string: str) -> list[str]:
        tokenized.append(string)
        return string.split("-")

    words = sentence_bleu.encode(["a  b-a", "", "b-a 🙂 a "], tokenize)
    assert words.ids.tolist() == [0, 1, 0, 1, 0, 2, 0]
    assert words.starts.tolist() == [0, 3, 3, 7]
    assert tokenized == ["a", "b-a", "🙂"]


def test_sentence_bleu_counts_pairs_of_any_texts_in_any_order() -> None:
    words = sentence_bleu.encode(["a b", "b a", "c"], str.split)
    hypotheses, references = np.array([0, 1, 2, 0], np.int32), np.array([1, 0, 2, 1], np.int32)
    matched = sentence_bleu.counts(words, hypotheses, references)[:, 2:4].tolist()
    assert matched == [[2, 0], [2, 0], [1, 0], [2, 0]]


def test_sentence_bleu_of_no_pairs_is_empty() -> None:
    nothing = np.zeros(0, np.int32)
    counts = sentence_bleu.counts(sentence_bleu.encode([], str.split), nothing, nothing)
    assert counts.shape == (0, sentence_bleu.COUNTS)
    assert sentence_bleu.bleu(counts, smoothing="exp", value=0.0).shape == (0,)
