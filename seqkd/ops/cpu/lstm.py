"""`recurrence` for float32 on a CPU: the same two functions, and the parts of a search, as compiled loops."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seqkd.ops.cpu import lstm_loops, softmax
from seqkd.ops.matmul import PackedWeight, matmul_nt, pack_panels

Array = NDArray[Any]
EMPTY: Array = np.empty((0, 0), np.float32)


def supports(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu" and tensor.dtype == torch.float32


def _array(tensor: Tensor) -> Array:
    return (tensor.detach() if tensor.requires_grad else tensor).contiguous().numpy()  # detaching costs a microsecond


def _kept(keep: Tensor | None) -> Array:
    """(T, L, B, H) dropout multipliers, or none."""
    return np.empty((0, 0, 0, 0), np.float32) if keep is None else _array(keep)


def _biases(biases: Sequence[Tensor], width: int) -> Array:
    """(L, 4H), the first one zero: it is part of the words'."""
    return _array(torch.stack((torch.zeros(width), *biases)))


class DecoderWeights(NamedTuple):
    """The weights of a search's steps, as loops.step reads them."""

    table: Array  # (V, 4H), the words' shares of the first layer's gates
    biases: Array
    rights: Array
    starts: Array
    scales: Array
    combine: PackedWeight

    @classmethod
    def of(
        cls, table: Tensor, matrices: Sequence[PackedWeight], combine: PackedWeight, biases: Sequence[Tensor]
    ) -> Self:
        rights, starts, scales = map(np.stack, zip(*matrices, strict=True))
        return cls(_array(table), _biases(biases, table.shape[1]), rights, starts, scales, combine)


class Encoder:
    """model.Network.encode without autograd, to the last bit: what loops.encoder multiplies with.

    A word's share of the first layer's gates is multiplied when a search first meets the word, and kept.
    """

    def __init__(
        self,
        embedding: Tensor,
        inputs: Sequence[Tensor],
        own: Sequence[Tensor],
        biases: Sequence[Tensor],
        *,
        attention: Tensor,
    ) -> None:
        self._embedding, self._first = embedding, PackedWeight.pack(inputs[0], biases[0])
        weights = [*map(PackedWeight.pack, own), *map(PackedWeight.pack, inputs[1:], biases[1:])]
        self._rights, self._starts, _ = map(np.stack, zip(*weights, strict=True))
        self._attention = pack_panels(attention.t())
        self._layers, self._hidden = len(own), own[0].shape[1]
        self._table = torch.empty(len(embedding), 4 * self._hidden)
        self._met = torch.zeros(len(embedding), dtype=torch.bool)

    def run(self, source: Tensor, live: Tensor) -> tuple[Tensor, ...]:
        """source, live: (S, B) -> states and keys (B, S, H), state and cell (L, B, H)."""
        (time, batch), layers, hidden = source.shape, self._layers, self._hidden
        met = torch.zeros_like(self._met)
        met[source.flatten()] = True
        new = (met & ~self._met).nonzero()[:, 0]
        self._table[new] = self._first.apply(self._embedding[new], 4 * hidden)
        self._met |= met
        state, cells = torch.zeros(layers, batch, hidden), torch.zeros(2, layers, batch, hidden)
        states, keys = torch.empty(batch, time, hidden), torch.empty(batch, time, hidden)
        weights = self._rights, self._starts, self._attention
        written = map(_array, (state, cells, states, keys))
        lstm_loops.encoder(*map(_array, (source, live, self._table)), *weights, *written)
        return states, keys, state, cells[time % 2]


def decoder_step(
    words: Tensor, memory: Sequence[Tensor], last: Sequence[Tensor], parents: Tensor, steps: DecoderWeights
) -> tuple[Tensor, ...]:
    """model.Network.step without autograd, after the words (N,) and from the parents' rows (N,) of last.

    memory: states, keys, closed, places; last, and what returns: fed, state, cell.
    """
    states, keys, closed, places = map(_array, memory)
    attn_vector, state, cell = map(_array, last)
    out = tuple(it.new_empty(*it.shape[:-2], len(words), it.shape[-1]) for it in last)
    new_fed, new_state, new_cell = map(_array, out)
    weights = steps.rights, steps.starts, steps.scales, tuple(steps.combine)
    given = steps.table, steps.biases, keys, states, closed[:, 0], places, *weights, _array(parents)
    lstm_loops.decoder_step(_array(words), *given, attn_vector, state, cell, new_state, new_cell, new_fed)
    return out


