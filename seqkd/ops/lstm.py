"""The two loops over time, each one autograd function with its backward written by hand, and a step of a search.

Every buffer is made once for all time steps, and the gradient of a weight is one product at the end instead of one a
step. `model.Network.step` says the same in plain torch; the tests compare values and gradients. The parts of a step
between two products are `cuda`'s on a GPU where it can, or else `pointwise`'s.
Gates stand in the order input, forget, output, candidate.
"""

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from seqkd.ops import lstm_cell
from seqkd.ops.cuda import lstm_cell as lstm_cell_cuda
from seqkd.ops.matmul import cast_weight, matmul_nt, matmul_out


def cell_ops(tensor: Tensor) -> ModuleType:
    """Where the pointwise parts of a step over such tensors are."""
    return lstm_cell_cuda if lstm_cell_cuda.supports(tensor) else lstm_cell


def lstm_step(gates: Tensor, words: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """One LSTM step with autograd; gates: (batch, 4 hidden) products; words: what is added to them, (batch or 1, same).

    cell: (batch, hidden). Returns state and cell.
    """
    enter, keep, show, candidate = (gates + words).chunk(4, -1)
    cell = torch.sigmoid(keep) * cell + torch.sigmoid(enter) * torch.tanh(candidate)
    return torch.sigmoid(show) * torch.tanh(cell), cell


class Layer(torch.autograd.Function):
    """One LSTM layer from a zero state.

    inputs: (time, batch, 4 hidden), the input's share of the gates, bias included; weight: (4 hidden, hidden);
    live: (time, batch, 1), 0 at the padding on the left, or None. Padding keeps cell and state at zero, so every
    sentence starts from the zero state and ends at the last step.
    Returns states (time, batch, hidden) and the last cell (batch, hidden).
    """

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, live: Tensor | None) -> tuple[Tensor, Tensor]:
        time, batch, width = inputs.shape
        hidden, matrix, part = width // 4, cast_weight(weight), cell_ops(inputs)
        gates, tanh_cell = torch.empty_like(inputs), inputs.new_empty(time, batch, hidden)
        states, cells = inputs.new_zeros(time + 1, batch, hidden), inputs.new_zeros(time + 1, batch, hidden)
        rounded = states.to(matrix.dtype)  # the same buffer where nothing is rounded
        for t in range(time):
            matmul_out(gates[t], rounded[t], matrix)
            out = states[t + 1], None if rounded is states else rounded[t + 1], None
            part.cell(gates[t], inputs[t], _at(live, t), cells[t], cells[t + 1], tanh_cell[t], *out, None)
        ctx.save_for_backward(matrix, gates, rounded, cells, tanh_cell, live)
        return states[1:], cells[time].clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        matrix, gates, states, cells, tanh_cell, live = ctx.saved_tensors
        time, part = len(gates), cell_ops(gates)
        of_states, to_cell = gradients[0].contiguous(), gradients[1].clone()
        to_gates, to_state, back = torch.empty_like(gates, dtype=matrix.dtype), torch.zeros_like(to_cell), matrix.t()
        for t in range(time - 1, -1, -1):
            saved = gates[t], _at(live, t), cells[t], tanh_cell[t]
            part.cell_backward(*saved, of_states[t], None, to_state, to_cell, to_gates[t])
            matmul_out(to_state, to_gates[t], back)
        return to_gates.to(gates.dtype), _of_weight(to_gates, states[:time]), None


