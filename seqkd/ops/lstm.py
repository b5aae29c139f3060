"""LSTM layer and decoder as autograd functions with hand-written gradients, and single steps in plain torch.

The loops over time are compiled ones for float32 on a CPU (`seqkd.ops.cpu.lstm`), and plain torch or CUDA kernels
otherwise (`seqkd.ops.lstm_loops`). Every buffer is allocated once for all time steps, and a weight's gradient is one
matrix product at the end instead of one a step. Gates stand in the order input, forget, output, cell (i, f, o, g).
"""

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from seqkd.ops import lstm_loops
from seqkd.ops.cpu import lstm as lstm_cpu
from seqkd.ops.lstm_records import (
    AttentionSource,
    DecoderActivations,
    DecoderGradients,
    DecoderMatrices,
    LayerActivations,
)
from seqkd.ops.matmul import cast_weight, matmul_nt, matmul_out


def lstm_step(gates: Tensor, added: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """Return state and cell (B, H) of one LSTM step, with autograd.

    gates: (B, 4H), the products with the weights; added: (B or 1, 4H), what is added to them; cell: (B, H).
    """
    i, f, o, g = (gates + added).chunk(4, -1)
    cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(cell), cell


class Layer(torch.autograd.Function):
    """One LSTM layer from a zero state.

    inputs: (T, B, 4H), the inputs' contribution to the gates, bias included; weight: (4H, H), the recurrent weight;
    mask: (T, B, 1), 0 at the padding on the left, or None. Padding keeps cell and state at zero, so every sentence
    starts from the zero state and ends at the last step.
    Returns states (T, B, H) and the last cell (B, H).
    """

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        time, batch, width = inputs.shape
        hidden, matrix = width // 4, cast_weight(weight)
        states = inputs.new_zeros(time + 1, batch, hidden)
        activations = LayerActivations(
            gates=inputs.new_empty(time, batch, width),
            states=states.to(matrix.dtype),  # the same tensor if nothing is rounded
            cells=inputs.new_zeros(time + 1, batch, hidden),
            tanh_cell=inputs.new_empty(time, batch, hidden),
        )
        ctx.loops = _loops(inputs)
        ctx.loops.layer(inputs, matrix, mask, activations=activations, out=states)
        ctx.save_for_backward(matrix, mask, *activations)
        return states[1:], activations.cells[time].clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        matrix, mask, *saved = ctx.saved_tensors
        activations = LayerActivations(*saved)
        gates, grad_states = activations.gates, gradients[0].contiguous()
        grad_cell = gradients[1].clone(memory_format=torch.contiguous_format)
        grad_gates = torch.empty_like(gates, dtype=matrix.dtype)
        ctx.loops.layer_backward(
            grad_states, matrix, mask, activations=activations, grad_cell=grad_cell, grad_gates=grad_gates
        )
        return grad_gates.to(gates.dtype), _weight_gradient(grad_gates, activations.states[:-1]), None


class Decoder(torch.autograd.Function):
    """The decoder over all target positions: stacked LSTM, Luong's general attention, input feeding.

    words: (T, B, 4H), the embeddings' contribution to the first layer's gates, bias included.
    states, keys: (B, S, H), the encoder's states and their product with the attention's matrix.
    mask_bias: (B, 1, S), 0 where the source is a word and very negative at padding.
    state, cell: (L, B, H), the encoder's last ones.
    dropout_masks: (T, L, B, H) dropout multipliers, or None; those of layer l < L - 1 scale the input of layer l + 1,
    those of layer L - 1 the attentional vector.
    combine: (H, 2H) over [context; top state]. weights: for each layer its matrix (4H, 2H) over [attentional vector or
    lower layer's state; own state], then for each layer but the first its bias (4H,).
    Returns the attentional vectors (T, B, H).
    """

    @staticmethod
    def forward(
        ctx: Any,
        words: Tensor,
        states: Tensor,
        keys: Tensor,
        mask_bias: Tensor,
        state: Tensor,
        cell: Tensor,
        dropout_masks: Tensor | None,
        combine: Tensor,
        *weights: Tensor,
    ) -> Tensor:
        layers = len(state)
        source = AttentionSource(states, keys, mask_bias[:, 0].contiguous())
        matrices = DecoderMatrices([cast_weight(matrix) for matrix in weights[:layers]], cast_weight(combine))
        activations = _decoder_activations(words, source, state, cell, kind=matrices.combine.dtype)
        out = torch.empty_like(activations.attn_vectors)
        ctx.loops = _loops(words)
        ctx.loops.decoder(
            words,
            source,
            matrices,
            biases=weights[layers:],
            dropout_masks=dropout_masks,
            activations=activations,
            out=out,
        )
        ctx.save_for_backward(dropout_masks, *source, *activations, matrices.combine, *matrices.layers)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        dropout_masks, *saved = ctx.saved_tensors
        source, saved = AttentionSource(*saved[:3]), saved[3:]
        activations, (combine, *layers) = DecoderActivations(*saved[:7]), saved[7:]
        grads = _decoder_gradients(activations, kind=combine.dtype)
        ctx.loops.decoder_backward(
            gradients[0].contiguous(),
            source,
            DecoderMatrices(layers, combine),
            dropout_masks=dropout_masks,
            activations=activations,
            gradients=grads,
        )
        kind, hidden = activations.attn_vectors.dtype, combine.shape[0]
        grad_context = grads.combine_inputs[:, :, :hidden].transpose(0, 1)
        top_state = activations.combine_inputs[:, :, hidden:].transpose(0, 1).to(kind)
        return (
            grads.gates[0].to(kind),
            torch.bmm(activations.attn_weights.permute(1, 2, 0), grad_context),
            torch.bmm(grads.scores.permute(1, 2, 0), top_state),
            None,
            grads.layer_input[:, :, hidden:],
            grads.cell,
            None,
            _weight_gradient(grads.combined, activations.combine_inputs),
            *(_weight_gradient(grads.gates[n], activations.layer_inputs[n, :-1]) for n in range(len(layers))),
            *(grads.gates[n].sum((0, 1), dtype=kind) for n in range(1, len(layers))),
        )


def decoder_step(
    words: Tensor,
    memory: Sequence[Tensor],
    last: Sequence[Tensor],
    matrices: Sequence[Tensor],
    biases: Sequence[Tensor],
    combine: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the attentional vectors (N, H), states and cells (L, N, H) of one decoder step, without autograd.

    words: (N, 4H), the embeddings' contribution to the first layer's gates; memory: states, keys and mask_bias of the
    encoder output; last: the three of the step before; matrices, combine: as `cast_weight` returns them.
    """
    (states, keys, mask_bias), (attn_vector, state, cell), ops = memory, last, lstm_loops.cell_ops(words)
    (layers, rows, hidden), kind = cell.shape, combine.dtype
    layer_inputs = words.new_empty(layers, rows, 2 * hidden, dtype=kind)
    combine_input, gates = words.new_empty(rows, 2 * hidden, dtype=kind), words.new_empty(rows, 4 * hidden)
    new_vector, new_state, new_cell = words.new_empty(rows, hidden), torch.empty_like(state), torch.empty_like(cell)
    layer_inputs[0, :, :hidden] = attn_vector
    layer_inputs[:, :, hidden:] = state
    for n in range(layers):
        matmul_out(gates, layer_inputs[n], matrices[n])
        next_input = combine_input[:, hidden:] if n == layers - 1 else layer_inputs[n + 1, :, :hidden]
        added = biases[n - 1][None] if n else words
        ops.cell(gates, added, None, cell[n], new_cell[n], None, new_state[n], None, next_input, None)
    ops.attend(combine_input, keys, states, mask_bias[:, 0], None)
    matmul_out(new_vector, combine_input, combine)
    ops.attn_output(new_vector, None, None, None)
    return new_vector, new_state, new_cell


def _loops(tensor: Tensor) -> ModuleType:
    """Return the module whose loops compute with such tensors."""
    return lstm_cpu if lstm_cpu.supports(tensor) else lstm_loops


def _decoder_activations(
    words: Tensor, source: AttentionSource[Tensor], state: Tensor, cell: Tensor, *, kind: torch.dtype
) -> DecoderActivations[Tensor]:
    """Allocate a decoder's activations and fill in those of step 0; kind: the type that matrix products read."""
    (time, batch, width), layers = words.shape, len(state)
    hidden = width // 4
    activations = DecoderActivations(
        gates=words.new_empty(layers, time, batch, width),
        cells=words.new_empty(layers, time + 1, batch, hidden),
        tanh_cell=words.new_empty(layers, time, batch, hidden),
        layer_inputs=words.new_empty(layers, time + 1, batch, 2 * hidden, dtype=kind),
        combine_inputs=words.new_empty(time, batch, 2 * hidden, dtype=kind),
        attn_vectors=words.new_empty(time, batch, hidden),
        attn_weights=words.new_empty(time, batch, source.states.shape[1]),
    )
    activations.cells[:, 0] = cell
    activations.layer_inputs[:, 0, :, hidden:] = state
    activations.layer_inputs[0, 0, :, :hidden] = 0.0
    return activations


def _decoder_gradients(activations: DecoderActivations[Tensor], *, kind: torch.dtype) -> DecoderGradients[Tensor]:
    """Allocate a decoder's gradients; kind: the type that matrix products read."""
    vectors, (layers, _, batch, width) = activations.attn_vectors, activations.layer_inputs.shape
    return DecoderGradients(
        gates=torch.empty_like(activations.gates, dtype=kind),
        combined=torch.empty_like(vectors, dtype=kind),
        combine_inputs=torch.empty_like(activations.combine_inputs, dtype=vectors.dtype),
        scores=torch.empty_like(activations.attn_weights),
        layer_input=vectors.new_zeros(layers, batch, width),
        cell=vectors.new_zeros(layers, batch, width // 2),
    )


def _weight_gradient(outputs: Tensor, inputs: Tensor) -> Tensor:
    """Return a weight's gradient from those of its outputs (T, B, out) and its inputs (T, B, in)."""
    return matmul_nt(outputs.flatten(0, 1).t(), inputs.flatten(0, 1).t())
