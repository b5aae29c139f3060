"""`recurrence` for float32 on a CPU: the same two functions with their pointwise parts in compiled loops."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seqkd import kernels
from seqkd.products import product, repeated

Array = NDArray[np.float32]
NONE: Array = np.empty((0, 0), np.float32)
NO_ROW: Array = np.empty(0, np.float32)


def usable(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu" and tensor.dtype == torch.float32


def _array(tensor: Tensor) -> Array:
    return tensor.detach().numpy()


def _rows(tensor: Tensor | None, time: int, none: Array = NONE) -> list[Array]:
    """A tensor's time steps as arrays; where there is no tensor, so many times none."""
    return [none] * time if tensor is None else list(_array(tensor.contiguous()))


def step(gates: Tensor, words: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """recurrence.step, without autograd; gates are used up."""
    state, new, squashed = torch.empty_like(cell), torch.empty_like(cell), torch.empty_like(cell)
    arrays = [_array(it) for it in (cell, new, squashed, state)]
    kernels.cell(_array(gates), _array(words), NO_ROW, *arrays, 0, NONE, 0, NONE)  # type: ignore[call-arg]
    return state, new


def best(logits: Tensor, scores: Tensor, room: Tensor, *, barred: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """search.best for float32 on a CPU, in one pass over the logits."""
    width, blocks = int(room.max()), logits.shape[1] // kernels.BLOCK
    width = min(width, scores.shape[1] * (logits.shape[1] - len(barred)))
    highest = torch.unflatten(logits[:, : blocks * kernels.BLOCK], 1, (blocks, kernels.BLOCK)).amax(-1)
    found = scores.new_empty(scores.shape[0], width)
    parents, words = torch.empty(found.shape, dtype=torch.int64), torch.empty(found.shape, dtype=torch.int64)
    given, made = (logits, highest, scores, room.clamp(max=width)), (found, parents, words)
    kernels.best(*map(_array, given), barred, *map(_array, made))  # type: ignore[call-arg]
    return found, parents, words


class Layer(torch.autograd.Function):
    """recurrence.Layer: one LSTM layer from a zero state, padding on the left."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, live: Tensor | None) -> tuple[Tensor, Tensor]:
        time, batch, width = inputs.shape
        hidden = width // 4
        gates, squashed = torch.empty_like(inputs), inputs.new_empty(time, batch, hidden)
        states, cells = inputs.new_zeros(time + 1, batch, hidden), inputs.new_zeros(time + 1, batch, hidden)
        times, alive = repeated(weight, batch), _rows(None if live is None else live[:, :, 0], time, NO_ROW)
        entering, leaving = states.unbind(0), gates.unbind(0)
        added, activated, top = _array(inputs), _array(gates), _array(squashed)
        kept, shown = _array(cells), _array(states)
        for t in range(time):
            times(entering[t], leaving[t])
            kernels.cell(activated[t], added[t], alive[t], kept[t], kept[t + 1], top[t], shown[t + 1], 0, NONE, 0, NONE)
        ctx.save_for_backward(weight, gates, states, cells, squashed, live)
        return states[1:], cells[time].clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        weight, gates, states, cells, squashed, live = ctx.saved_tensors
        of_states, of_cell = gradients
        time, batch, width = gates.shape
        to_inputs, to_state, to_cell = torch.empty_like(gates), torch.zeros_like(of_cell), of_cell.clone()
        times, alive = repeated(weight.t(), batch), _rows(None if live is None else live[:, :, 0], time, NO_ROW)
        upper, later, inner = _rows(of_states, time), _array(to_state), _array(to_cell)
        activated, kept, top, out = _array(gates), _array(cells), _array(squashed), _array(to_inputs)
        leaving = to_inputs.unbind(0)
        for t in range(time - 1, -1, -1):
            kernels.cell_backward(activated[t], alive[t], kept[t], top[t], upper[t], NONE, later, inner, out[t])
            times(leaving[t], to_state)
        flat = to_inputs.view(time * batch, width)
        return to_inputs, product(flat.t(), states[:time].reshape(time * batch, -1).t()), None


class Decoder(torch.autograd.Function):
    """recurrence.Decoder: stacked LSTM, general attention, input feeding, over all target positions."""

    @staticmethod
    def forward(  # noqa: PLR0917
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
        hidden = width // 4
        matrices, biases = weights[:layers], weights[layers:]
        gates = words.new_empty(layers, time, batch, width)
        cells = words.new_empty(layers, time + 1, batch, hidden)
        cells[:, 0] = cell
        below = words.new_empty(layers, time + 1, batch, 2 * hidden)  # [input; own state] of each layer
        below[:, 0, :, hidden:] = state
        below[0, 0, :, :hidden] = 0.0
        above, squashed = words.new_empty(time, batch, 2 * hidden), words.new_empty(layers, time, batch, hidden)
        raw, out = words.new_empty(time, batch, hidden), words.new_empty(time, batch, hidden)
        attention = words.new_empty(time, batch, memory.shape[1])
        times = [repeated(matrix, batch) for matrix in matrices]
        combined = repeated(combine, batch)
        entering, leaving = [it.unbind(0) for it in below], [it.unbind(0) for it in gates]
        above_steps, raw_steps = above.unbind(0), raw.unbind(0)
        added = [list(_array(words)), *([_array(bias[None])] * time for bias in biases)]
        a_gates, a_cells, a_top, a_below = _array(gates), _array(cells), _array(squashed), _array(below)
        a_above, a_raw, a_out, a_attention = _array(above), _array(raw), _array(out), _array(attention)
        a_keys, a_memory, a_closed = _array(keys), _array(memory), _array(closed[:, 0])
        kept = [_rows(None if keep is None else keep[:, layer], time) for layer in range(layers)]
        for t in range(time):
            for layer in range(layers):
                times[layer](entering[layer][t], leaving[layer][t])
                last = layer == layers - 1
                kernels.cell(
                    a_gates[layer, t],
                    added[layer][t],
                    NO_ROW,
                    a_cells[layer, t],
                    a_cells[layer, t + 1],
                    a_top[layer, t],
                    a_below[layer, t + 1],
                    hidden,
                    a_above[t] if last else a_below[layer + 1, t],
                    hidden if last else 0,
                    NONE if last else kept[layer][t],
                )
            kernels.attend(a_above[t], a_keys, a_memory, a_closed, a_attention[t])
            combined(above_steps[t], raw_steps[t])
            kernels.squash(a_raw[t], kept[layers - 1][t], a_out[t], a_below[0, t + 1])
        ctx.save_for_backward(
            memory, keys, keep, combine, gates, cells, squashed, below, above, raw, attention, *matrices
        )
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        memory, keys, keep, combine, gates, cells, squashed, below, above, raw, attention, *matrices = ctx.saved_tensors
        (time, batch, hidden), layers = raw.shape, len(matrices)
        to_gates, to_combined = torch.empty_like(gates), torch.empty_like(raw)
        to_above, to_scores = torch.empty_like(above), torch.empty_like(attention)
        entered = raw.new_zeros(layers, batch, 2 * hidden)  # gradients of [input; own state], those of step t + 1
        upper, to_cell = raw.new_zeros(batch, hidden), raw.new_zeros(layers, batch, hidden)
        times = [repeated(matrix.t(), batch) for matrix in matrices]
        combined = repeated(combine.t(), batch)
        leaving, combined_steps, above_steps = (
            [it.unbind(0) for it in to_gates],
            to_combined.unbind(0),
            to_above.unbind(0),
        )
        of_out, kept = (
            _rows(gradients[0], time),
            [_rows(None if keep is None else keep[:, layer], time) for layer in range(layers)],
        )
        a_gates, a_cells, a_top, a_raw = _array(gates), _array(cells), _array(squashed), _array(raw)
        a_keys, a_memory, a_attention = _array(keys), _array(memory), _array(attention)
        a_to_gates, a_combined, a_above, a_scores = map(_array, (to_gates, to_combined, to_above, to_scores))
        a_entered, a_upper, a_to_cell = _array(entered), _array(upper), _array(to_cell)
        for t in range(time - 1, -1, -1):
            kernels.squash_backward(of_out[t], a_entered[0], kept[layers - 1][t], a_raw[t], a_combined[t])
            combined(combined_steps[t], above_steps[t])
            kernels.attend_backward(a_above[t], a_attention[t], a_keys, a_memory, a_scores[t], a_upper)
            for layer in range(layers - 1, -1, -1):
                last = layer == layers - 1
                kernels.cell_backward(
                    a_gates[layer, t],
                    NO_ROW,
                    a_cells[layer, t],
                    a_top[layer, t],
                    a_upper if last else a_entered[layer + 1],
                    NONE if last else kept[layer][t],
                    a_entered[layer],
                    a_to_cell[layer],
                    a_to_gates[layer, t],
                )
                times[layer](leaving[layer][t], entered[layer])
        scores, tops = to_scores.permute(1, 2, 0), above[:, :, hidden:].transpose(0, 1)
        return (
            to_gates[0],
            torch.bmm(attention.permute(1, 2, 0), to_above[:, :, :hidden].transpose(0, 1)),
            torch.bmm(scores, tops),
            None,
            entered[:, :, hidden:],
            to_cell,
            None,
            product(to_combined.flatten(0, 1).t(), above.flatten(0, 1).t()),
            *(product(to_gates[at].flatten(0, 1).t(), below[at, :time].flatten(0, 1).t()) for at in range(layers)),
            *(to_gates[at].sum((0, 1)) for at in range(1, layers)),
        )
