# mypy: disable-error-code="no-untyped-def, no-untyped-call"
"""The loops over time of LSTM layers, decoder and search, each compiled into one call over float32 arrays.

A time step of a small network is a few small GEMMs and some thirty pointwise operations; as single operations of torch
their calls cost more than their arithmetic. `seqkd.ops.lstm_loops` has the loops of a training in plain torch.
Sizes: T time steps, B sentences, S source positions, L layers, H hidden units. An array of size 0 stands for "none".
Weights are packed panels of `gemm`. Records of arrays are those of `seqkd.ops.lstm_records`, handed over as plain
tuples, which numba takes faster than named ones: that was 10 % of a small network's step.
"""

import numpy as np

from seqkd.ops.cpu.gemm import block_size, gemm
from seqkd.ops.cpu.lstm_cell import (
    attend,
    attend_backward,
    attn_output,
    attn_output_backward,
    cell,
    cell_backward,
    gather,
)
from seqkd.ops.cpu.packing import PANEL_COLUMNS
from seqkd.ops.cpu.target import FLAGS
from seqkd.ops.lstm_records import (
    AttentionSource,
    DecoderActivations,
    DecoderGradients,
    DecoderMatrices,
    DecoderWeights,
    EncoderWeights,
    LayerActivations,
    SearchState,
)
from seqkd.utils.jit import compiler

jit = compiler(__name__, **FLAGS)


@jit
def layer(inputs, panels, mask, activations):
    """Run one LSTM layer from a zero state; write activations, whose first state and cell must be zero.

    inputs: (T, B, 4H), the inputs' contribution to the gates; panels: of the recurrent weight; mask: (T, B), 0 at
    padding.
    """
    activations = LayerActivations(*activations)
    gates, states, cells = activations.gates, activations.states, activations.cells
    no_bias, none = np.zeros(panels.shape[0] * PANEL_COLUMNS, np.float32), np.empty((0, 0), np.float32)
    no_rows = np.empty(0, np.int64)
    for t in range(inputs.shape[0]):
        gemm(states[t], panels, no_bias, none, gates[t])
        old_cell, new_cell, tanh_cell = cells[t], cells[t + 1], activations.tanh_cell[t]
        cell(gates[t], inputs[t], no_rows, mask[t], old_cell, new_cell, tanh_cell, states[t + 1], 0, none, 0, none)


@jit
def layer_backward(grad_states, panels, mask, activations, grad_cell, grad_gates):
    """Compute the gradients of `layer`.

    grad_states: (T, B, H); panels: of the transposed weight; grad_cell: (B, H) of the last cell, becomes that of the
    first. Writes grad_gates (T, B, 4H), which is also the gradient of inputs.
    """
    activations = LayerActivations(*activations)
    gates, cells, tanh_cell = activations.gates, activations.cells, activations.tanh_cell
    no_bias, none = np.zeros(panels.shape[0] * PANEL_COLUMNS, np.float32), np.empty((0, 0), np.float32)
    grad_state = np.zeros(grad_cell.shape, np.float32)
    for t in range(gates.shape[0] - 1, -1, -1):
        cell_backward(
            gates[t], mask[t], cells[t], tanh_cell[t], grad_states[t], none, grad_state, grad_cell, grad_gates[t]
        )
        gemm(grad_gates[t], panels, no_bias, none, grad_state)


