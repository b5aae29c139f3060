# mypy: disable-error-code="no-untyped-def"
"""Sentence BLEU of many hypotheses at once: words become ids, compiled loops count n-grams and compute the scores.

The scores equal sacreBLEU's to the last bit, by any tokenizer. A text is split at its spaces, and each distinct string
is tokenized once.
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
SPACE = np.uint32(32)
FNV_PRIME, FNV_BASIS = np.uint64(1099511628211), np.uint64(14695981039346656037)  # of the 64-bit FNV-1a hash
NEUMAIER_SUM = sys.version_info >= (3, 12)  # from 3.12 on, sum() of floats compensates rounding errors; so must we

Integers = NDArray[np.int32]
jit = compiler(__name__, error_model="numpy", nogil=True)  # no fastmath, which changes the last bits


class Words(NamedTuple):
    """Texts as word ids: text n is ids[starts[n]:starts[n + 1]]. Equal words have equal ids."""

    ids: Integers
    starts: Integers  # (texts + 1,)


def encode(texts: Sequence[str], tokenize: Callable[[str], Sequence[str]]) -> Words:
    """Return the word ids of each text.

    tokenize gets a string without spaces, once for each distinct one; so it must not depend on its neighbors.
    """
    joined = "".join(texts)
    ends = np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)))
    characters = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), np.uint32)
    string_ids, starts, spans = _split(characters, ends)
    word_ids: dict[str, int] = {}
    flat, offsets = list[int](), [0]  # one flat list: the garbage collector would walk through one list per string
    for begin, end in zip(spans[:, 0].tolist(), spans[:, 1].tolist(), strict=True):
        flat += [word_ids.setdefault(word, len(word_ids)) for word in tokenize(joined[begin:end])]
        offsets.append(len(flat))
    return Words(*_expand(string_ids, starts, np.array(flat, np.int32), np.array(offsets, np.int32)))


def counts(words: Words, hypotheses: Integers, references: Integers) -> Integers:
    """Return the BLEU counts of each pair of texts as (pairs, 10).

    hypotheses, references: (pairs,) indices of texts. The columns are: words of the hypothesis, words of the
    reference, matched n-grams of 1 to 4 words, all n-grams of 1 to 4 words.
    """
    table = np.zeros((len(hypotheses), COUNTS), np.int32)
    _count(words.ids, words.starts, hypotheses, references, table)
    return table


def bleu(counted: Integers, *, smoothing: Smoothing, value: float) -> NDArray[np.float64]:
    """Return smoothed BLEU of each sentence, 0 to 100, from its counts, with sacreBLEU's effective order.

    smoothing: the methods of Chen & Cherry (2014): floor is 1, add-k is 2, exp is 3. value: the floor or the k.
    """
    scores = np.zeros(len(counted))
    _score(counted, METHODS[smoothing], float(value), scores)
    return scores


@jit
def _split(characters, ends):
    """Split texts at spaces and number the distinct strings.

    Returns the id of each string of all texts, the index of each text's first, and (ids, 2) begin and end of each id.
    """
    capacity = len(ends)
    for character in characters:
        capacity += character == SPACE
    size = 16
    while size < 2 * capacity:
        size *= 2
    table = np.full(size, -1, np.int32)  # hash table with open addressing
    ids, spans = np.empty(capacity, np.int32), np.empty((capacity, 2), np.int64)
    starts = np.zeros(len(ends) + 1, np.int32)
    used, distinct, begin = 0, 0, 0
    for text in range(len(ends)):
        position = begin
        while position < ends[text]:
            start, digest = position, FNV_BASIS
            while position < ends[text] and characters[position] != SPACE:
                digest = (digest ^ np.uint64(characters[position])) * FNV_PRIME
                position += 1
            if position > start:
                slot = np.int64((digest ^ (digest >> np.uint64(32))) & np.uint64(size - 1))
                while table[slot] >= 0 and not _equal(characters, spans[table[slot]], start, position):
                    slot = (slot + 1) & (size - 1)
                if table[slot] < 0:
                    table[slot] = distinct
                    spans[distinct, 0], spans[distinct, 1] = start, position
                    distinct += 1
                ids[used] = table[slot]
                used += 1
            position += 1
        begin = ends[text]
        starts[text + 1] = used
    return ids[:used], starts, spans[:distinct]


@jit
def _equal(characters, span, start, end):
    """Return whether characters[start:end] equal those of the span."""
    if span[1] - span[0] != end - start:
        return False
    for offset in range(end - start):  # noqa: SIM110 - a compiled loop
        if characters[span[0] + offset] != characters[start + offset]:
            return False
    return True


@jit
def _expand(string_ids, starts, flat, offsets):
    """Replace each string by its words, flat[offsets[id]:offsets[id + 1]]. Returns the fields of Words."""
    total = 0
    for string in string_ids:
        total += offsets[string + 1] - offsets[string]
    ids, word_starts, used = np.empty(total, np.int32), np.zeros_like(starts), 0
    for text in range(len(starts) - 1):
        for string in string_ids[starts[text] : starts[text + 1]]:
            for index in range(offsets[string], offsets[string + 1]):
                ids[used] = flat[index]
                used += 1
        word_starts[text + 1] = used
    return ids, word_starts


@jit
def _count(ids, starts, hypotheses, references, table):
    """Write the counts of each pair into its row of the table.

    Each n-gram of a hypothesis takes the first equal n-gram of the reference that is not taken: so it matches at most
    as often as it stands in the reference. A reference is indexed once for all consecutive pairs that have it.
    """
    longest, vocab_size = 0, 0
    for text in range(len(starts) - 1):
        longest = max(longest, starts[text + 1] - starts[text])
    for word in ids:
        vocab_size = max(vocab_size, word + 1)
    # A word's first position in the reference, and the next position of the same word; -1: none.
    first, following = np.full(vocab_size, -1, np.int32), np.empty(longest, np.int32)
    taken, last = np.empty(longest, np.int32), -1  # taken: by start position, bit n for the n-gram of n + 1 words
    for pair in range(len(hypotheses)):
        reference = ids[starts[references[pair]] : starts[references[pair] + 1]]
        if references[pair] != last:
            if last >= 0:
                for word in ids[starts[last] : starts[last + 1]]:
                    first[word] = -1
            for position in range(len(reference) - 1, -1, -1):
                following[position] = first[reference[position]]
                first[reference[position]] = position
            last = references[pair]
        taken[: len(reference)] = 0
        hypothesis, row = ids[starts[hypotheses[pair]] : starts[hypotheses[pair] + 1]], table[pair]
        row[0], row[1] = len(hypothesis), len(reference)
        for order in range(ORDERS):
            row[2 + ORDERS + order] = max(0, len(hypothesis) - order)
        for start in range(len(hypothesis)):
            unmatched, position = (1 << ORDERS) - 1, first[hypothesis[start]]
            while position >= 0 and unmatched:
                length = 1
                while (
                    length < ORDERS
                    and start + length < len(hypothesis)
                    and position + length < len(reference)
                    and hypothesis[start + length] == reference[position + length]
                ):
                    length += 1
                match = unmatched & ~taken[position] & ((1 << length) - 1)
                taken[position] |= match
                unmatched &= ~match
                for order in range(length):
                    row[2 + order] += (match >> order) & 1
                position = following[position]


@jit
def _score(counted, method, value, scores):
    """Compute bleu with the operations of sacreBLEU in their order."""
    for pair in range(len(counted)):
        length, reference_length = counted[pair, 0], counted[pair, 1]
        matched, total = counted[pair, 2:6], counted[pair, 6:]
        if matched[0] == 0:
            continue
        log_sum, compensation, orders, halving = 0.0, 0.0, 0, 1.0
        for order in range(ORDERS):
            added = value if method == ADD_K and order else 0.0
            if total[order] + added == 0:
                break
            if matched[order] + added > 0:
                log = math.log(100.0 * (matched[order] + added) / (total[order] + added))
            elif method == EXP:
                halving *= 2
                log = math.log(100.0 / (halving * total[order]))
            elif method == FLOOR and value > 0:
                log = math.log(100.0 * value / total[order])
            else:
                log = -np.inf
            if NEUMAIER_SUM and log > -np.inf:
                partial = log_sum + log
                lost = (log_sum - partial) + log if abs(log_sum) >= abs(log) else (log - partial) + log_sum
                compensation += lost
                log_sum = partial
            else:
                log_sum += log
            orders += 1
        penalty = math.exp(1 - reference_length / length) if length < reference_length else 1.0
        scores[pair] = penalty * math.exp((log_sum + compensation) / orders)
