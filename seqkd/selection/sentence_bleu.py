# mypy: disable-error-code="no-untyped-def"
"""Sentence BLEU of many hypotheses at once: words become numbers, n-grams are counted and scored in compiled loops.

The scores are sacreBLEU's to the last bit. A text is cut at its spaces, each distinct piece is tokenised once, and what
counts n-grams sees only numbers.
"""

import math
import sys
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seqkd.utils.jit import compiler

Smoothing = Literal["none", "floor", "add-k", "exp"]
NONE, FLOOR, ADD_K, EXP = range(4)
METHODS: dict[Smoothing, int] = {"none": NONE, "floor": FLOOR, "add-k": ADD_K, "exp": EXP}
ORDERS = 4  # BLEU counts n-grams of 1 to 4 words
COUNTS = 2 + 2 * ORDERS
SPACE, PRIME, BASIS = np.uint32(32), np.uint64(1099511628211), np.uint64(14695981039346656037)
COMPENSATED = sys.version_info >= (3, 12)  # sum() of floats carries its rounding errors along since then

Integers = NDArray[np.int32]
jit = compiler(__name__, error_model="numpy", nogil=True)  # no fastmath: the last bit counts


class Words(NamedTuple):
    """Texts as numbered words: text n is ids[starts[n]:starts[n + 1]]; equal words have equal ids."""

    ids: Integers
    starts: Integers


def encode(texts: Sequence[str], tokenise: Callable[[str], Sequence[str]]) -> Words:
    """The words of each text. tokenise must not look across spaces: it is called once for each distinct piece."""
    whole = "".join(texts)
    ends = np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)))
    codes = np.frombuffer(whole.encode("utf-32-le", "surrogatepass"), np.uint32)
    pieces, starts, spans = _pieces(codes, ends)
    known: dict[str, int] = {}
    flat, offsets = list[int](), [0]  # no list for each piece: the garbage collector would look through them all
    for begin, end in zip(spans[:, 0].tolist(), spans[:, 1].tolist(), strict=True):
        flat += [known.setdefault(word, len(known)) for word in tokenise(whole[begin:end])]
        offsets.append(len(flat))
    return Words(*_joined(pieces, starts, np.array(flat, np.int32), np.array(offsets, np.int32)))


def counts(words: Words, hypotheses: Integers, references: Integers) -> Integers:
    """(pairs, 10): words, reference words, 4 of matched n-grams, 4 of all n-grams; the pairs are numbers of texts."""
    found = np.zeros((len(hypotheses), COUNTS), np.int32)
    _count(words.ids, words.starts, hypotheses, references, found)
    return found


def bleu(counted: Integers, *, smoothing: Smoothing, value: float) -> NDArray[np.float64]:
    """Smoothed BLEU of each sentence, 0 to 100, from its counts, with sacreBLEU's effective order.

    smoothing: the methods of Chen & Cherry (2014): floor 1, add-k 2, exp 3. value: the floor or the k.
    """
    found = np.zeros(len(counted))
    _score(counted, METHODS[smoothing], float(value), found)
    return found


@jit
def _pieces(codes, ends):
    """Texts cut at spaces, and a number for each distinct piece: numbers, each text's first, and each number's span."""
    most = len(ends)
    for code in codes:
        most += code == SPACE
    size = 16
    while size < 2 * most:
        size *= 2
    table = np.full(size, -1, np.int32)  # open addressing
    numbers, spans, starts = np.empty(most, np.int32), np.empty((most, 2), np.int64), np.zeros(len(ends) + 1, np.int32)
    used, distinct, begin = 0, 0, 0
    for text in range(len(ends)):
        at = begin
        while at < ends[text]:
            start, mark = at, BASIS
            while at < ends[text] and codes[at] != SPACE:
                mark = (mark ^ np.uint64(codes[at])) * PRIME
                at += 1
            if at > start:
                place = np.int64((mark ^ (mark >> np.uint64(32))) & np.uint64(size - 1))
                while table[place] >= 0 and not _same(codes, spans[table[place]], start, at):
                    place = (place + 1) & (size - 1)
                if table[place] < 0:
                    table[place] = distinct
                    spans[distinct, 0], spans[distinct, 1] = start, at
                    distinct += 1
                numbers[used] = table[place]
                used += 1
            at += 1
        begin = ends[text]
        starts[text + 1] = used
    return numbers[:used], starts, spans[:distinct]