@jit
def decoder(words, source, matrices, biases, dropout_masks, activations, out):
    """Run the decoder over all target positions; write activations and the attentional vectors, out (T, B, H).

    words: (T, B, 4H), the words' contribution to the first layer's gates; matrices: panels; biases: (L, 4H), the first
    one unused; dropout_masks: (T, L, B, H) or none. activations.layer_inputs and cells must hold those of step 0.
    """
    source, matrices = AttentionSource(*source), DecoderMatrices(*matrices)
    activations = DecoderActivations(*activations)
    gates, cells, layer_inputs = activations.gates, activations.cells, activations.layer_inputs
    tanh_cell, combine_inputs = activations.tanh_cell, activations.combine_inputs
    attn_vectors, attn_weights = activations.attn_vectors, activations.attn_weights
    keys, states, mask_bias = source.keys, source.states, source.mask_bias
    layers, time, hidden = gates.shape[0], gates.shape[1], out.shape[2]
    no_bias, no_mask = np.zeros(matrices.layers.shape[1] * PANEL_COLUMNS, np.float32), np.empty(0, np.float32)
    none, no_rows, batch_indices = np.empty((0, 0), np.float32), np.empty(0, np.int64), np.arange(keys.shape[0])
    for t in range(time):
        for n in range(layers):
            top = n == layers - 1
            gemm(layer_inputs[n, t], matrices.layers[n], no_bias, none, gates[n, t])
            cell(
                gates[n, t],
                biases[n : n + 1] if n else words[t],
                no_rows,
                no_mask,
                cells[n, t],
                cells[n, t + 1],
                tanh_cell[n, t],
                layer_inputs[n, t + 1],
                hidden,
                combine_inputs[t] if top else layer_inputs[n + 1, t],
                hidden if top else 0,
                dropout_masks[t, n] if dropout_masks.size and not top else none,
            )
        attend(combine_inputs[t], keys, states, mask_bias, attn_weights[t], batch_indices)
        gemm(combine_inputs[t], matrices.combine, no_bias, none, attn_vectors[t])
        dropout_mask = dropout_masks[t, layers - 1] if dropout_masks.size else none
        attn_output(attn_vectors[t], dropout_mask, out[t], layer_inputs[0, t + 1])


@jit
def decoder_backward(grad_out, source, matrices, dropout_masks, activations, gradients):
    """Compute the gradients of `decoder`; write gradients.

    grad_out: (T, B, H); matrices: panels of the transposed weights.
    """
    source, matrices = AttentionSource(*source), DecoderMatrices(*matrices)
    activations, gradients = DecoderActivations(*activations), DecoderGradients(*gradients)
    gates, cells, tanh_cell = activations.gates, activations.cells, activations.tanh_cell
    attn_vectors, attn_weights = activations.attn_vectors, activations.attn_weights
    grad_gates, grad_layer_input, grad_cell = gradients.gates, gradients.layer_input, gradients.cell
    grad_combined, grad_combine_inputs = gradients.combined, gradients.combine_inputs
    layers, time, batch, hidden = gates.shape[0], gates.shape[1], gates.shape[2], grad_out.shape[2]
    no_bias, no_mask = np.zeros(matrices.layers.shape[1] * PANEL_COLUMNS, np.float32), np.empty(0, np.float32)
    none, grad_top_state = np.empty((0, 0), np.float32), np.empty((batch, hidden), np.float32)
    for t in range(time - 1, -1, -1):
        dropout_mask = dropout_masks[t, layers - 1] if dropout_masks.size else none
        attn_output_backward(grad_out[t], grad_layer_input[0], dropout_mask, attn_vectors[t], grad_combined[t])
        gemm(grad_combined[t], matrices.combine, no_bias, none, grad_combine_inputs[t])
        attend_backward(
            grad_combine_inputs[t], attn_weights[t], source.keys, source.states, gradients.scores[t], grad_top_state
        )
        for n in range(layers - 1, -1, -1):
            top = n == layers - 1
            cell_backward(
                gates[n, t],
                no_mask,
                cells[n, t],
                tanh_cell[n, t],
                grad_top_state if top else grad_layer_input[n + 1],
                dropout_masks[t, n] if dropout_masks.size and not top else none,
                grad_layer_input[n],
                grad_cell[n],
                grad_gates[n, t],
            )
            gemm(grad_gates[n, t], matrices.layers[n], no_bias, none, grad_layer_input[n])


