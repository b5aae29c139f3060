# mypy: disable-error-code="no-untyped-def, no-untyped-call"
"""The loops over time, each one compiled call over float32 arrays on a CPU.

A step of the network is a few small products and some thirty pointwise operations; as single operations of torch the
calls cost more than the work. `recurrence` is the same in plain torch, `model.Network.step` that of a search.
Sizes: B sentences, T time steps, L layers, H hidden units, S source positions. An array of size 0 stands for "none".
Weights are panels of `tiles`, of [a; b] where a product is over two vectors side by side.
"""

import numpy as np

from seqkd.kernels import attend, attend_backward, cell, cell_backward, squash, squash_backward
from seqkd.tiles import WIDE, compiled, product


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