class Decoder(torch.autograd.Function):
    """The decoder over all target positions: stacked LSTM, Luong's general attention, input feeding.

    words: (time, batch, 4 hidden), the embeddings' share of the first layer's gates, bias included.
    memory, keys: (batch, source, hidden), the encoder's states and their product with the attention's matrix.
    closed: (batch, 1, source), 0 where the source is real and very negative at padding.
    state, cell: (layers, batch, hidden), where the encoder ended.
    keep: (time, layers, batch, hidden) dropout multipliers, or None; keep[:, l] for l < layers - 1 scales the input
    of layer l + 1, keep[:, layers - 1] the attentional vector.
    combine: (hidden, 2 hidden) over [context; top state]. weights: for each layer (4 hidden, 2 hidden) over
    [fed vector or lower state; own state], then for each layer but the first its bias (4 hidden,).
    Returns the attentional vectors (time, batch, hidden).
    """

    @staticmethod
    def forward(
        ctx: Any,
        words: Tensor,
        memory: Tensor,
        keys: Tensor,
        closed: Tensor,
        state: Tensor,
        cell: Tensor,
        keep: Tensor | None,
        combine: Tensor,
        *weights: Tensor,
    ) -> Tensor:
        (time, batch, width), layers = words.shape, state.shape[0]
        hidden, part, seen = width // 4, cell_ops(words), closed[:, 0].contiguous()
        combine, *matrices = map(cast_weight, (combine, *weights[:layers]))
        gates = words.new_empty(layers, time, batch, width)
        cells, tanh_cell = (
            words.new_empty(layers, time + 1, batch, hidden),
            words.new_empty(layers, time, batch, hidden),
        )
        below = words.new_empty(layers, time + 1, batch, 2 * hidden, dtype=combine.dtype)  # [input; own state]
        above = words.new_empty(time, batch, 2 * hidden, dtype=combine.dtype)  # [context; top state]
        raw = words.new_empty(time, batch, hidden)  # attentional vectors before dropout
        out, attention = torch.empty_like(raw), words.new_empty(time, batch, memory.shape[1])
        cells[:, 0] = cell
        below[:, 0, :, hidden:] = state
        below[0, 0, :, :hidden] = 0.0
        for t in range(time):
            for n in range(layers):
                matmul_out(gates[n, t], below[n, t], matrices[n])
                last = n == layers - 1
                part.cell(
                    gates[n, t],
                    weights[layers + n - 1][None] if n else words[t],
                    None,
                    cells[n, t],
                    cells[n, t + 1],
                    tanh_cell[n, t],
                    None,
                    below[n, t + 1, :, hidden:],
                    above[t, :, hidden:] if last else below[n + 1, t, :, :hidden],
                    None if last else _at(keep, t, n),
                )
            part.attend(above[t], keys, memory, seen, attention[t])
            matmul_out(raw[t], above[t], combine)
            part.squash(raw[t], _at(keep, t, layers - 1), out[t], below[0, t + 1, :, :hidden])
        ctx.save_for_backward(
            memory, keys, keep, combine, gates, cells, tanh_cell, below, above, raw, attention, *matrices
        )
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        memory, keys, keep, combine, gates, cells, tanh_cell, below, above, raw, attention, *matrices = (
            ctx.saved_tensors
        )
        (time, batch, hidden), layers, part, of_out = raw.shape, len(matrices), cell_ops(raw), gradients[0].contiguous()
        to_gates, to_combined = (torch.empty_like(it, dtype=combine.dtype) for it in (gates, raw))
        to_above, to_scores = raw.new_empty(time, batch, 2 * hidden), torch.empty_like(attention)
        decoder_input = raw.new_zeros(layers, batch, 2 * hidden)  # gradients of [input; own state], those of step t + 1
        to_cell, upper = raw.new_zeros(layers, batch, hidden), torch.empty_like(raw[0])
        back, back_combine = [matrix.t() for matrix in matrices], combine.t()
        for t in range(time - 1, -1, -1):
            part.squash_backward(
                of_out[t], decoder_input[0, :, :hidden], _at(keep, t, layers - 1), raw[t], to_combined[t]
            )
            matmul_out(to_above[t], to_combined[t], back_combine)
            part.attend_backward(to_above[t], attention[t], keys, memory, to_scores[t], upper)
            for n in range(layers - 1, -1, -1):
                last = n == layers - 1
                part.cell_backward(
                    gates[n, t],
                    None,
                    cells[n, t],
                    tanh_cell[n, t],
                    upper if last else decoder_input[n + 1, :, :hidden],
                    None if last else _at(keep, t, n),
                    decoder_input[n, :, hidden:],
                    to_cell[n],
                    to_gates[n, t],
                )
                matmul_out(decoder_input[n], to_gates[n, t], back[n])
        scores, tops = to_scores.permute(1, 2, 0), above[:, :, hidden:].transpose(0, 1).to(raw.dtype)
        return (
            to_gates[0].to(raw.dtype),
            torch.bmm(attention.permute(1, 2, 0), to_above[:, :, :hidden].transpose(0, 1)),
            torch.bmm(scores, tops),
            None,
            decoder_input[:, :, hidden:],
            to_cell,
            None,
            _of_weight(to_combined, above),
            *(_of_weight(to_gates[n], below[n, :time]) for n in range(layers)),
            *(to_gates[n].sum((0, 1), dtype=raw.dtype) for n in range(1, layers)),
        )


def decoder_step(
    words: Tensor,
    memory: Sequence[Tensor],
    last: Sequence[Tensor],
    matrices: Sequence[Tensor],
    biases: Sequence[Tensor],
    combine: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """model.Network.step without autograd; memory: states, keys, closed; last, and what returns: fed, state, cell.

    matrices, combine: as `narrow` leaves them.
    """
    (states, keys, closed), (attn_vector, state, cell), part = memory, last, cell_ops(words)
    (layers, rows, hidden), kind = cell.shape, combine.dtype
    below = words.new_empty(layers, rows, 2 * hidden, dtype=kind)
    above, gates = words.new_empty(rows, 2 * hidden, dtype=kind), words.new_empty(rows, 4 * hidden)
    new_state, new_cell, new_fed = torch.empty_like(state), torch.empty_like(cell), words.new_empty(rows, hidden)
    below[0, :, :hidden] = attn_vector
    below[:, :, hidden:] = state
    for n in range(layers):
        matmul_out(gates, below[n], matrices[n])
        up = above[:, hidden:] if n == layers - 1 else below[n + 1, :, :hidden]
        added = biases[n - 1][None] if n else words
        part.cell(gates, added, None, cell[n], new_cell[n], None, new_state[n], None, up, None)
    part.attend(above, keys, states, closed[:, 0], None)
    matmul_out(new_fed, above, combine)
    part.squash(new_fed, None, None, None)
    return new_fed, new_state, new_cell


def _at(table: Tensor | None, *place: int) -> Tensor | None:
    return None if table is None else table[place]


def _of_weight(outputs: Tensor, inputs: Tensor) -> Tensor:
    """The gradient of a weight from those of its outputs (time, batch, out) and its inputs (time, batch, in)."""
    return matmul_nt(outputs.flatten(0, 1).t(), inputs.flatten(0, 1).t())
