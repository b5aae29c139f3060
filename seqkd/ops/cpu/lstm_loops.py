# mypy: disable-error-code="no-untyped-def, no-untyped-call"
"""The loops over time, each one compiled call over float32 arrays on a CPU.

A step of the network is a few small products and some thirty pointwise operations; as single operations of torch the
calls cost more than the work. `recurrence` is the same in plain torch, `model.Network.step` that of a search.
Sizes: B sentences, T time steps, L layers, H hidden units, S source positions. An array of size 0 stands for "none".
Weights are panels of `tiles`, of [a; b] where a product is over two vectors side by side.
"""

import numpy as np

from seqkd.ops.cpu.gemm import FLAGS, PANEL_COLUMNS, block_size, gemm
from seqkd.ops.cpu.lstm_cell import (
    attend,
    attend_backward,
    attn_output,
    attn_output_backward,
    cell,
    cell_backward,
    gather,
)
from seqkd.utils.jit import compiler

jit = compiler(__name__, **FLAGS)


@jit
def layer(added, right, live, gates, states, cells, tanh_cell):
    """One LSTM layer from a zero state; added, gates: (T, B, 4H); live: (T, B); squashed: (T, B, H).

    states, cells: (T + 1, B, H), zero at first. Writes all but added and live.
    """
    zero, no_keep = np.zeros(right.shape[0] * PANEL_COLUMNS, np.float32), np.empty((0, 0), np.float32)
    its_own = np.empty(0, np.int64)
    for t in range(added.shape[0]):
        gemm(states[t], right, zero, no_keep, gates[t])
        up, old, new = no_keep, cells[t], cells[t + 1]
        cell(gates[t], added[t], its_own, live[t], old, new, tanh_cell[t], states[t + 1], 0, up, 0, no_keep)


@jit
def encoder(words, live, table, rights, starts, attention, states, cells, memory, keys):
    """The encoder of a search, which keeps no more than the next step needs; words, live: (T, B).

    table: (V, 4H), the words' shares of the first layer's gates; rights, starts: (2L - 1, ...), what each layer's own
    state is multiplied with, then the inputs of all layers but the first, and their biases; attention: panels. states:
    (L, B, H) and cells: (2, L, B, H), zero at first, become those of the last step, cells[T % 2]. Writes memory and
    keys (B, T, H), 0 where nothing is live. Sentences yet to begin cost nothing where the longer ones stand last.
    """
    layers, batch, hidden = states.shape
    some, last = block_size(batch, 1), layers - 1
    no_keep, its_own = np.empty((0, 0), np.float32), np.empty(0, np.int64)
    gates, added = np.empty((some, 4 * hidden), np.float32), np.empty((some, 4 * hidden), np.float32)
    tanh_cell, key = np.empty((some, hidden), np.float32), np.empty((some, hidden), np.float32)
    for low in range(0, batch, some):
        end = min(low + some, batch)
        for t in range(words.shape[0]):
            first = low
            while first < end and live[t, first] == 0:
                first += 1
            memory[low:first, t] = 0
            keys[low:first, t] = 0
            count = end - first
            if not count:
                continue
            for n in range(layers):
                own, gate = states[n, first:end], gates[:count]
                old, new = cells[t % 2, n, first:end], cells[1 - t % 2, n, first:end]
                gemm(own, rights[n], starts[n], no_keep, gate)
                if n:
                    lower, at = states[n - 1, first:end], last + n
                    gemm(lower, rights[at], starts[at], no_keep, added[:count])
                plus, which = (added[:count], its_own) if n else (table, words[t, first:end])
                cell(gate, plus, which, live[t, first:end], old, new, tanh_cell, own, 0, no_keep, 0, no_keep)
            gemm(states[last, first:end], attention, starts[0], no_keep, key[:count])
            for b in range(first, end):
                for j in range(hidden):
                    memory[b, t, j] = states[last, b, j]
                for j in range(hidden):
                    keys[b, t, j] = key[b - first, j]


@jit
def layer_backward(of_states, right, live, gates, cells, tanh_cell, to_state, to_cell, out):
    """Gradients through layer; of_states: (T, B, H); to_state, to_cell: (B, H) of the last step, become the first's.

    right: of the transposed weight. Writes out (T, B, 4H), the gradient of added.
    """
    zero, no_keep = np.zeros(right.shape[0] * PANEL_COLUMNS, np.float32), np.empty((0, 0), np.float32)
    for t in range(gates.shape[0] - 1, -1, -1):
        cell_backward(gates[t], live[t], cells[t], tanh_cell[t], of_states[t], no_keep, to_state, to_cell, out[t])
        gemm(out[t], right, zero, no_keep, to_state)


