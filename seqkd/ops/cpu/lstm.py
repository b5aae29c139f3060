"""The compiled LSTM loops, called with float32 torch tensors on a CPU: of a training, and the parts of a search.

The functions of a training are those of `seqkd.ops.lstm_loops`, with the same arguments.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seqkd.ops.cpu import lstm_loops, softmax
from seqkd.ops.lstm_records import (
    AttentionSource,
    DecoderActivations,
    DecoderGradients,
    DecoderMatrices,
    DecoderWeights,
    EncoderWeights,
    LayerActivations,
)
from seqkd.ops.matmul import PackedWeight, pack_panels

Array = NDArray[Any]
EMPTY: Array = np.empty((0, 0), np.float32)


def supports(tensor: Tensor) -> bool:
    """Return whether the compiled loops compute with such tensors."""
    return tensor.device.type == "cpu" and tensor.dtype == torch.float32


def layer(
    inputs: Tensor, matrix: Tensor, mask: Tensor | None, *, activations: LayerActivations[Tensor], out: Tensor
) -> None:
    """Run `lstm_loops.layer`; out: activations.states itself."""
    assert out is activations.states
    lstm_loops.layer(_array(inputs), pack_panels(matrix), _mask(mask, inputs), _arrays(activations))


def layer_backward(
    grad_states: Tensor,
    matrix: Tensor,
    mask: Tensor | None,
    *,
    activations: LayerActivations[Tensor],
    grad_cell: Tensor,
    grad_gates: Tensor,
) -> None:
    """Run `lstm_loops.layer_backward`."""
    panels, written = pack_panels(matrix.t()), map(_array, (grad_cell, grad_gates))
    lstm_loops.layer_backward(_array(grad_states), panels, _mask(mask, grad_gates), _arrays(activations), *written)


def decoder(
    words: Tensor,
    source: AttentionSource[Tensor],
    matrices: DecoderMatrices,
    *,
    biases: Sequence[Tensor],
    dropout_masks: Tensor | None,
    activations: DecoderActivations[Tensor],
    out: Tensor,
) -> None:
    """Run `lstm_loops.decoder`."""
    panels = _panels(matrices.layers, matrices.combine)
    read = panels, _biases(biases, words.shape[2]), _dropout_masks(dropout_masks)
    lstm_loops.decoder(_array(words), _arrays(source), *read, _arrays(activations), _array(out))


def decoder_backward(
    grad_out: Tensor,
    source: AttentionSource[Tensor],
    matrices: DecoderMatrices,
    *,
    dropout_masks: Tensor | None,
    activations: DecoderActivations[Tensor],
    gradients: DecoderGradients[Tensor],
) -> None:
    """Run `lstm_loops.decoder_backward`."""
    panels = _panels((matrix.t() for matrix in matrices.layers), matrices.combine.t())
    read = panels, _dropout_masks(dropout_masks), _arrays(activations)
    lstm_loops.decoder_backward(_array(grad_out), _arrays(source), *read, _arrays(gradients))


class Encoder:
    """The encoder of a search, without autograd; its results are bitwise those of a network's `encode`.

    A word's contribution to the first layer's gates is computed when a search first meets the word, and cached.
    """

    def __init__(
        self,
        embedding: Tensor,
        inputs: Sequence[Tensor],
        recurrent: Sequence[Tensor],
        biases: Sequence[Tensor],
        *,
        attention: Tensor,
    ) -> None:
        """Pack the weights: embedding (V, H); for each layer inputs, recurrent (4H, H) and biases; attention (H, H)."""
        self._embedding, self._first = embedding, PackedWeight.pack(inputs[0], biases[0])
        self._layers, self._hidden = len(recurrent), recurrent[0].shape[1]
        self._table = torch.empty(len(embedding), 4 * self._hidden)
        self._cached = torch.zeros(len(embedding), dtype=torch.bool)  # (V,), which rows of the table are filled
        packed = [*map(PackedWeight.pack, recurrent), *map(PackedWeight.pack, inputs[1:], biases[1:])]
        panels, starts, _ = map(np.stack, zip(*packed, strict=True))
        self._weights = tuple(EncoderWeights(_array(self._table), panels, starts, pack_panels(attention.t())))

    def run(self, source: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        """Return states and keys (B, S, H), last state and cell (L, B, H); source, mask: (S, B), mask 0 at padding."""
        (time, batch), layers, hidden = source.shape, self._layers, self._hidden
        self._fill_table(source)
        state, cells = torch.zeros(layers, batch, hidden), torch.zeros(2, layers, batch, hidden)
        states, keys = torch.empty(batch, time, hidden), torch.empty(batch, time, hidden)
        written = map(_array, (state, cells, states, keys))
        lstm_loops.encoder(_array(source), _array(mask), self._weights, *written)
        return states, keys, state, cells[time % 2]

    def _fill_table(self, source: Tensor) -> None:
        needed = torch.zeros_like(self._cached)
        needed[source.flatten()] = True
        new = (needed & ~self._cached).nonzero()[:, 0]
        self._table[new] = self._first.apply(self._embedding[new], 4 * self._hidden)
        self._cached |= needed


def decoder_weights(
    table: Tensor, matrices: Sequence[PackedWeight], combine: PackedWeight, biases: Sequence[Tensor]
) -> tuple[Any, ...]:
    """Return the weights of `decoder_step`: the fields of DecoderWeights.

    table: (V, 4H), the words' contribution to the first layer's gates, bias included; matrices: of each layer, over
    [layer input; own state]; combine: over [context; top state]; biases: (4H,) of each layer but the first.
    """
    panels, starts, scales = map(np.stack, zip(*matrices, strict=True))
    weights = (panels, starts, scales), tuple(combine)
    return tuple(DecoderWeights(_array(table), _biases(biases, table.shape[1]), *weights))


def decoder_step(
    words: Tensor, memory: Sequence[Tensor], last: Sequence[Tensor], parents: Tensor, weights: tuple[Any, ...]
) -> tuple[Tensor, ...]:
    """Return the attentional vectors (N, H), states and cells (L, N, H) of one decoder step, without autograd.

    words: (N,) ids; parents: (N,), the rows of last that the rows continue; memory: states, keys, mask_bias and
    batch_indices of the encoder output; last: the three of the step before.
    """
    new = tuple(part.new_empty(*part.shape[:-2], len(words), part.shape[-1]) for part in last)
    states, keys, mask_bias, batch_indices = _arrays(memory)
    source, old_state, new_state = (states, keys, mask_bias[:, 0]), _arrays(last), _arrays(new)
    lstm_loops.decoder_step(_array(words), _array(parents), source, batch_indices, weights, old_state, new_state)
    return new


def beam_top_k(
    vectors: Tensor,
    output: PackedWeight,
    scores: Tensor,
    open_slots: Tensor,
    *,
    size: int,
    forbidden_ids: tuple[int, ...],
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the best continuations of each sentence's beam: log-probabilities, parents and words, each (B, W).

    The same as beam search's `top_k_continuations` of the logits (B x R, size) that output makes of vectors (B x R, H),
    without holding them all. For vectors (M, B x R, H) and a stack of M outputs: of the mean of M networks'
    probabilities.
    """
    kernel = softmax.project_top_k if vectors.ndim == 2 else softmax.project_mean_top_k
    width = min(int(open_slots.max()), scores.shape[1] * (size - len(forbidden_ids)))
    best = scores.new_empty(scores.shape[0], width)
    parents, words = torch.empty(best.shape, dtype=torch.int64), torch.empty(best.shape, dtype=torch.int64)
    read, written = map(_array, (scores, open_slots.clamp(max=width))), map(_array, (best, parents, words))
    kernel(_array(vectors), *output, size, *read, forbidden_ids, *written)
    return best, parents, words


