"""The two loops over time, each one autograd function with its backward written by hand.

Every buffer is made once for all time steps, and the gradient of a weight is one product at the end instead of one a
step. `model.Network.unrolled` says the same in plain torch; the tests compare values and gradients.
Gates stand in the order input, forget, output, candidate, so that one sigmoid covers the first three.
"""

from typing import Any

import torch
from torch import Tensor

from seqkd.products import product


def _cell(gates: Tensor, cell: Tensor, *, new: Tensor, squashed: Tensor, state: Tensor) -> None:
    """One LSTM step in place: gates (batch, 4 hidden) become their activations; new cell, its tanh and state."""
    hidden = cell.shape[-1]
    gates[:, : 3 * hidden].sigmoid_()
    gates[:, 3 * hidden :].tanh_()
    torch.mul(gates[:, hidden : 2 * hidden], cell, out=new)
    new.addcmul_(gates[:, :hidden], gates[:, 3 * hidden :])
    torch.tanh(new, out=squashed)
    torch.mul(gates[:, 2 * hidden : 3 * hidden], squashed, out=state)


def _cell_backward(
    gates: Tensor, cell: Tensor, squashed: Tensor, *, state: Tensor, later: Tensor, out: Tensor
) -> Tensor:
    """Gradients through _cell: state and later are those of the new state and cell.

    Writes the gradient of the gates before activation to out (batch, 4 hidden); returns that of the old cell.
    """
    hidden = cell.shape[-1]
    enter, keep, show, candidate = torch.split(gates, hidden, dim=1)
    shown = state * show
    to_cell = (later + shown).addcmul_(shown * squashed, squashed, value=-1)
    torch.mul(to_cell, candidate, out=out[:, :hidden])
    torch.mul(to_cell, cell, out=out[:, hidden : 2 * hidden])
    torch.mul(state, squashed, out=out[:, 2 * hidden : 3 * hidden])
    sigmoids = gates[:, : 3 * hidden]
    out[:, : 3 * hidden].mul_(torch.addcmul(sigmoids, sigmoids, sigmoids, value=-1))
    entering = to_cell * enter
    torch.addcmul(entering, entering * candidate, candidate, value=-1, out=out[:, 3 * hidden :])
    return to_cell.mul_(keep)


