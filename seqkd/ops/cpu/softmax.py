# mypy: disable-error-code="no-untyped-def, no-untyped-call, call-arg"
"""What rests on the softmax of logits, compiled, over float32 arrays on a CPU: the losses and the choice of a beam.

`losses` and `search.best` are the same in plain torch. V pieces, B sentences, R rows a sentence.
"""

import numpy as np

from seqkd.ops.cpu.gemm import FLAGS, FORCE_INLINE, INLINE, block_size, float_bits, gemm
from seqkd.ops.cpu.lstm_cell import ONE, exp, float_of_bits
from seqkd.utils.jit import compiler

jit, jit_inline = compiler(__name__, **FLAGS), compiler(__name__, **INLINE)
jit_forceinline = compiler(__name__, **FORCE_INLINE)

BLOCK = 64  # words whose largest logit is looked at first in the search


@jit
def mixed_loss(logits, highest, gold, teacher, alpha):
    """(1 - alpha) NLL + alpha Word-KD summed over words (float64).

    logits: (words or more, V), become the gradient p - (1 - alpha) onehot - alpha q, 0 beyond the words; highest: the
    largest of each row; gold: (words,); teacher: (words, V) or none.
    """
    words, size = gold.size, logits.shape[1]
    loss = 0.0
    for n in range(words):
        logit, word = logits[n], gold[n]
        most, total, of_gold = highest[n], np.float32(0.0), logit[word]
        if teacher.size:
            share, expected, mass = teacher[n], np.float32(0.0), np.float32(0.0)
            for k in range(size):
                above = logit[k] - most
                expected += share[k] * above
                mass += share[k]
                value = exp(above)
                logit[k] = value
                total += value
            scale, log_total = ONE / total, np.log(total)
            for k in range(size):
                logit[k] = logit[k] * scale - alpha * share[k]
            loss -= alpha * (expected - mass * log_total)
        else:
            for k in range(size):
                value = exp(logit[k] - most)
                logit[k] = value
                total += value
            scale, log_total = ONE / total, np.log(total)
            for k in range(size):
                logit[k] *= scale
        loss -= (1.0 - alpha) * (of_gold - most - log_total)
        logit[word] -= ONE - alpha
    logits[words:] = 0
    return loss


@jit
def top_k_loss(logits, highest, gold, ids, shares, alpha):
    """mixed_loss with the teacher's k likeliest words; ids: (words, k); shares: (words, k + 1), the last of the rest.

    The gradient outside the list is p (1 - alpha r / P): the pass over the vocabulary is that of NLL.
    """
    words, size, listed = gold.size, logits.shape[1], ids.shape[1]
    values = np.empty(listed, np.float32)
    loss = 0.0
    for n in range(words):
        logit, word, share = logits[n], gold[n], shares[n]
        most, of_gold, rest_share = highest[n], logit[word], share[listed]
        expected, inside, outside = np.float32(0.0), np.float32(0.0), np.float32(0.0)
        for i in range(listed):
            above = logit[ids[n, i]] - most
            expected += share[i] * above
            values[i] = exp(above)
            inside += values[i]
            logit[ids[n, i]] = -np.inf  # out of the sum of the others, which a difference would lose
        for k in range(size):
            value = exp(logit[k] - most)
            logit[k] = value
            outside += value
        total = inside + outside
        scale, log_total = ONE / total, np.log(total)
        outer = scale - alpha * rest_share / outside
        for k in range(size):
            logit[k] *= outer
        for i in range(listed):
            logit[ids[n, i]] = values[i] * scale - alpha * share[i]
        loss -= (1.0 - alpha) * (of_gold - most - log_total)
        loss -= alpha * (expected + rest_share * np.log(outside) - log_total)
        logit[word] -= ONE - alpha
    logits[words:] = 0
    return loss


@jit_inline
def _ordered(bits):
    """The bits of a float32 as a number of the same order, and back: the largest integer is found by vectors."""
    return bits ^ ((bits >> np.int32(31)) & np.int32(0x7FFFFFFF))


@jit_inline
def _largest(numbers):
    most = _ordered(float_bits(np.float32(-np.inf)))
    for n in range(numbers.size):
        most = max(most, _ordered(float_bits(numbers[n])))
    return float_of_bits(_ordered(most))


@jit_forceinline
def beam_top_k(logits, scores, room, forbidden_ids, found, parents, words):
    """The continuations with which a beam goes on: for each sentence the room[b] best, best first.

    logits: (B x R, V) of the live rows; scores: (B, R), best first, -inf for a row that is not live; barred: words that
    are never written.
    Writes found (B, W) log-probabilities, -inf beyond room, and parents, words (B, W), the rows and pieces they add.
    A row can only lose, so one that is not above the last place is skipped, and within a row each such block.
    """
    sentences, rows = scores.shape
    size, blocks = logits.shape[1], logits.shape[1] // BLOCK
    block = np.empty(blocks, np.float32)
    for b in range(sentences):
        places, taken, last = room[b], 0, np.float32(-np.inf)
        value, parent, word = found[b], parents[b], words[b]
        value[:] = -np.inf
        parent[:] = 0
        word[:] = 0
        for r in range(rows):
            if scores[b, r] <= last:
                break
            logit = logits[b * rows + r]
            for n in range(blocks):
                block[n] = _largest(logit[n * BLOCK : (n + 1) * BLOCK])
            most = max(_largest(block), _largest(logit[blocks * BLOCK :]))
            total = np.float32(0.0)
            for k in range(size):
                total += exp(logit[k] - most)
            base = scores[b, r] - most - np.log(total)
            for n in range(blocks + 1):
                if n < blocks and block[n] + base <= last:
                    continue
                for k in range(n * BLOCK, min(size, (n + 1) * BLOCK)):
                    score = logit[k] + base
                    if score <= last or k in forbidden_ids:
                        continue
                    at = taken if taken < places else places - 1
                    while at > 0 and value[at - 1] < score:
                        value[at], parent[at], word[at] = value[at - 1], parent[at - 1], word[at - 1]
                        at -= 1
                    value[at], parent[at], word[at] = score, r, k
                    taken = min(taken + 1, places)
                    last = value[places - 1] if taken == places else last


@jit
def project_top_k(vectors, right, start, scale, size, scores, room, forbidden_ids, found, parents, words):
    """best of the logits (B x R, size) that product makes of vectors (B x R, H), a few sentences at a time.

    So they are near when they are looked at, and a search never holds those of all its rows.
    """
    sentences, rows = scores.shape
    some = block_size(sentences, rows)
    logits = np.empty((some * rows, size), np.float32)
    for at in range(0, sentences, some):
        end = min(at + some, sentences)
        part = logits[: (end - at) * rows]
        gemm(vectors[at * rows : end * rows], right, start, scale, part)
        beam_top_k(part, scores[at:end], room[at:end], forbidden_ids, found[at:end], parents[at:end], words[at:end])
