"""Records of the arrays that the LSTM loops read and write.

The plain loops get them filled with torch tensors, the compiled loops with NumPy arrays of the same memory.
Sizes: T time steps, B sentences, S source positions, N rows of a search, L layers, H hidden units, V pieces.
"""

from typing import Any, Generic, NamedTuple, TypeVar

Array = TypeVar("Array")


class LayerActivations(NamedTuple, Generic[Array]):
    """What the forward pass of one LSTM layer computes and its backward pass reads."""

    gates: Array  # (T, B, 4H), after sigmoid and tanh
    states: Array  # (T + 1, B, H), as matrix products read them, the first one zero
    cells: Array  # (T + 1, B, H), the first one zero
    tanh_cell: Array  # (T, B, H), tanh of all cells but the first


class AttentionSource(NamedTuple, Generic[Array]):
    """The encoder output that the decoder attends to."""

    states: Array  # (B, S, H)
    keys: Array  # (B, S, H), states times the attention's matrix
    mask_bias: Array  # (B, S), 0 at words and very negative at padding


class DecoderMatrices(NamedTuple):
    """The decoder's weight matrices, as tensors or as packed panels."""

    layers: Any  # L matrices (4H, 2H), each over [layer input; own state]
    combine: Any  # (H, 2H), over [context; top state]


class DecoderActivations(NamedTuple, Generic[Array]):
    """What the decoder's forward pass computes and its backward pass reads."""

    gates: Array  # (L, T, B, 4H), after sigmoid and tanh
    cells: Array  # (L, T + 1, B, H), the first one is the encoder's
    tanh_cell: Array  # (L, T, B, H), tanh of all cells but the first
    layer_inputs: Array  # (L, T + 1, B, 2H), [layer input; own previous state]
    combine_inputs: Array  # (T, B, 2H), [context; top state]
    attn_vectors: Array  # (T, B, H), before dropout
    attn_weights: Array  # (T, B, S)


class DecoderGradients(NamedTuple, Generic[Array]):
    """The gradients that the decoder's backward pass computes, of what stands before each activation function."""

    gates: Array  # (L, T, B, 4H)
    combined: Array  # (T, B, H), of combine's output
    combine_inputs: Array  # (T, B, 2H)
    scores: Array  # (T, B, S), of the attention's scores
    layer_input: Array  # (L, B, 2H), of one time step, in the end the first one; zero at first
    cell: Array  # (L, B, H), of one time step, in the end that of the encoder's cell; zero at first


class EncoderWeights(NamedTuple, Generic[Array]):
    """What the encoder of a search multiplies with and adds, packed for the compiled loops."""

    table: Array  # (V, 4H), the word's contribution to the first layer's gates
    panels: Array  # (2L - 1, ...), each layer's recurrent weight, then the input weights of all layers but the first
    biases: Array  # (2L - 1, ...), in the same order
    attention: Array  # panels of the attention's matrix


class DecoderWeights(NamedTuple, Generic[Array]):
    """What a step of a search multiplies with and adds, packed for the compiled loops."""

    table: Array  # (V, 4H), the word's contribution to the first layer's gates
    biases: Array  # (L, 4H), the first one unused: it is part of table
    layers: tuple[Array, ...]  # panels, biases and scales of all layers' matrices, each (L, ...)
    combine: tuple[Array, ...]  # panels, bias and scale


class SearchState(NamedTuple, Generic[Array]):
    """The decoder's state between two words of a search."""

    attn_vector: Array  # (N, H)
    state: Array  # (L, N, H)
    cell: Array  # (L, N, H)