@jit
def encoder(words, mask, weights, state, cells, states, keys):
    """Encode the sources of a search, holding no more than the next step needs.

    words, mask: (T, B); state: (L, B, H) and cells: (2, L, B, H), zero at first, become those of the last step, which
    is cells[T % 2]. Writes states and keys (B, T, H), 0 where mask is 0. Sentences that have not begun cost nothing if
    the longer ones come last.
    """
    weights = EncoderWeights(*weights)
    layers, batch, hidden = state.shape
    block, top = block_size(batch, 1), layers - 1
    panels, biases = weights.panels, weights.biases
    none, no_rows = np.empty((0, 0), np.float32), np.empty(0, np.int64)
    gates, inputs = np.empty((block, 4 * hidden), np.float32), np.empty((block, 4 * hidden), np.float32)
    tanh_cell, key = np.empty((block, hidden), np.float32), np.empty((block, hidden), np.float32)
    for low in range(0, batch, block):
        end = min(low + block, batch)
        for t in range(words.shape[0]):
            first = low
            while first < end and mask[t, first] == 0:
                first += 1
            states[low:first, t] = 0
            keys[low:first, t] = 0
            count = end - first
            if not count:
                continue
            for n in range(layers):
                own, gate = state[n, first:end], gates[:count]
                old_cell, new_cell = cells[t % 2, n, first:end], cells[1 - t % 2, n, first:end]
                gemm(own, panels[n], biases[n], none, gate)
                if n:
                    gemm(state[n - 1, first:end], panels[top + n], biases[top + n], none, inputs[:count])
                added, added_rows = (inputs[:count], no_rows) if n else (weights.table, words[t, first:end])
                row_mask = mask[t, first:end]
                cell(gate, added, added_rows, row_mask, old_cell, new_cell, tanh_cell, own, 0, none, 0, none)
            gemm(state[top, first:end], weights.attention, biases[0], none, key[:count])
            for b in range(first, end):
                for j in range(hidden):
                    states[b, t, j] = state[top, b, j]
                for j in range(hidden):
                    keys[b, t, j] = key[b - first, j]


@jit
def decoder_step(words, parents, source, batch_indices, weights, last, new):
    """Run one decoder step of a search for N rows, N / B a sentence; write new.

    words: (N,); parents: (N,), the rows of last that the rows continue; batch_indices: (B,), where each sentence stands
    in source.
    """
    source, weights = AttentionSource(*source), DecoderWeights(*weights)
    last, new = SearchState(*last), SearchState(*new)
    (panels, biases, scales), (combine, combine_bias, combine_scale) = weights.layers, weights.combine
    layers, rows, hidden = new.state.shape
    beam = rows // batch_indices.size
    block = block_size(batch_indices.size, beam) * beam  # a block's buffers stay in a near cache
    no_mask, none, no_rows = np.empty(0, np.float32), np.empty((0, 0), np.float32), np.empty(0, np.int64)
    gates, tanh_cell = np.empty((block, 4 * hidden), np.float32), np.empty((block, hidden), np.float32)
    layer_inputs = np.empty((block, 2 * hidden), np.float32)
    combine_inputs = np.empty((block, 2 * hidden), np.float32)
    old_cells = np.empty((block, hidden), np.float32)
    attn_weights = np.empty((block, source.keys.shape[1]), np.float32)
    for begin in range(0, rows, block):
        end = min(begin + block, rows)
        count, parent, word = end - begin, parents[begin:end], words[begin:end]
        layer_input, combine_input, old_cell = layer_inputs[:count], combine_inputs[:count], old_cells[:count]
        gather(last.attn_vector, parent, layer_input, 0)
        for n in range(layers):
            gather(last.state[n], parent, layer_input, hidden)
            gather(last.cell[n], parent, old_cell, 0)
            gemm(layer_input, panels[n], biases[n], scales[n], gates[:count])
            added, added_rows = (weights.biases[n : n + 1], no_rows) if n else (weights.table, word)
            next_input, next_at = (combine_input, hidden) if n == layers - 1 else (layer_input, 0)
            state, new_cell = new.state[n, begin:end], new.cell[n, begin:end]
            cell(gates, added, added_rows, no_mask, old_cell, new_cell, tanh_cell, state, 0, next_input, next_at, none)
        sentences = batch_indices[begin // beam : end // beam]
        attend(combine_input, source.keys, source.states, source.mask_bias, attn_weights, sentences)
        gemm(combine_input, combine, combine_bias, combine_scale, new.attn_vector[begin:end])
        attn_output(new.attn_vector[begin:end], none, new.attn_vector[begin:end], none)
