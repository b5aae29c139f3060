# mypy: disable-error-code="no-untyped-def"
"""The pointwise parts of a time step and of the loss, each as one compiled loop over float32 arrays on a CPU.

A step of the network is a few small products and some thirty pointwise operations; as single operations of torch the
latter cost more than the products. Here each chain of them is one pass. exp is 2^k times a polynomial of the rest,
exact to 2e-7; sigmoid and tanh come from it. `recurrence` and `losses` are the same in plain torch.
Sizes: B sentences, H hidden units, S source positions, V pieces. An array of size 0 stands for "none".
"""

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

FAST = {"reassoc", "contract", "nsz", "arcp"}  # sums may be reordered (always in the same way), NaN stays NaN
compiled = numba.njit(cache=True, fastmath=FAST, error_model="numpy", nogil=True)
inlined = numba.njit(cache=True, fastmath=FAST, error_model="numpy", inline="always")

ONE, HALF, TWO = np.float32(1.0), np.float32(0.5), np.float32(2.0)
LOG2_E, LN_2 = np.float32(1.4426950408889634), np.float32(0.6931471805599453)
LOWEST, HIGHEST = np.float32(-87.0), np.float32(88.0)
BLOCK = 64  # words whose largest logit is looked at first in the search
FACTORIALS = tuple(np.float32(1.0 / f) for f in (720.0, 120.0, 24.0, 6.0, 2.0))


@intrinsic
def _float_of_bits(_: Any, bits: Any) -> Any:
    def generate(__: Any, builder: Any, ___: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.int32), generate


@inlined
def exp(x):
    x = min(max(x, LOWEST), HIGHEST)
    power = np.int32(np.floor(x * LOG2_E + HALF))
    x = x - np.float32(power) * LN_2
    f6, f5, f4, f3, f2 = FACTORIALS
    series = ((((f6 * x + f5) * x + f4) * x + f3) * x + f2) * x * x + x + ONE
    return series * _float_of_bits(np.int32((power + np.int32(127)) << np.int32(23)))  # type: ignore[call-arg]


@inlined
def sigmoid(x):
    return ONE / (ONE + exp(-x))


@inlined
def tanh(x):
    return ONE - TWO / (exp(TWO * x) + ONE)


@compiled
def cell(gates, added, live, old, new, squashed, own, own_at, up, up_at, keep):
    """One LSTM step; gates: (B, 4H) products, become activations; added: (B or 1, 4H).

    live: (B,) or none; old, new: (B, H) cells; squashed: (B, H). The state goes to own[:, own_at:] and, times keep
    (B, H), to up[:, up_at:].
    """
    batch, hidden = old.shape
    for b in range(batch):
        plus = added[b if added.shape[0] > 1 else 0]
        gate = gates[b]
        for j in range(3 * hidden):
            gate[j] = sigmoid(gate[j] + plus[j])
        for j in range(3 * hidden, 4 * hidden):
            gate[j] = tanh(gate[j] + plus[j])
        alive = live[b] if live.size else ONE
        for j in range(hidden):
            value = (gate[hidden + j] * old[b, j] + gate[j] * gate[3 * hidden + j]) * alive
            new[b, j] = value
            value = tanh(value)
            squashed[b, j] = value
            own[b, own_at + j] = gate[2 * hidden + j] * value
        if up.size:
            for j in range(hidden):
                up[b, up_at + j] = own[b, own_at + j] * (keep[b, j] if keep.size else ONE)


@compiled
def cell_backward(gates, live, old, squashed, upper, keep, later, to_cell, out):
    """Gradients through cell; that of the state is upper[:, :H] * keep + later[:, -H:], that of the new cell to_cell.

    Writes the gates' to out (B, 4H) and the old cell's to to_cell (B, H).
    """
    batch, hidden = old.shape
    at = later.shape[1] - hidden
    for b in range(batch):
        gate, to = gates[b], out[b]
        alive = live[b] if live.size else ONE
        for j in range(hidden):
            enter, forget, show, candidate = gate[j], gate[hidden + j], gate[2 * hidden + j], gate[3 * hidden + j]
            top = squashed[b, j]
            state = (upper[b, j] * (keep[b, j] if keep.size else ONE) + later[b, at + j]) * alive
            inner = to_cell[b, j] * alive + state * show * (ONE - top * top)
            to[j] = inner * candidate * enter * (ONE - enter)
            to[hidden + j] = inner * old[b, j] * forget * (ONE - forget)
            to[2 * hidden + j] = state * top * show * (ONE - show)
            to[3 * hidden + j] = inner * enter * (ONE - candidate * candidate)
            to_cell[b, j] = inner * forget


