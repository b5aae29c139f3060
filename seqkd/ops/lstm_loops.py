"""The loops over time of an LSTM layer and of the decoder in torch, for a GPU and for the types that are not float32.

`seqkd.ops.cpu.lstm` has the same functions compiled. A step's pointwise operations are CUDA kernels of `seqkd.ops.cuda`
if torch can compile them, else those of `seqkd.ops.lstm_cell`. Sizes and records are those of `seqkd.ops.lstm_records`.
"""

from collections.abc import Sequence
from types import ModuleType

import torch
from torch import Tensor

from seqkd.ops import lstm_cell
from seqkd.ops.cuda import lstm_cell as lstm_cell_cuda
from seqkd.ops.lstm_records import (
    AttentionSource,
    DecoderActivations,
    DecoderGradients,
    DecoderMatrices,
    LayerActivations,
)
from seqkd.ops.matmul import matmul_out


def cell_ops(tensor: Tensor) -> ModuleType:
    """Return the module with the pointwise operations of a step on such tensors."""
    return lstm_cell_cuda if lstm_cell_cuda.supports(tensor) else lstm_cell


def layer(
    inputs: Tensor, matrix: Tensor, mask: Tensor | None, *, activations: LayerActivations[Tensor], out: Tensor
) -> None:
    """Run one LSTM layer from a zero state; write activations, whose first state and cell must be zero, and out.

    inputs: (T, B, 4H), the inputs' contribution to the gates; matrix: (4H, H); mask: (T, B, 1), 0 at padding; out:
    (T + 1, B, H), the states as they are before rounding, activations.states itself if nothing is rounded.
    """
    ops, (gates, states, cells, tanh_cell) = cell_ops(inputs), activations
    for t in range(len(inputs)):
        matmul_out(gates[t], states[t], matrix)
        state = out[t + 1], None if states is out else states[t + 1]
        ops.cell(gates[t], inputs[t], _at(mask, t), cells[t], cells[t + 1], tanh_cell[t], *state, None, None)


def layer_backward(
    grad_states: Tensor,
    matrix: Tensor,
    mask: Tensor | None,
    *,
    activations: LayerActivations[Tensor],
    grad_cell: Tensor,
    grad_gates: Tensor,
) -> None:
    """Compute the gradients of `layer`.

    grad_states: (T, B, H); grad_cell: (B, H) of the last cell, becomes that of the first. Writes grad_gates (T, B, 4H),
    which is also the gradient of inputs.
    """
    ops, transposed, grad_state = cell_ops(grad_cell), matrix.t(), torch.zeros_like(grad_cell)
    for t in reversed(range(len(grad_states))):
        saved = activations.gates[t], _at(mask, t), activations.cells[t], activations.tanh_cell[t]
        ops.cell_backward(*saved, grad_states[t], None, grad_state, grad_cell, grad_gates[t])
        matmul_out(grad_state, grad_gates[t], transposed)


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
    """Run the decoder over all target positions; write activations and the attentional vectors, out (T, B, H).

    words: (T, B, 4H), the words' contribution to the first layer's gates; biases: (4H,) of each layer but the first;
    dropout_masks: (T, L, B, H). activations.layer_inputs and cells must hold those of step 0.
    """
    ops, top, hidden = cell_ops(words), len(matrices.layers) - 1, out.shape[2]
    gates, cells, tanh_cell, layer_inputs, combine_inputs, attn_vectors, attn_weights = activations
    for t in range(len(words)):
        for n, matrix in enumerate(matrices.layers):
            matmul_out(gates[n, t], layer_inputs[n, t], matrix)
            ops.cell(
                gates[n, t],
                biases[n - 1][None] if n else words[t],
                None,
                cells[n, t],
                cells[n, t + 1],
                tanh_cell[n, t],
                None,
                layer_inputs[n, t + 1, :, hidden:],
                combine_inputs[t, :, hidden:] if n == top else layer_inputs[n + 1, t, :, :hidden],
                None if n == top else _at(dropout_masks, t, n),
            )
        ops.attend(combine_inputs[t], source.keys, source.states, source.mask_bias, attn_weights[t])
        matmul_out(attn_vectors[t], combine_inputs[t], matrices.combine)
        ops.attn_output(attn_vectors[t], _at(dropout_masks, t, top), out[t], layer_inputs[0, t + 1, :, :hidden])


def decoder_backward(
    grad_out: Tensor,
    source: AttentionSource[Tensor],
    matrices: DecoderMatrices,
    *,
    dropout_masks: Tensor | None,
    activations: DecoderActivations[Tensor],
    gradients: DecoderGradients[Tensor],
) -> None:
    """Compute the gradients of `decoder`; write gradients. grad_out: (T, B, H)."""
    ops, top, hidden = cell_ops(grad_out), len(matrices.layers) - 1, grad_out.shape[2]
    gates, cells, tanh_cell, _, _, attn_vectors, attn_weights = activations
    grad_gates, grad_combined, grad_combine_inputs, grad_scores, grad_layer_input, grad_cell = gradients
    transposed, combine = [matrix.t() for matrix in matrices.layers], matrices.combine.t()
    grad_top_state = torch.empty_like(grad_out[0])
    for t in reversed(range(len(grad_out))):
        ops.attn_output_backward(
            grad_out[t],
            grad_layer_input[0, :, :hidden],
            _at(dropout_masks, t, top),
            attn_vectors[t],
            grad_combined[t],
        )
        matmul_out(grad_combine_inputs[t], grad_combined[t], combine)
        ops.attend_backward(
            grad_combine_inputs[t], attn_weights[t], source.keys, source.states, grad_scores[t], grad_top_state
        )
        for n in range(top, -1, -1):
            ops.cell_backward(
                gates[n, t],
                None,
                cells[n, t],
                tanh_cell[n, t],
                grad_top_state if n == top else grad_layer_input[n + 1, :, :hidden],
                None if n == top else _at(dropout_masks, t, n),
                grad_layer_input[n, :, hidden:],
                grad_cell[n],
                grad_gates[n, t],
            )
            matmul_out(grad_layer_input[n], grad_gates[n, t], transposed[n])


def _at(tensor: Tensor | None, *index: int) -> Tensor | None:
    return None if tensor is None else tensor[index]