def step(gates: Tensor, words: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
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
        hidden = width // 4
        gates = torch.empty_like(inputs)
        states, cells = inputs.new_zeros(time + 1, batch, hidden), inputs.new_zeros(time + 1, batch, hidden)
        squashed = inputs.new_empty(time, batch, hidden)
        for t in range(time):
            torch.add(product(states[t], weight), inputs[t], out=gates[t])
            _cell(gates[t], cells[t], new=cells[t + 1], squashed=squashed[t], state=states[t + 1])
            if live is not None:
                cells[t + 1].mul_(live[t])
                states[t + 1].mul_(live[t])
        ctx.save_for_backward(weight, gates, states, cells, squashed, live)
        return states[1:], cells[time].clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        weight, gates, states, cells, squashed, live = ctx.saved_tensors
        of_states, of_cell = gradients
        time, batch, width = gates.shape
        to_inputs, back = torch.empty_like(gates), weight.t()
        state, cell = torch.zeros_like(of_cell), of_cell
        for t in range(time - 1, -1, -1):
            state = state + of_states[t]
            if live is not None:
                state, cell = state * live[t], cell * live[t]
            cell = _cell_backward(gates[t], cells[t], squashed[t], state=state, later=cell, out=to_inputs[t])
            state = product(to_inputs[t], back)
        flat = to_inputs.view(time * batch, width)
        return to_inputs, product(flat.t(), states[:time].reshape(time * batch, -1).t()), None


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
        time, batch, width = words.shape
        hidden, layers = width // 4, state.shape[0]
        matrices, biases = weights[:layers], weights[layers:]
        gates = words.new_empty(layers, time, batch, width)
        cells = words.new_empty(layers, time + 1, batch, hidden)
        cells[:, 0] = cell
        squashed = words.new_empty(layers, time, batch, hidden)
        below = words.new_empty(layers, time, batch, 2 * hidden)  # [input; own state] of each layer
        above = words.new_empty(time, batch, 2 * hidden)  # [context; top state]
        raw = words.new_empty(time, batch, hidden)  # attentional vectors before dropout
        out = raw if keep is None else torch.empty_like(raw)
        attention = words.new_empty(time, batch, memory.shape[1])
        looked_up = keys.transpose(1, 2)
        fed, states = words.new_zeros(batch, hidden), list(state)
        for t in range(time):
            lower = fed
            for layer in range(layers):
                entering, activated = below[layer, t], gates[layer, t]
                entering[:, :hidden] = lower
                entering[:, hidden:] = states[layer]
                if layer == 0:
                    torch.add(product(entering, matrices[0]), words[t], out=activated)
                else:
                    torch.add(product(entering, matrices[layer]), biases[layer - 1], out=activated)
                states[layer] = words.new_empty(batch, hidden)
                _cell(
                    activated,
                    cells[layer, t],
                    new=cells[layer, t + 1],
                    squashed=squashed[layer, t],
                    state=states[layer],
                )
                lower = states[layer]
                if keep is not None and layer < layers - 1:
                    lower = lower * keep[t, layer]
            weight = torch.softmax(torch.baddbmm(closed, lower[:, None], looked_up), -1)
            attention[t] = weight[:, 0]
            above[t, :, :hidden] = torch.bmm(weight, memory)[:, 0]
            above[t, :, hidden:] = lower
            torch.tanh(product(above[t], combine), out=raw[t])
            if keep is not None:
                torch.mul(raw[t], keep[t, layers - 1], out=out[t])
            fed = out[t]
        ctx.save_for_backward(
            memory, keys, keep, combine, gates, cells, squashed, below, above, raw, attention, *matrices
        )
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        memory, keys, keep, combine, gates, cells, squashed, below, above, raw, attention, *matrices = ctx.saved_tensors
        of_out = gradients[0]
        time, layers, hidden = raw.shape[0], len(matrices), raw.shape[2]
        to_gates, to_combined = torch.empty_like(gates), torch.empty_like(raw)
        to_context, to_scores = torch.empty_like(raw), torch.empty_like(attention)
        back, back_combine, remembered = [matrix.t() for matrix in matrices], combine.t(), memory.transpose(1, 2)
        state = [torch.zeros_like(raw[0]) for _ in range(layers)]
        cell = [torch.zeros_like(raw[0]) for _ in range(layers)]
        fed = torch.zeros_like(raw[0])
        for t in range(time - 1, -1, -1):
            fed = fed + of_out[t]
            if keep is not None:
                fed = fed * keep[t, layers - 1]
            torch.addcmul(fed, fed * raw[t], raw[t], value=-1, out=to_combined[t])
            combined = product(to_combined[t], back_combine)
            to_context[t] = combined[:, :hidden]
            weight = attention[t]
            of_weight = torch.bmm(to_context[t][:, None], remembered)[:, 0]
            scaled = weight * of_weight
            torch.addcmul(scaled, weight, scaled.sum(-1, keepdim=True), value=-1, out=to_scores[t])
            upper = combined[:, hidden:] + torch.bmm(to_scores[t][:, None], keys)[:, 0]
            for layer in range(layers - 1, -1, -1):
                if keep is not None and layer < layers - 1:
                    upper = upper * keep[t, layer]
                cell[layer] = _cell_backward(
                    gates[layer, t],
                    cells[layer, t],
                    squashed[layer, t],
                    state=upper + state[layer],
                    later=cell[layer],
                    out=to_gates[layer, t],
                )
                entered = product(to_gates[layer, t], back[layer])
                upper, state[layer] = entered[:, :hidden], entered[:, hidden:]
            fed = upper
        tops = above[:, :, hidden:].transpose(0, 1)
        return (
            to_gates[0],
            torch.bmm(attention.permute(1, 2, 0), to_context.transpose(0, 1)),
            torch.bmm(to_scores.permute(1, 2, 0), tops),
            None,
            torch.stack(state),
            torch.stack(cell),
            None,
            _of_weight(to_combined, above),
            *(_of_weight(to_gates[layer], below[layer]) for layer in range(layers)),
            *(to_gates[layer].sum((0, 1)) for layer in range(1, layers)),
        )


def _of_weight(outputs: Tensor, inputs: Tensor) -> Tensor:
    """The gradient of a weight from those of its outputs (time, batch, out) and its inputs (time, batch, in)."""
    return product(outputs.flatten(0, 1).t(), inputs.flatten(0, 1).t())
