# mypy: disable-error-code="no-untyped-def"
"""The pointwise parts of a time step, each chain one compiled pass over float32 arrays on a CPU.

exp is 2^k times a polynomial of the rest, exact to 2e-7; sigmoid and tanh come from it. `pointwise` is the same in
plain torch. Sizes: B sentences, H hidden units, S source positions, N rows of a search. An array of size 0 stands for
"none".
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from seqkd.ops.cpu.gemm import FORCE_INLINE, INLINE
from seqkd.utils.jit import compiler

jit_forceinline, jit_inline = compiler(__name__, **FORCE_INLINE), compiler(__name__, **INLINE)

ONE, HALF, TWO = np.float32(1.0), np.float32(0.5), np.float32(2.0)
LOG2_E, LN_2 = np.float32(1.4426950408889634), np.float32(0.6931471805599453)
LOWEST, HIGHEST = np.float32(-87.0), np.float32(88.0)
FACTORIALS = tuple(np.float32(1.0 / f) for f in (720.0, 120.0, 24.0, 6.0, 2.0))


@intrinsic
def float_of_bits(_: Any, bits: Any) -> Any:
    def generate(__: Any, builder: Any, ___: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.int32), generate


@jit_inline
def exp(x):
    x = min(max(x, LOWEST), HIGHEST)
    power = np.int32(np.floor(x * LOG2_E + HALF))
    x = x - np.float32(power) * LN_2
    f6, f5, f4, f3, f2 = FACTORIALS
    series = ((((f6 * x + f5) * x + f4) * x + f3) * x + f2) * x * x + x + ONE
    return series * float_of_bits(np.int32((power + np.int32(127)) << np.int32(23)))  # type: ignore[call-arg]


@jit_inline
def sigmoid(x):
    return ONE / (ONE + exp(-x))


@jit_inline
def tanh(x):
    return ONE - TWO / (exp(TWO * x) + ONE)


# The bodies below are short loops over slices that begin at 0: only such ones become vector instructions.


@jit_forceinline
def cell(gates, added, which, live, old, new, tanh_cell, own, own_at, up, up_at, keep):
    """One LSTM step; gates: (B, 4H) products, become activations; added: (B or 1, 4H), or which: (B,) rows of it.

    live: (B,) or none; old, new: (B, H) cells; squashed: (B, H). The state goes to own[:, own_at:] and, times keep
    (B, H), to up[:, up_at:].
    """
    batch, hidden = old.shape
    for b in range(batch):
        gate, plus = gates[b], added[which[b] if which.size else b if added.shape[0] > 1 else 0]
        enter, forget, show, candidate = gate[:hidden], gate[hidden:], gate[2 * hidden :], gate[3 * hidden :]
        before, after, top, state = old[b], new[b], tanh_cell[b], own[b, own_at:]
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


@jit_forceinline
def cell_backward(gates, live, old, tanh_cell, upper, keep, later, to_cell, out):
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
            tanh_cell[b],
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


@jit_forceinline
def gather(table, rows, out, out_at):
    """Rows (N,) of table (any, H) to out[:, out_at:]."""
    for n in range(rows.size):
        line, to = table[rows[n]], out[n, out_at:]
        for j in range(line.size):
            to[j] = line[j]


@jit_forceinline
def attend(above, keys, memory, closed, places, weights):
    """Luong's general attention; above: (N, 2H) holds the top state on the right and gets the context on the left.

    keys, memory: (any, S, H); closed: (any, S), 0 from a sentence's first word on; places: (B,) where the sentences
    stand in these; weights: (N, S), written; N / B rows of each sentence stand together. Padding is passed over, so a
    sentence's sums are the same bits in every batch.
    """
    source, hidden = keys.shape[1:]
    rows = above.shape[0] // places.size
    for n in range(above.shape[0]):
        b = places[n // rows]
        first = 0
        while first < source - 1 and closed[b, first] < 0:
            first += 1
        weights[n, :first] = 0
        query, context, weight = above[n, hidden:], above[n, :hidden], weights[n, first:]
        highest = np.float32(-np.inf)
        for s in range(weight.size):
            score, key = np.float32(0.0), keys[b, first + s]
            for j in range(hidden):
                score += query[j] * key[j]
            weight[s] = score
            highest = max(highest, score)
        total = np.float32(0.0)
        for s in range(weight.size):
            weight[s] = exp(weight[s] - highest)
            total += weight[s]
        context[:] = 0
        for s in range(weight.size):
            weight[s] /= total
            share, state = weight[s], memory[b, first + s]
            for j in range(hidden):
                context[j] += share * state[j]


@jit_forceinline
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


@jit_forceinline
def attn_output(raw, keep, out, attn_vector):
    """The attentional vector: raw (B, H) becomes its tanh; times keep it goes to out (B, H) and fed[:, :H]."""
    batch, hidden = raw.shape
    for b in range(batch):
        line, to = raw[b], out[b]
        for j in range(hidden):
            line[j] = tanh(line[j])
        if keep.size:
            kept = keep[b]
            for j in range(hidden):
                to[j] = line[j] * kept[j]
        else:
            for j in range(hidden):
                to[j] = line[j]
        if attn_vector.size:
            further = attn_vector[b]
            for j in range(hidden):
                further[j] = to[j]


@jit_forceinline
def attn_output_backward(of_out, attn_vector, keep, raw, to_combined):
    """to_combined = (of_out + fed[:, :H]) * keep * (1 - raw^2), all (B, H)"""
    batch, hidden = raw.shape
    for b in range(batch):
        for j in range(hidden):
            value = (of_out[b, j] + attn_vector[b, j]) * (keep[b, j] if keep.size else ONE)
            to_combined[b, j] = value * (ONE - raw[b, j] * raw[b, j])