@jit
def _same(codes, span, start, end):
    if span[1] - span[0] != end - start:
        return False
    for at in range(end - start):  # noqa: SIM110 - a compiled loop
        if codes[span[0] + at] != codes[start + at]:
            return False
    return True


@jit
def _joined(pieces, starts, flat, offsets):
    """Each piece replaced by its words, flat[offsets[piece]:offsets[piece + 1]]."""
    total = 0
    for piece in pieces:
        total += offsets[piece + 1] - offsets[piece]
    ids, firsts, used = np.empty(total, np.int32), np.zeros_like(starts), 0
    for text in range(len(starts) - 1):
        for piece in pieces[starts[text] : starts[text + 1]]:
            for at in range(offsets[piece], offsets[piece + 1]):
                ids[used] = flat[at]
                used += 1
        firsts[text + 1] = used
    return ids, firsts


@jit
def _count(ids, starts, hypotheses, references, found):
    """The counts of each pair; a reference's are prepared once for all pairs with it that follow one another.

    Each n-gram of a hypothesis takes the first equal one of the reference that none before it took: so it matches no
    oftener than the reference has it.
    """
    longest, size = 0, 0
    for text in range(len(starts) - 1):
        longest = max(longest, starts[text + 1] - starts[text])
    for word in ids:
        size = max(size, word + 1)
    first, following = np.full(size, -1, np.int32), np.empty(longest, np.int32)  # where a word stands in the reference
    taken, last = np.empty(longest, np.int32), -1  # taken: a bit for each order
    for pair in range(len(hypotheses)):
        reference = ids[starts[references[pair]] : starts[references[pair] + 1]]
        if references[pair] != last:
            if last >= 0:
                for word in ids[starts[last] : starts[last + 1]]:
                    first[word] = -1
            for at in range(len(reference) - 1, -1, -1):
                following[at] = first[reference[at]]
                first[reference[at]] = at
            last = references[pair]
        taken[: len(reference)] = 0
        hypothesis, row = ids[starts[hypotheses[pair]] : starts[hypotheses[pair] + 1]], found[pair]
        row[0], row[1] = len(hypothesis), len(reference)
        for order in range(ORDERS):
            row[2 + ORDERS + order] = max(0, len(hypothesis) - order)
        for start in range(len(hypothesis)):
            wanted, at = (1 << ORDERS) - 1, first[hypothesis[start]]
            while at >= 0 and wanted:
                run = 1
                while (
                    run < ORDERS
                    and start + run < len(hypothesis)
                    and at + run < len(reference)
                    and hypothesis[start + run] == reference[at + run]
                ):
                    run += 1
                match = wanted & ~taken[at] & ((1 << run) - 1)
                taken[at] |= match
                wanted &= ~match
                for order in range(run):
                    row[2 + order] += (match >> order) & 1
                at = following[at]


@jit
def _score(counted, method, value, found):
    """bleu, in the operations and the order of sacreBLEU's."""
    for pair in range(len(counted)):
        length, wanted, matched, total = counted[pair, 0], counted[pair, 1], counted[pair, 2:6], counted[pair, 6:]
        if matched[0] == 0:
            continue
        logs, lost, orders, halving = 0.0, 0.0, 0, 1.0
        for order in range(ORDERS):
            more = value if method == ADD_K and order else 0.0
            if total[order] + more == 0:
                break
            if matched[order] + more > 0:
                log = math.log(100.0 * (matched[order] + more) / (total[order] + more))
            elif method == EXP:
                halving *= 2
                log = math.log(100.0 / (halving * total[order]))
            elif method == FLOOR and value > 0:
                log = math.log(100.0 * value / total[order])
            else:
                log = -np.inf
            if COMPENSATED and log > -np.inf:
                whole = logs + log
                lost += (logs - whole) + log if abs(logs) >= abs(log) else (log - whole) + logs
                logs = whole
            else:
                logs += log
            orders += 1
        penalty = math.exp(1 - wanted / length) if length < wanted else 1.0
        found[pair] = penalty * math.exp((logs + lost) / orders)


__all__ = ["COUNTS", "Smoothing", "Words", "bleu", "counts", "encode"]