def _array(tensor: Tensor) -> Array:
    """Return the tensor's memory as an array, or a copy if it is not contiguous."""
    return (tensor.detach() if tensor.requires_grad else tensor).contiguous().numpy()  # detach takes a microsecond


def _arrays(record: Iterable[Tensor]) -> tuple[Array, ...]:
    """Return the arrays of a record's tensors, as a plain tuple: numba takes it faster than a named one."""
    return tuple(map(_array, record))


def _mask(mask: Tensor | None, like: Tensor) -> Array:
    """Return a mask (T, B, 1) as an array (T, B), of ones for None."""
    return np.ones(like.shape[:2], np.float32) if mask is None else _array(mask[:, :, 0])


def _dropout_masks(dropout_masks: Tensor | None) -> Array:
    """Return (T, L, B, H) dropout multipliers as an array, of size 0 for None."""
    return np.empty((0, 0, 0, 0), np.float32) if dropout_masks is None else _array(dropout_masks)


def _panels(layers: Iterable[Tensor], combine: Tensor) -> tuple[Array, Array]:
    """Return the fields of DecoderMatrices, packed."""
    return np.stack([pack_panels(matrix) for matrix in layers]), pack_panels(combine)


def _biases(biases: Sequence[Tensor], width: int) -> Array:
    """Return biases (L, 4H), the first one zero: it is part of the words' contribution."""
    return _array(torch.stack((torch.zeros(width), *biases)))
