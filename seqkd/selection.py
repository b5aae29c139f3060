"""Selection: which hypothesis of an n-best list a student trains on (Kim & Rush 2016, sections 3.2 and 3.3)."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

from seqkd import nbest, scores, vocab
from seqkd.audit import Tally
from seqkd.config import Select
from seqkd.corpus import Pair

ORDERS = 4  # BLEU counts n-grams of 1 to 4 words
Gram = tuple[str, ...]
Smoothing = Literal["none", "floor", "add-k", "exp"]


class Reference:
    """A human target as BLEU sees it, ready to be compared with many hypotheses."""

    def __init__(self, words: Sequence[str]) -> None:
        self.length = len(words)
        self._orders: list[tuple[frozenset[Gram], Counter[Gram] | None]] = []
        for order in range(1, ORDERS + 1):
            found = Counter(_grams(words, order))
            # How often each may match is looked up only where one stands more than once.
            self._orders.append((frozenset(found), found if len(found) < found.total() else None))

    def counts(self, words: Sequence[str]) -> list[int]:
        """Words, reference words, matched n-grams of each order, all n-grams of each order: 10 numbers."""
        matched = [0] * ORDERS
        for order, (wanted, limits) in enumerate(self._orders, start=1):
            common = wanted.intersection(_grams(words, order))
            if not common:
                break  # then no longer n-gram is common either
            if limits is None:
                matched[order - 1] = len(common)
            else:
                found = list(_grams(words, order))
                matched[order - 1] = sum([min(limits[gram], found.count(gram)) for gram in common])
        seen = len(words)
        return [seen, self.length, *matched, seen, max(0, seen - 1), max(0, seen - 2), max(0, seen - 3)]


def _grams(words: Sequence[str], order: int) -> Iterator[Gram]:
    return zip(*[words[start:] for start in range(order)], strict=False)


def sentence_bleu(counts: Sequence[int], *, smoothing: Smoothing, value: float) -> float:
    """Smoothed BLEU of one sentence, 0 to 100, from Reference.counts: sacreBLEU's, with its effective order.

    smoothing: the methods of Chen & Cherry (2014): floor 1, add-k 2, exp 3. value: the floor or the k.
    """
    length, wanted = counts[:2]
    if not any(counts[2:6]):
        return 0.0
    precisions, halving = [], 1
    for order, (matched, total) in enumerate(zip(counts[2:6], counts[6:], strict=True)):
        more = value if smoothing == "add-k" and order else 0
        if total + more == 0:
            break
        if matched + more:
            precisions.append(100.0 * (matched + more) / (total + more))
        elif smoothing == "exp":
            halving *= 2
            precisions.append(100.0 / (halving * total))
        elif smoothing == "floor" and value:
            precisions.append(100.0 * value / total)
        else:
            return 0.0
    penalty = math.exp(1 - wanted / length) if length < wanted else 1.0
    return penalty * math.exp(sum([math.log(precision) for precision in precisions]) / len(precisions))


def ratings(texts: Sequence[str], reference: str, settings: Select) -> list[float]:
    """How close each text, best-scored first, comes to what settings asks for; a text without words comes last."""
    if settings.pick == "score":
        found = {text: -float(rank) for rank, text in reversed(list(enumerate(texts)))}
    elif settings.pick == "chrf":
        found = {text: scores.sentence_chrf(text, reference) for text in dict.fromkeys(texts)}
    else:
        human = Reference(scores.words(reference))
        smoothing, value = settings.smoothing, settings.smoothing_value
        found = {
            text: sentence_bleu(human.counts(scores.words(text)), smoothing=smoothing, value=value)
            for text in dict.fromkeys(texts)
        }
    return [found[text] if text else -math.inf for text in texts]


def pick(texts: Sequence[str], reference: str, settings: Select) -> int:
    """The rank of the closest text; of equally close ones, the better rank."""
    return _best(ratings(texts, reference, settings))


def _best(found: Sequence[float]) -> int:
    return found.index(max(found))


class Part(NamedTuple):
    """A part of an n-best list and the human pairs it belongs to."""

    path: Path
    pairs: list[Pair]


def parts(folder: Path, pairs: Sequence[Pair]) -> list[Part]:
    """An n-best list beside the pairs of its text. Raises InputError where a part is missing or too many."""
    found = nbest.parts(folder, lines=len(pairs))
    return [Part(path, list(pairs[nbest.positions(index)])) for index, path in enumerate(found)]


def choose(part: Part, *, model: Path, settings: Select) -> tuple[dict[int, str], Tally]:
    """The chosen text of each line by id, detokenised, and the part's audit. Raises InputError for a wrong join."""
    pieces, tally = _vocab(model), Tally()
    chosen: dict[int, str] = {}
    entries = nbest.read_part(part.path, [pair.id for pair in part.pairs])
    for pair, (line, hypotheses) in zip(part.pairs, entries, strict=True):
        texts = [pieces.decode(hypothesis.ids) for hypothesis in hypotheses]
        found = ratings(texts, pair.target, settings)
        rank = _best(found)
        chosen[line] = texts[rank]
        tally.line(hypotheses, texts, rank)
        tally.ties += len({text for text, rating in zip(texts, found, strict=True) if rating == found[rank]}) > 1
        human = Reference(scores.words(pair.target))
        tally.compared(*(human.counts(scores.words(text)) for text in (texts[rank], texts[0])))
    return chosen, tally


_vocab = cache(vocab.load)  # one a process

__all__ = ["Part", "Reference", "choose", "parts", "pick", "ratings", "sentence_bleu"]
