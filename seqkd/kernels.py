# mypy: disable-error-code="no-untyped-def, no-untyped-call"
"""The loops over time, the loss and the choice of a beam, compiled, over float32 arrays on a CPU.

A step of the network is a few small products and some thirty pointwise operations; as single operations of torch the
calls cost more than the work. Here each chain of pointwise operations is one pass, and a loop over time is one call.
exp is 2^k times a polynomial of the rest, exact to 2e-7; sigmoid and tanh come from it. `recurrence` and `losses` are
the same in plain torch.
Sizes: B sentences, T time steps, L layers, H hidden units, S source positions, V pieces. An array of size 0 stands for
"none". Weights are panels of `tiles`, of [a; b] where a product is over two vectors side by side.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from seqkd.tiles import WIDE, compiled, inlined, product

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


# The bodies below are short loops over slices that begin at 0: only such ones become vector instructions.


@compiled
def cell(gates, added, live, old, new, squashed, own, own_at, up, up_at, keep):
    """One LSTM step; gates: (B, 4H) products, become activations; added: (B or 1, 4H).

    live: (B,) or none; old, new: (B, H) cells; squashed: (B, H). The state goes to own[:, own_at:] and, times keep
    (B, H), to up[:, up_at:].
    """
    batch, hidden = old.shape
    for b in range(batch):
        gate, plus = gates[b], added[b if added.shape[0] > 1 else 0]
        enter, forget, show, candidate = gate[:hidden], gate[hidden:], gate[2 * hidden :], gate[3 * hidden :]
        before, after, top, state = old[b], new[b], squashed[b], own[b, own_at:]
        for j in range(3 * hidden):
            gate[j] = sigmoid(gate[j] + plus[j])
        plus = plus[3 * hidden :]
        for j in range(hidden):
            candidate[j] = tanh(candidate[j] + plus[j])
        alive = live[b] if live.size else ONE
        for j in range(hidden):
            after[j] = (forget[j] * before[j] + enter[j] * candidate[j]) * alive
        for j in range(hidden):
            top[j] = tanh(after[j])
        for j in range(hidden):
            state[j] = show[j] * top[j]
        if keep.size:
            higher, kept = up[b, up_at:], keep[b]
            for j in range(hidden):
                higher[j] = state[j] * kept[j]
        elif up.size:
            higher = up[b, up_at:]
            for j in range(hidden):
                higher[j] = state[j]


@compiled
def cell_backward(gates, live, old, squashed, upper, keep, later, to_cell, out):
    """Gradients through cell; that of the state is upper[:, :H] * keep + later[:, -H:], that of the new cell to_cell.

    Writes the gates' to out (B, 4H) and the old cell's to to_cell (B, H).
    """
    batch, hidden = old.shape
    state = np.empty(hidden, np.float32)
    for b in range(batch):
        gate, to = gates[b], out[b]
        enter, forget, show, candidate = gate[:hidden], gate[hidden:], gate[2 * hidden :], gate[3 * hidden :]
        to_enter, to_forget, to_show, to_candidate = to[:hidden], to[hidden:], to[2 * hidden :], to[3 * hidden :]
        above, after, before, top, inner = (
            upper[b],
            later[b, later.shape[1] - hidden :],
            old[b],
            squashed[b],
            to_cell[b],
        )
        alive = live[b] if live.size else ONE
        if keep.size:
            kept = keep[b]
            for j in range(hidden):
                state[j] = (above[j] * kept[j] + after[j]) * alive
        else:
            for j in range(hidden):
                state[j] = (above[j] + after[j]) * alive
        for j in range(hidden):
            to_show[j] = state[j] * top[j] * show[j] * (ONE - show[j])
        for j in range(hidden):
            inner[j] = inner[j] * alive + state[j] * show[j] * (ONE - top[j] * top[j])
        for j in range(hidden):
            to_enter[j] = inner[j] * candidate[j] * enter[j] * (ONE - enter[j])
        for j in range(hidden):
            to_candidate[j] = inner[j] * enter[j] * (ONE - candidate[j] * candidate[j])
        for j in range(hidden):
            to_forget[j] = inner[j] * before[j] * forget[j] * (ONE - forget[j])
        for j in range(hidden):
            inner[j] *= forget[j]


@compiled
def attend(above, keys, memory, closed, weights):
    """Luong's general attention; above: (N, 2H) holds the top state on the right and gets the context on the left.

    keys, memory: (B, S, H); closed: (B, S); weights: (N, S), written; N / B rows of each sentence stand together.
    """
    sentences, source, hidden = keys.shape
    rows = above.shape[0] // sentences
    for n in range(above.shape[0]):
        b = n // rows
        query, context, weight = above[n, hidden:], above[n, :hidden], weights[n]
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
        top[:] = combined[b, hidden:]
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
def layer(added, right, live, gates, states, cells, squashed):
    """One LSTM layer from a zero state; added, gates: (T, B, 4H); live: (T, B); squashed: (T, B, H).

    states, cells: (T + 1, B, H), zero at first. Writes all but added and live.
    """
    zero, no_keep = np.zeros(right.shape[0] * WIDE, np.float32), np.empty((0, 0), np.float32)
    for t in range(added.shape[0]):
        product(states[t], right, zero, no_keep, gates[t])
        up, old, new = no_keep, cells[t], cells[t + 1]
        cell(gates[t], added[t], live[t], old, new, squashed[t], states[t + 1], 0, up, 0, no_keep)


@compiled
def layer_backward(of_states, right, live, gates, cells, squashed, to_state, to_cell, out):
    """Gradients through layer; of_states: (T, B, H); to_state, to_cell: (B, H) of the last step, become the first's.

    right: of the transposed weight. Writes out (T, B, 4H), the gradient of added.
    """
    zero, no_keep = np.zeros(right.shape[0] * WIDE, np.float32), np.empty((0, 0), np.float32)
    for t in range(gates.shape[0] - 1, -1, -1):
        cell_backward(gates[t], live[t], cells[t], squashed[t], of_states[t], no_keep, to_state, to_cell, out[t])
        product(out[t], right, zero, no_keep, to_state)


@compiled
def decoder(
    words,
    biases,
    keys,
    memory,
    closed,
    keep,
    rights,
    combine,
    gates,
    cells,
    squashed,
    below,
    above,
    raw,
    out,
    attention,
):
    """The decoder over all target positions, see fused.Decoder.

    words: (T, B, 4H); biases: (L, 4H), the first unused; keep: (T, L, B, H) or none; rights: (L, ...) panels.
    below: (L, T + 1, B, 2H), the input and own state of each layer, those of step 0 given. Writes from gates on.
    """
    layers, time, hidden = gates.shape[0], gates.shape[1], raw.shape[2]
    zero, no_row = np.zeros(rights.shape[1] * WIDE, np.float32), np.empty(0, np.float32)
    no_keep = np.empty((0, 0), np.float32)
    for t in range(time):
        for n in range(layers):
            last = n == layers - 1
            product(below[n, t], rights[n], zero, no_keep, gates[n, t])
            cell(
                gates[n, t],
                biases[n : n + 1] if n else words[t],
                no_row,
                cells[n, t],
                cells[n, t + 1],
                squashed[n, t],
                below[n, t + 1],
                hidden,
                above[t] if last else below[n + 1, t],
                hidden if last else 0,
                keep[t, n] if keep.size and not last else no_keep,
            )
        attend(above[t], keys, memory, closed, attention[t])
        product(above[t], combine, zero, no_keep, raw[t])
        squash(raw[t], keep[t, layers - 1] if keep.size else no_keep, out[t], below[0, t + 1])


@compiled
def decoder_backward(
    of_out,
    keys,
    memory,
    keep,
    rights,
    combine,
    gates,
    cells,
    squashed,
    raw,
    attention,
    to_gates,
    to_combined,
    to_above,
    to_scores,
    entered,
    to_cell,
):
    """Gradients through decoder; rights, combine: of the transposed weights; the last six are written.

    to_cell: (L, B, H) and entered: (L, B, 2H), zero at first, end as the gradients of the cells and of [input; own
    state] at step 0; to_combined: (T, B, H); to_above: (T, B, 2H); to_scores: (T, B, S).
    """
    layers, time, batch, hidden = gates.shape[0], gates.shape[1], gates.shape[2], raw.shape[2]
    zero, no_row = np.zeros(rights.shape[1] * WIDE, np.float32), np.empty(0, np.float32)
    no_keep, upper = np.empty((0, 0), np.float32), np.empty((batch, hidden), np.float32)
    for t in range(time - 1, -1, -1):
        squash_backward(of_out[t], entered[0], keep[t, layers - 1] if keep.size else no_keep, raw[t], to_combined[t])
        product(to_combined[t], combine, zero, no_keep, to_above[t])
        attend_backward(to_above[t], attention[t], keys, memory, to_scores[t], upper)
        for n in range(layers - 1, -1, -1):
            last = n == layers - 1
            cell_backward(
                gates[n, t],
                no_row,
                cells[n, t],
                squashed[n, t],
                upper if last else entered[n + 1],
                keep[t, n] if keep.size and not last else no_keep,
                entered[n],
                to_cell[n],
                to_gates[n, t],
            )
            product(to_gates[n, t], rights[n], zero, no_keep, entered[n])


@compiled
def step(
    words,
    biases,
    keys,
    memory,
    closed,
    rights,
    starts,
    scales,
    combine,
    fed,
    state,
    cells,
    new_state,
    new_cells,
    new_fed,
):
    """One decoder step of a search for N rows, N / B a sentence; words: (N, 4H); state, cells: (L, N, H).

    rights, starts, scales: of all layers' weights, as product takes them; combine: one triple of them. Writes
    new_state, new_cells (L, N, H) and new_fed (N, H).
    """
    layers, rows, hidden = state.shape
    no_row, no_keep = np.empty(0, np.float32), np.empty((0, 0), np.float32)
    gates, squashed = np.empty((rows, 4 * hidden), np.float32), np.empty((rows, hidden), np.float32)
    entering, above = np.empty((rows, 2 * hidden), np.float32), np.empty((rows, 2 * hidden), np.float32)
    for n in range(layers):
        entering[:, :hidden] = new_state[n - 1] if n else fed
        entering[:, hidden:] = state[n]
        product(entering, rights[n], starts[n], scales[n], gates)
        plus = biases[n : n + 1] if n else words
        cell(gates, plus, no_row, cells[n], new_cells[n], squashed, new_state[n], 0, above, hidden, no_keep)
    attend(above, keys, memory, closed, np.empty((rows, keys.shape[1]), np.float32))
    right, start, scale = combine
    product(above, right, start, scale, new_fed)
    squash(new_fed, no_keep, new_fed, no_keep)


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