@jit
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
    tanh_cell,
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
    zero, no_row = np.zeros(rights.shape[1] * PANEL_COLUMNS, np.float32), np.empty(0, np.float32)
    no_keep, its_own, places = np.empty((0, 0), np.float32), np.empty(0, np.int64), np.arange(keys.shape[0])
    for t in range(time):
        for n in range(layers):
            last = n == layers - 1
            gemm(below[n, t], rights[n], zero, no_keep, gates[n, t])
            cell(
                gates[n, t],
                biases[n : n + 1] if n else words[t],
                its_own,
                no_row,
                cells[n, t],
                cells[n, t + 1],
                tanh_cell[n, t],
                below[n, t + 1],
                hidden,
                above[t] if last else below[n + 1, t],
                hidden if last else 0,
                keep[t, n] if keep.size and not last else no_keep,
            )
        attend(above[t], keys, memory, closed, places, attention[t])
        gemm(above[t], combine, zero, no_keep, raw[t])
        attn_output(raw[t], keep[t, layers - 1] if keep.size else no_keep, out[t], below[0, t + 1])


@jit
def decoder_backward(
    of_out,
    keys,
    memory,
    keep,
    rights,
    combine,
    gates,
    cells,
    tanh_cell,
    raw,
    attention,
    to_gates,
    to_combined,
    to_above,
    to_scores,
    decoder_input,
    to_cell,
):
    """Gradients through decoder; rights, combine: of the transposed weights; the last six are written.

    to_cell: (L, B, H) and entered: (L, B, 2H), zero at first, end as the gradients of the cells and of [input; own
    state] at step 0; to_combined: (T, B, H); to_above: (T, B, 2H); to_scores: (T, B, S).
    """
    layers, time, batch, hidden = gates.shape[0], gates.shape[1], gates.shape[2], raw.shape[2]
    zero, no_row = np.zeros(rights.shape[1] * PANEL_COLUMNS, np.float32), np.empty(0, np.float32)
    no_keep, upper = np.empty((0, 0), np.float32), np.empty((batch, hidden), np.float32)
    for t in range(time - 1, -1, -1):
        attn_output_backward(
            of_out[t], decoder_input[0], keep[t, layers - 1] if keep.size else no_keep, raw[t], to_combined[t]
        )
        gemm(to_combined[t], combine, zero, no_keep, to_above[t])
        attend_backward(to_above[t], attention[t], keys, memory, to_scores[t], upper)
        for n in range(layers - 1, -1, -1):
            last = n == layers - 1
            cell_backward(
                gates[n, t],
                no_row,
                cells[n, t],
                tanh_cell[n, t],
                upper if last else decoder_input[n + 1],
                keep[t, n] if keep.size and not last else no_keep,
                decoder_input[n],
                to_cell[n],
                to_gates[n, t],
            )
            gemm(to_gates[n, t], rights[n], zero, no_keep, decoder_input[n])


@jit
def decoder_step(
    words,
    table,
    biases,
    keys,
    memory,
    closed,
    places,
    rights,
    starts,
    scales,
    combine,
    parents,
    attn_vector,
    state,
    cells,
    new_state,
    new_cells,
    new_fed,
):
    """One decoder step of a search for N rows, N / B a sentence, whose sentences stand at places (B,) of the memory.

    words: (N,) and table: (V, 4H), their shares of the first layer's gates; rights, starts, scales: of all layers'
    weights, as product takes them; combine: one triple of them; parents: (N,) the rows of fed (any, H) and of state,
    cells (L, any, H) that the rows go on from. Writes new_state, new_cells (L, N, H) and new_fed (N, H).
    """
    layers, rows, hidden = new_state.shape
    beam = rows // places.size
    some = block_size(places.size, beam) * beam  # their buffers stay near
    no_row, no_keep, its_own = np.empty(0, np.float32), np.empty((0, 0), np.float32), np.empty(0, np.int64)
    gates, tanh_cell = np.empty((some, 4 * hidden), np.float32), np.empty((some, hidden), np.float32)
    entering, above = np.empty((some, 2 * hidden), np.float32), np.empty((some, 2 * hidden), np.float32)
    old, weights = np.empty((some, hidden), np.float32), np.empty((some, keys.shape[1]), np.float32)
    right, start, scale = combine
    for at in range(0, rows, some):
        end = min(at + some, rows)
        left, top, parent = entering[: end - at], above[: end - at], parents[at:end]
        gather(attn_vector, parent, left, 0)
        for n in range(layers):
            gather(state[n], parent, left, hidden)
            gather(cells[n], parent, old, 0)
            gemm(left, rights[n], starts[n], scales[n], gates[: end - at])
            plus, which = (biases[n : n + 1], its_own) if n else (table, words[at:end])
            up, up_at = (top, hidden) if n == layers - 1 else (left, 0)
            own, new = new_state[n, at:end], new_cells[n, at:end]
            cell(gates, plus, which, no_row, old[: end - at], new, tanh_cell, own, 0, up, up_at, no_keep)
        attend(top, keys, memory, closed, places[at // beam : end // beam], weights)
        gemm(top, right, start, scale, new_fed[at:end])
        attn_output(new_fed[at:end], no_keep, new_fed[at:end], no_keep)