def beam_top_k(
    vectors: Tensor, output: PackedWeight, scores: Tensor, room: Tensor, *, size: int, forbidden_ids: tuple[int, ...]
) -> tuple[Tensor, Tensor, Tensor]:
    """search.best of the logits (B x R, size) that output makes of vectors (B x R, H), without holding them all."""
    width = min(int(room.max()), scores.shape[1] * (size - len(forbidden_ids)))
    found = scores.new_empty(scores.shape[0], width)
    parents, words = torch.empty(found.shape, dtype=torch.int64), torch.empty(found.shape, dtype=torch.int64)
    given, made = map(_array, (scores, room.clamp(max=width))), map(_array, (found, parents, words))
    softmax.project_top_k(_array(vectors), *output, size, *given, forbidden_ids, *made)
    return found, parents, words


class Layer(torch.autograd.Function):
    """recurrence.Layer: one LSTM layer from a zero state, padding on the left."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, live: Tensor | None) -> tuple[Tensor, Tensor]:
        time, batch, width = inputs.shape
        hidden = width // 4
        gates, tanh_cell = torch.empty_like(inputs), inputs.new_empty(time, batch, hidden)
        states, cells = inputs.new_zeros(time + 1, batch, hidden), inputs.new_zeros(time + 1, batch, hidden)
        live = inputs.new_ones(time, batch) if live is None else live[:, :, 0]
        lstm_loops.layer(_array(inputs), pack_panels(weight), *map(_array, (live, gates, states, cells, tanh_cell)))
        ctx.save_for_backward(weight, gates, states, cells, tanh_cell, live)
        return states[1:], cells[time].clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        weight, gates, states, cells, tanh_cell, live = ctx.saved_tensors
        of_states, of_cell = gradients
        time, batch, width = gates.shape
        to_inputs, to_state, to_cell = torch.empty_like(gates), torch.zeros_like(of_cell), of_cell.clone()
        given = map(_array, (live, gates, cells, tanh_cell, to_state, to_cell, to_inputs))
        lstm_loops.layer_backward(_array(of_states), pack_panels(weight.t()), *given)
        flat = to_inputs.view(time * batch, width)
        return to_inputs, matmul_nt(flat.t(), states[:time].reshape(time * batch, -1).t()), None


class Decoder(torch.autograd.Function):
    """recurrence.Decoder: stacked LSTM, general attention, input feeding, over all target positions."""

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
        hidden = width // 4
        gates = words.new_empty(layers, time, batch, width)
        cells, tanh_cell = (
            words.new_empty(layers, time + 1, batch, hidden),
            words.new_empty(layers, time, batch, hidden),
        )
        below = words.new_empty(layers, time + 1, batch, 2 * hidden)  # [input; own state] of each layer
        above, raw = words.new_empty(time, batch, 2 * hidden), words.new_empty(time, batch, hidden)
        out, attention = torch.empty_like(raw), words.new_empty(time, batch, memory.shape[1])
        cells[:, 0] = cell
        below[:, 0, :, hidden:] = state
        below[0, 0, :, :hidden] = 0.0
        lstm_loops.decoder(
            _array(words),
            _biases(weights[layers:], width),
            *map(_array, (keys, memory, closed[:, 0])),
            _kept(keep),
            np.stack([pack_panels(matrix) for matrix in weights[:layers]]),
            pack_panels(combine),
            *map(_array, (gates, cells, tanh_cell, below, above, raw, out, attention)),
        )
        ctx.save_for_backward(
            memory, keys, keep, combine, gates, cells, tanh_cell, below, above, raw, attention, *weights[:layers]
        )
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        memory, keys, keep, combine, gates, cells, tanh_cell, below, above, raw, attention, *matrices = (
            ctx.saved_tensors
        )
        (time, batch, hidden), layers = raw.shape, len(matrices)
        to_gates, to_combined = torch.empty_like(gates), torch.empty_like(raw)
        to_above, to_scores = torch.empty_like(above), torch.empty_like(attention)
        decoder_input = raw.new_zeros(layers, batch, 2 * hidden)  # gradients of [input; own state], those of step t + 1
        to_cell = raw.new_zeros(layers, batch, hidden)
        lstm_loops.decoder_backward(
            *map(_array, (gradients[0], keys, memory)),
            _kept(keep),
            np.stack([pack_panels(matrix.t()) for matrix in matrices]),
            pack_panels(combine.t()),
            *map(_array, (gates, cells, tanh_cell, raw, attention)),
            *map(_array, (to_gates, to_combined, to_above, to_scores, decoder_input, to_cell)),
        )
        scores, tops = to_scores.permute(1, 2, 0), above[:, :, hidden:].transpose(0, 1)
        return (
            to_gates[0],
            torch.bmm(attention.permute(1, 2, 0), to_above[:, :, :hidden].transpose(0, 1)),
            torch.bmm(scores, tops),
            None,
            decoder_input[:, :, hidden:],
            to_cell,
            None,
            matmul_nt(to_combined.flatten(0, 1).t(), above.flatten(0, 1).t()),
            *(matmul_nt(to_gates[at].flatten(0, 1).t(), below[at, :time].flatten(0, 1).t()) for at in range(layers)),
            *(to_gates[at].sum((0, 1)) for at in range(1, layers)),
        )