@compiled
def attend(above, keys, memory, closed, weights):
    """Luong's general attention; above: (B, 2H) holds the top state on the right and gets the context on the left.

    keys, memory: (B, S, H); closed: (B, S); weights: (B, S), written.
    """
    batch, source, hidden = keys.shape
    for b in range(batch):
        query, context, weight = above[b, hidden:], above[b, :hidden], weights[b]
        highest = np.float32(-np.inf)
        for s in range(source):
            score, key = np.float32(0.0), keys[b, s]
            for j in range(hidden):
                score += query[j] * key[j]
            weight[s] = score + closed[b, s]
            highest = max(highest, weight[s])
        total = np.float32(0.0)
        for s in range(source):
            weight[s] = exp(weight[s] - highest)
            total += weight[s]
        context[:] = 0
        for s in range(source):
            weight[s] /= total
            share, state = weight[s], memory[b, s]
            for j in range(hidden):
                context[j] += share * state[j]


@compiled
def attend_backward(combined, weights, keys, memory, to_scores, upper):
    """Gradients through attend; combined: (B, 2H) of [context; top state]; writes to_scores (B, S), upper (B, H)."""
    batch, source, hidden = keys.shape
    for b in range(batch):
        to_context, weight, to_score, top = combined[b, :hidden], weights[b], to_scores[b], upper[b]
        mean = np.float32(0.0)
        for s in range(source):
            of_weight, state = np.float32(0.0), memory[b, s]
            for j in range(hidden):
                of_weight += to_context[j] * state[j]
            to_score[s] = of_weight
            mean += of_weight * weight[s]
        for j in range(hidden):
            top[j] = combined[b, hidden + j]
        for s in range(source):
            to_score[s] = weight[s] * (to_score[s] - mean)
            share, key = to_score[s], keys[b, s]
            for j in range(hidden):
                top[j] += share * key[j]


@compiled
def squash(raw, keep, out, fed):
    """The attentional vector: raw (B, H) becomes its tanh; times keep it goes to out (B, H) and fed[:, :H]."""
    batch, hidden = raw.shape
    for b in range(batch):
        for j in range(hidden):
            value = tanh(raw[b, j])
            raw[b, j] = value
            value *= keep[b, j] if keep.size else ONE
            out[b, j] = value
            if fed.size:
                fed[b, j] = value


@compiled
def squash_backward(of_out, fed, keep, raw, to_combined):
    """to_combined = (of_out + fed[:, :H]) * keep * (1 - raw^2), all (B, H)"""
    batch, hidden = raw.shape
    for b in range(batch):
        for j in range(hidden):
            value = (of_out[b, j] + fed[b, j]) * (keep[b, j] if keep.size else ONE)
            to_combined[b, j] = value * (ONE - raw[b, j] * raw[b, j])


@compiled
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


@compiled
def shortlist_loss(logits, highest, gold, ids, shares, alpha):
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


@compiled
def best(logits, highest, scores, room, barred, found, parents, words):
    """The continuations with which a beam goes on: for each sentence the room[b] best, best first.

    logits: (B x R, V) of the live rows; highest: (B x R, V // BLOCK), the largest of each whole block of them;
    scores: (B, R), best first, -inf for a row that is not live; barred: words that are never written.
    Writes found (B, W) log-probabilities, -inf beyond room, and parents, words (B, W), the rows and pieces they add.
    A row can only lose, so one that is not above the last place is skipped, and within a row each such block.
    """
    sentences, rows = scores.shape
    size, blocks = logits.shape[1], highest.shape[1]
    for b in range(sentences):
        places, taken, last = room[b], 0, np.float32(-np.inf)
        value, parent, word = found[b], parents[b], words[b]
        value[:] = -np.inf
        parent[:] = 0
        word[:] = 0
        for r in range(rows):
            if scores[b, r] <= last:
                break
            logit, block = logits[b * rows + r], highest[b * rows + r]
            most = np.float32(-np.inf)
            for n in range(blocks):
                most = block[n] if block[n] > most else most
            for k in range(blocks * BLOCK, size):
                most = logit[k] if logit[k] > most else most
            total = np.float32(0.0)
            for k in range(size):
                total += exp(logit[k] - most)
            base = scores[b, r] - most - np.log(total)
            for n in range(blocks + 1):
                if n < blocks and block[n] + base <= last:
                    continue
                for k in range(n * BLOCK, min(size, (n + 1) * BLOCK)):
                    score = logit[k] + base
                    if score <= last or k in barred:
                        continue
                    at = taken if taken < places else places - 1
                    while at > 0 and value[at - 1] < score:
                        value[at], parent[at], word[at] = value[at - 1], parent[at - 1], word[at - 1]
                        at -= 1
                    value[at], parent[at], word[at] = score, r, k
                    taken = min(taken + 1, places)
                    last = value[places - 1] if taken == places else last
