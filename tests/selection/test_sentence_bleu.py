import random
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import sacrebleu

from seqkd.evaluation import metrics
from seqkd.selection import sentence_bleu

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


def _sentences(longest: int) -> Pairs:
    """Random sentences, half of them with a reference close to them."""
    generator = random.Random(5)
    found = []
    for _ in range(1500):
        one = generator.choices(WORDS, k=generator.randint(0, longest))
        other = generator.choices(WORDS, k=generator.randint(1, longest))
        if generator.random() < 0.5 and one:
            other = [word if generator.random() < 0.8 else generator.choice(WORDS) for word in one]
        found.append((" ".join(one), " ".join(other)))
    return found


def _noise(kinds: Sequence[str], count: int) -> Pairs:
    """Strings of random characters and their copies with some of them exchanged."""
    generator = random.Random(7)
    found = []
    for _ in range(count):
        one = generator.choices(kinds, k=generator.randint(0, 40))
        other = [mark if generator.random() < 0.9 else generator.choice(kinds) for mark in one]
        found.append(("".join(one), "".join(other)))
    return found


def _any_character() -> list[str]:
    """Letters that repeat, and code points of the whole of Unicode but line feeds."""
    generator = random.Random(9)
    drawn = [generator.randrange(11, generator.choice([800, 0x110000])) for _ in range(400)]
    return [*"ab1., ", *map(chr, drawn)]


def _counts(pairs: Pairs) -> sentence_bleu.Integers:
    words = sentence_bleu.encode([text for pair in pairs for text in pair], metrics.tokenize)
    places = np.arange(len(pairs), dtype=np.int32)
    return sentence_bleu.counts(words, 2 * places, 2 * places + 1)


def _counts_by_definition(hypothesis: Sequence[str], reference: Sequence[str]) -> list[int]:
    matched, seen = [], []
    for order in range(1, 5):
        one, other = (Counter(zip(*[it[at:] for at in range(order)], strict=False)) for it in (hypothesis, reference))
        matched.append((one & other).total())
        seen.append(one.total())
    return [len(hypothesis), len(reference), *matched, *seen]


CASES: dict[str, Callable[[], Pairs]] = {
    "short sentences": lambda: _sentences(4),
    "sentences": lambda: _sentences(16),
    "long sentences": lambda: _sentences(90),
    "odd characters": lambda: _noise(ODD, 2000),
    "any characters": lambda: _noise(_any_character(), 1000),
    "two words": lambda: _noise(["a ", "b "], 500),
}


@pytest.mark.parametrize("case", CASES)
def test_sentence_bleu_equals_sacrebleus_to_the_last_bit(case: str) -> None:
    pairs = CASES[case]()
    counts = _counts(pairs)
    for smoothing, value in SMOOTHINGS:
        metric = sacrebleu.BLEU(smooth_method=smoothing, smooth_value=value, effective_order=True)
        ours = sentence_bleu.bleu(counts, smoothing=smoothing, value=value).tolist()
        for pair, score in zip(pairs, ours, strict=True):
            assert score == metric.sentence_score(pair[0], [pair[1]]).score, (smoothing, pair)


@pytest.mark.parametrize("case", CASES)
def test_counts_are_those_of_the_definition(case: str) -> None:
    pairs = CASES[case]()
    for (hypothesis, reference), found in zip(pairs, _counts(pairs).tolist(), strict=True):
        assert found == _counts_by_definition(metrics.tokenize(hypothesis), metrics.tokenize(reference))


def test_sentence_bleu_by_hand() -> None:
    counts = _counts([("a b d", "a b c d")])
    assert counts.tolist() == [[3, 4, 3, 1, 0, 0, 3, 2, 1, 0]]
    add_one = 100 * (1 * (2 / 3) * (1 / 2) * (1 / 1)) ** (1 / 4) * 2.718281828459045 ** (1 - 4 / 3)
    assert sentence_bleu.bleu(counts, smoothing="add-k", value=1.0).tolist() == [pytest.approx(add_one)]


def test_repeated_words_match_no_oftener_than_the_reference_has_them() -> None:
    found = _counts([("the the the the", "the cat the"), ("the the the the", "the cat")])
    assert found.tolist() == [[4, 3, 2, 0, 0, 0, 4, 3, 2, 1], [4, 2, 1, 0, 0, 0, 4, 3, 2, 1]]


def test_equal_words_have_equal_numbers_and_each_spaced_piece_is_tokenised_once() -> None:
    asked: list[str] = []

    def tokenise(piece: str) -> list[str]:
        asked.append(piece)
        return piece.split("-")

    found = sentence_bleu.encode(["a  b-a", "", "b-a 🙂 a "], tokenise)
    assert found.ids.tolist() == [0, 1, 0, 1, 0, 2, 0]
    assert found.starts.tolist() == [0, 3, 3, 7]
    assert asked == ["a", "b-a", "🙂"]


def test_a_pair_may_name_any_texts_in_any_order() -> None:
    words = sentence_bleu.encode(["a b", "b a", "c"], str.split)
    hypotheses, references = np.array([0, 1, 2, 0], np.int32), np.array([1, 0, 2, 1], np.int32)
    found = sentence_bleu.counts(words, hypotheses, references)[:, 2:4].tolist()
    assert found == [[2, 0], [2, 0], [1, 0], [2, 0]]


def test_nothing_to_compare_gives_nothing() -> None:
    nothing = np.zeros(0, np.int32)
    counts = sentence_bleu.counts(sentence_bleu.encode([], str.split), nothing, nothing)
    assert counts.shape == (0, sentence_bleu.COUNTS)
    assert sentence_bleu.bleu(counts, smoothing="exp", value=0.0).shape == (0,)
