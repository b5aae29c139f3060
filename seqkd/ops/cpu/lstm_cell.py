# mypy: disable-error-code="no-untyped-def"
"""The LSTM cell, attention and attentional vector of one time step, compiled for float32 arrays on a CPU.

`seqkd.ops.lstm_cell` has the same functions in plain torch and `seqkd.ops.cuda.lstm_cell` as CUDA kernels. exp is 2^k
times a polynomial, with a relative error of at most 3e-7 near zero and 1e-5 everywhere; sigmoid and tanh use it.
Sizes: B sentences, H hidden units, S source positions, N rows of a search. An array of size 0 stands for "none".
Gates stand in the order input, forget, output, cell (i, f, o, g).
"""

import numpy as np

from seqkd.ops.cpu.packing import float_of_bits
from seqkd.ops.cpu.target import FORCE_INLINE, INLINE
from seqkd.utils.jit import compiler

jit_forceinline, jit_inline = compiler(__name__, **FORCE_INLINE), compiler(__name__, **INLINE)

ONE, HALF, TWO = np.float32(1.0), np.float32(0.5), np.float32(2.0)
LOG2_E, LN_2 = np.float32(1.4426950408889634), np.float32(0.6931471805599453)
MIN_EXPONENT, MAX_EXPONENT = np.float32(-87.0), np.float32(88.0)  # beyond them exp is not a normal float32
INVERSE_FACTORIALS = tuple(np.float32(1.0 / f) for f in (720.0, 120.0, 24.0, 6.0, 2.0))


@jit_inline
def exp(x):
    x = min(max(x, MIN_EXPONENT), MAX_EXPONENT)
    power = np.int32(np.floor(x * LOG2_E + HALF))
    x = x - np.float32(power) * LN_2
    f6, f5, f4, f3, f2 = INVERSE_FACTORIALS
    series = ((((f6 * x + f5) * x + f4) * x + f3) * x + f2) * x * x + x + ONE
    return series * float_of_bits(np.int32((power + np.int32(127)) << np.int32(23)))  # type: ignore[call-arg]


@jit_inline
def sigmoid(x):
    return ONE / (ONE + exp(-x))


@jit_inline
def tanh(x):
    return ONE - TWO / (exp(TWO * x) + ONE)


# The bodies below are short loops over slices that begin at 0: LLVM turns only such loops into vector instructions.


@jit_forceinline
def cell(
    gates,
    added,
    added_rows,
    mask,
    old_cell,
    new_cell,
    tanh_cell,
    state_out,
    state_at,
    next_input,
    next_at,
    dropout_mask,
):
    """Compute one LSTM step in place.

    gates: (B, 4H), the products with the weights, become activations. added: (B or 1, 4H), added to them before; if
    added_rows (B,) is given, row b gets added[added_rows[b]]. mask: (B,), 0 at padding, or none. old_cell, new_cell,
    tanh_cell: (B, H). Writes the state to state_out[:, state_at:] and, times dropout_mask (B, H), to
    next_input[:, next_at:].
    """
    batch, hidden = old_cell.shape
    for b in range(batch):
        gate, plus = gates[b], added[added_rows[b] if added_rows.size else b if added.shape[0] > 1 else 0]
        i, f, o, g = gate[:hidden], gate[hidden:], gate[2 * hidden :], gate[3 * hidden :]
        old, new, tanh_new, state = old_cell[b], new_cell[b], tanh_cell[b], state_out[b, state_at:]
        for j in range(3 * hidden):
            gate[j] = sigmoid(gate[j] + plus[j])
        plus = plus[3 * hidden :]
        for j in range(hidden):
            g[j] = tanh(g[j] + plus[j])
        unmasked = mask[b] if mask.size else ONE
        for j in range(hidden):
            new[j] = (f[j] * old[j] + i[j] * g[j]) * unmasked
        for j in range(hidden):
            tanh_new[j] = tanh(new[j])
        for j in range(hidden):
            state[j] = o[j] * tanh_new[j]
        if dropout_mask.size:
            upper, factor = next_input[b, next_at:], dropout_mask[b]
            for j in range(hidden):
                upper[j] = state[j] * factor[j]
        elif next_input.size:
            upper = next_input[b, next_at:]
            for j in range(hidden):
                upper[j] = state[j]


@jit_forceinline
def cell_backward(gates, mask, old_cell, tanh_cell, grad_next_input, dropout_mask, grad_state, grad_cell, grad_gates):
    """Compute the gradients of `cell`.

    The state's gradient is grad_next_input[:, :H] * dropout_mask + grad_state[:, -H:]. grad_cell (B, H) holds that of
    the new cell and becomes that of the old cell. Writes grad_gates (B, 4H), of the gates before their activation.
    """
    batch, hidden = old_cell.shape
    grad = np.empty(hidden, np.float32)  # of the state
    for b in range(batch):
        gate, grad_gate = gates[b], grad_gates[b]
        i, f, o, g = gate[:hidden], gate[hidden:], gate[2 * hidden :], gate[3 * hidden :]
        grad_i, grad_f = grad_gate[:hidden], grad_gate[hidden:]
        grad_o, grad_g = grad_gate[2 * hidden :], grad_gate[3 * hidden :]
        upper, later = grad_next_input[b], grad_state[b, grad_state.shape[1] - hidden :]
        old, tanh_new, inner = old_cell[b], tanh_cell[b], grad_cell[b]
        unmasked = mask[b] if mask.size else ONE
        if dropout_mask.size:
            factor = dropout_mask[b]
            for j in range(hidden):
                grad[j] = (upper[j] * factor[j] + later[j]) * unmasked
        else:
            for j in range(hidden):
                grad[j] = (upper[j] + later[j]) * unmasked
        for j in range(hidden):
            grad_o[j] = grad[j] * tanh_new[j] * o[j] * (ONE - o[j])
        for j in range(hidden):
            inner[j] = inner[j] * unmasked + grad[j] * o[j] * (ONE - tanh_new[j] * tanh_new[j])
        for j in range(hidden):
            grad_i[j] = inner[j] * g[j] * i[j] * (ONE - i[j])
        for j in range(hidden):
            grad_g[j] = inner[j] * i[j] * (ONE - g[j] * g[j])
        for j in range(hidden):
            grad_f[j] = inner[j] * old[j] * f[j] * (ONE - f[j])
        for j in range(hidden):
            inner[j] *= f[j]


@jit_forceinline
def gather(table, rows, out, out_at):
    """Copy rows (N,) of table (any, H) to out[:, out_at:]."""
    for n in range(rows.size):
        row, copy = table[rows[n]], out[n, out_at:]
        for j in range(row.size):
            copy[j] = row[j]


@jit_forceinline
def attend(combine_input, keys, states, mask_bias, weights, batch_indices):
    """Compute Luong's general attention.

    combine_input: (N, 2H), holds the top state in its right half and gets the context in its left half. keys, states:
    (any, S, H). mask_bias: (any, S), 0 from a sentence's first word on. weights: (N, S), written. batch_indices: (B,),
    where each sentence stands in keys, states and mask_bias; the N / B rows of a sentence are adjacent.
    Padding is skipped, so a sentence's sums have the same bits in every batch.
    """
    source, hidden = keys.shape[1:]
    rows = combine_input.shape[0] // batch_indices.size
    for n in range(combine_input.shape[0]):
        b = batch_indices[n // rows]
        first = 0
        while first < source - 1 and mask_bias[b, first] < 0:
            first += 1
        weights[n, :first] = 0
        query, context, weight = combine_input[n, hidden:], combine_input[n, :hidden], weights[n, first:]
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
            probability, state = weight[s], states[b, first + s]
            for j in range(hidden):
                context[j] += probability * state[j]


@jit_forceinline
def attend_backward(grad_combine_input, weights, keys, states, grad_scores, grad_state):
    """Compute the gradients of `attend`.

    grad_combine_input: (B, 2H), of [context; top state]. Writes grad_scores (B, S) and grad_state (B, H), that of the
    top state.
    """
    batch, source, hidden = keys.shape
    for b in range(batch):
        grad_context, weight = grad_combine_input[b, :hidden], weights[b]
        grad_score, grad_query = grad_scores[b], grad_state[b]
        mean = np.float32(0.0)
        for s in range(source):
            grad_weight, state = np.float32(0.0), states[b, s]
            for j in range(hidden):
                grad_weight += grad_context[j] * state[j]
            grad_score[s] = grad_weight
            mean += grad_weight * weight[s]
        grad_query[:] = grad_combine_input[b, hidden:]
        for s in range(source):
            grad_score[s] = weight[s] * (grad_score[s] - mean)
            factor, key = grad_score[s], keys[b, s]
            for j in range(hidden):
                grad_query[j] += factor * key[j]


@jit_forceinline
def attn_output(attn_vector, dropout_mask, out, next_input):
    """Compute the attentional vector: attn_vector (B, H) becomes its tanh; times dropout_mask it is written to out.

    out: (B, H). A given next_input (B, H or more) gets a copy of it in [:, :H].
    """
    batch, hidden = attn_vector.shape
    for b in range(batch):
        vector, dropped = attn_vector[b], out[b]
        for j in range(hidden):
            vector[j] = tanh(vector[j])
        if dropout_mask.size:
            factor = dropout_mask[b]
            for j in range(hidden):
                dropped[j] = vector[j] * factor[j]
        else:
            for j in range(hidden):
                dropped[j] = vector[j]
        if next_input.size:
            copy = next_input[b]
            for j in range(hidden):
                copy[j] = dropped[j]


@jit_forceinline
def attn_output_backward(grad_out, grad_next_input, dropout_mask, attn_vector, grad_combined):
    """Compute grad_combined = (grad_out + grad_next_input[:, :H]) * dropout_mask * (1 - attn_vector^2), all (B, H)."""
    batch, hidden = attn_vector.shape
    for b in range(batch):
        for j in range(hidden):
            grad = (grad_out[b, j] + grad_next_input[b, j]) * (dropout_mask[b, j] if dropout_mask.size else ONE)
            grad_combined[b, j] = grad * (ONE - attn_vector[b, j] * attn_vector[b, j])
