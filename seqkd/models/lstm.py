"""The network of Kim & Rush (2016): LSTM encoder and decoder, Luong's general attention, input feeding.

Sizes in comments: S source positions, T target positions, B sentences, N rows of the decoder, H hidden units, L layers,
V pieces.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seqkd.data.vocab import PAD
from seqkd.models import interface
from seqkd.models.interface import Continuations, InferenceModel
from seqkd.ops import lstm as lstm_ops
from seqkd.ops import matmul
from seqkd.ops.cpu import lstm as lstm_cpu
from seqkd.ops.matmul import PackedWeight, cast_weight, linear, matmul_nt

NetworkShape = interface.NetworkShape
MASK_BIAS = -1e9  # added to the attention's score of a padded source position
EXCLUDED_BIAS = -15.0  # its softmax is so small that its gradient is nothing beside the epsilon of Adam, 1e-8


class LSTMEncoderOutput(NamedTuple):
    """An encoded batch."""

    states: Tensor  # (B, S, H), of the top layer
    keys: Tensor  # (B, S, H), states times the attention's matrix
    mask_bias: Tensor  # (B, 1, S), 0 at words and MASK_BIAS at padding
    state: Tensor  # (L, B, H), after the last source word
    cell: Tensor  # (L, B, H)
    batch_indices: Tensor | None = None  # (n,) the sentences of the tensors above that are meant; None: all, in order

    def select(self, sentences: Tensor) -> Self:
        """Return the output of these sentences; with batch_indices only those change, and no other tensor is moved."""
        if self.batch_indices is not None:
            return self._replace(batch_indices=self.batch_indices[sentences])
        states, keys, mask_bias = self.states[sentences], self.keys[sentences], self.mask_bias[sentences]
        return type(self)(states, keys, mask_bias, self.state[:, sentences], self.cell[:, sentences])

    def copy_(self, other: Self) -> None:
        assert self.batch_indices is None
        assert other.batch_indices is None
        _copy_tensors(self[:5], other[:5])


class LSTMDecoderState(NamedTuple):
    """The decoder between two words, for N rows."""

    attn_vector: Tensor  # (N, H), the last attentional vector, which the next step is fed
    state: Tensor  # (L, N, H)
    cell: Tensor  # (L, N, H)

    def reorder(self, rows: Tensor) -> Self:
        attn_vector, state = self.attn_vector.index_select(0, rows), self.state.index_select(1, rows)
        return type(self)(attn_vector, state, self.cell.index_select(1, rows))

    def copy_(self, other: Self) -> None:
        _copy_tensors(self, other)


def _copy_tensors(targets: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for target, value in zip(targets, values, strict=True):
        target.copy_(value)


class LSTMNetwork(interface.Network):
    """No tying, one bias a layer; gates in the order input, forget, output, candidate."""

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__(shape)
        vocab, layers, hidden = shape[:3]

        def weight(*size: int) -> nn.Parameter:
            return nn.Parameter(torch.zeros(*size))

        self.source_embedding, self.target_embedding = weight(vocab, hidden), weight(vocab, hidden)
        self.encoder_input = nn.ParameterList(weight(4 * hidden, hidden) for _ in range(layers))
        self.encoder_state = nn.ParameterList(weight(4 * hidden, hidden) for _ in range(layers))
        self.encoder_bias = nn.ParameterList(weight(4 * hidden) for _ in range(layers))
        self.decoder_word = weight(4 * hidden, hidden)  # from the embedding to the first layer's gates
        self.decoder = nn.ParameterList(weight(4 * hidden, 2 * hidden) for _ in range(layers))  # [input; own state]
        self.decoder_bias = nn.ParameterList(weight(4 * hidden) for _ in range(layers))
        self.attention = weight(hidden, hidden)
        self.combine = weight(hidden, 2 * hidden)  # [context; top state]
        self.output, self.output_bias = weight(vocab, hidden), weight(vocab)

    def init_weights(
        self, generator: torch.Generator, *, init_range: float = 0.1, embedding_init_range: float = 0.1
    ) -> None:
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                bound = embedding_init_range if name.endswith("_embedding") else init_range
                parameter.uniform_(-bound, bound, generator=generator)

    def exclude_pieces(self, ids: Sequence[int]) -> None:
        with torch.no_grad():
            self.output_bias[list(ids)] = EXCLUDED_BIAS

    def encode(self, source: Tensor, dropout_masks: Sequence[Tensor] = ()) -> LSTMEncoderOutput:
        """Encode source, (S, B) ids padded on the left; dropout_masks: (S, B, H) between layers, none: no dropout."""
        padded = source == PAD
        masked = source.is_cuda or bool(padded.any())  # asking a GPU would wait for it
        mask = (~padded).unsqueeze(-1).to(self.output.dtype) if masked else None
        gates = self._embed_and_project(source, self.source_embedding, self.encoder_input[0], self.encoder_bias[0])
        states, cells = [], []
        for layer, weight in enumerate(self.encoder_state, start=1):
            below, cell = lstm_ops.Layer.apply(gates, weight, mask)  # type: ignore[no-untyped-call]
            states.append(below[-1])
            cells.append(cell)
            if layer < self.shape.layers:
                below = below * dropout_masks[layer - 1] if dropout_masks else below
                gates = linear(below, self.encoder_input[layer], self.encoder_bias[layer])
        top = below.transpose(0, 1).contiguous()
        keys = linear(top, self.attention.t())
        return LSTMEncoderOutput(top, keys, _mask_bias(padded, top.dtype), torch.stack(states), torch.stack(cells))

    def sample_dropout(self, source: Tensor, target: Tensor, generator: torch.Generator | None) -> list[Tensor]:
        """Draw dropout masks: (S, B, H) between layers of the encoder, then the decoder's (T, L, B, H); or none."""
        layers, hidden = self.shape[1:3]
        sizes = [(*source.shape, hidden)] * (layers - 1) + [(target.shape[0], layers, target.shape[1], hidden)]
        dropped = generator is not None and self.shape.dropout
        return [self._dropout_mask(size, generator) for size in sizes] if dropped else []

    def forward_with_masks(self, source: Tensor, target: Tensor, *dropout_masks: Tensor) -> Tensor:
        encoder_output = self.encode(source, dropout_masks[:-1])
        decoder_masks = dropout_masks[-1] if dropout_masks else None
        words = self._embed_and_project(target, self.target_embedding, self.decoder_word, self.decoder_bias[0])
        vectors: Tensor = lstm_ops.Decoder.apply(  # type: ignore[no-untyped-call]
            words, *encoder_output[:5], decoder_masks, self.combine, *self.decoder, *list(self.decoder_bias)[1:]
        )
        return vectors

    def _embed_and_project(self, words: Tensor, embedding: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Return what words (T, B) add to a first layer's gates (T, B, 4H); each distinct word is multiplied once."""
        if not lstm_cpu.supports(embedding):  # a GPU would wait for the number of distinct words
            return linear(F.embedding(words, embedding), weight, bias)
        distinct, indices = torch.unique(words, return_inverse=True)
        return F.embedding(indices, linear(F.embedding(distinct, embedding), weight, bias))

    def _dropout_mask(self, size: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
        """Draw multipliers: 0 with the probability of dropout, else 1 / (1 - dropout)."""
        keep = 1.0 - self.shape.dropout
        count = math.prod(size)
        drawn = torch.empty(-(-count // 4), dtype=torch.int64, device=self.device)
        drawn.random_(-(1 << 63), None, generator=generator)  # four decisions a number: drawing is what costs
        kept = drawn.view(torch.int16)[:count] < round(keep * (1 << 16)) - (1 << 15)
        return kept.view(size).to(self.output.dtype).mul_(1.0 / keep)

    def logits(self, vectors: Tensor) -> Tensor:
        return linear(vectors, self.output, self.output_bias, keep_fp32=True)

    def step(self, word_gates: Tensor, encoder_output: LSTMEncoderOutput, state: LSTMDecoderState) -> LSTMDecoderState:
        """Do one decoder step in plain torch, with autograd: the reference of both backends' `decoder_step`.

        word_gates: (N, 4H), what the words' embeddings add to the first layer's gates; N = B x the rows of a sentence,
        those of one sentence together.
        """
        lower, states, cells = state.attn_vector, [], []
        for layer in range(self.shape.layers):
            gates = linear(torch.cat((lower, state.state[layer]), -1), self.decoder[layer])
            added = self.decoder_bias[layer][None] if layer else word_gates
            lower, cell = lstm_ops.lstm_step(gates, added, state.cell[layer])
            states.append(lower)
            cells.append(cell)
        query = lower.view(len(encoder_output.keys), -1, self.shape.hidden)  # (B, rows of a sentence, H)
        scores = torch.baddbmm(encoder_output.mask_bias, query, encoder_output.keys.transpose(1, 2))
        context = torch.bmm(torch.softmax(scores, -1), encoder_output.states).view(lower.shape)
        attn_vector = torch.tanh(linear(torch.cat((context, lower), -1), self.combine))
        return LSTMDecoderState(attn_vector, torch.stack(states), torch.stack(cells))

    def make_inference_model(self) -> "ReferenceInference":
        compiled = CompiledInference if lstm_cpu.supports(self.output) else ReferenceInference
        with torch.no_grad():
            return CUDAInference(self) if self.output.is_cuda else compiled(self)


def _mask_bias(padded: Tensor, dtype: torch.dtype) -> Tensor:
    """Return (B, 1, S), MASK_BIAS where padded (S, B) is true."""
    return padded.t()[:, None].to(dtype) * MASK_BIAS


class ReferenceInference(InferenceModel[LSTMEncoderOutput, LSTMDecoderState]):
    """Beam search in plain torch operations, for any device and precision; what the other two are tested against."""

    def __init__(self, network: LSTMNetwork) -> None:
        super().__init__(network.device, network.output.dtype)
        self.network = network
        # (V, 4H), what each word adds to the first layer's gates
        self.word_gates = matmul_nt(network.target_embedding, network.decoder_word, network.decoder_bias[0])

    def encode(self, source: Tensor) -> LSTMEncoderOutput:
        return self.network.encode(source)

    def init_state(self, encoder_output: LSTMEncoderOutput) -> LSTMDecoderState:
        state, cell = encoder_output.state, encoder_output.cell
        return LSTMDecoderState(torch.zeros_like(state[0]), state, cell)

    def step(
        self, words: Tensor, encoder_output: LSTMEncoderOutput, state: LSTMDecoderState, parents: Tensor
    ) -> LSTMDecoderState:
        return self.network.step(self.word_gates[words], encoder_output, state.reorder(parents))

    def logits(self, state: LSTMDecoderState) -> Tensor:
        return self.network.logits(state.attn_vector)


class CUDAInference(ReferenceInference):
    """Beam search on a GPU: weights cast once, no autograd, the parts between two matrix products as single kernels."""

    def __init__(self, network: LSTMNetwork) -> None:
        super().__init__(network)
        self.combine, *self.matrices = map(cast_weight, (network.combine, *network.decoder))
        self.biases = list(network.decoder_bias)[1:]
        self.output = cast_weight(network.output) if matmul.FP32_RESULTS else network.output

    def step(
        self, words: Tensor, encoder_output: LSTMEncoderOutput, state: LSTMDecoderState, parents: Tensor
    ) -> LSTMDecoderState:
        tensors = self.word_gates[words], encoder_output[:3], state.reorder(parents)
        return LSTMDecoderState(*lstm_ops.decoder_step(*tensors, self.matrices, self.biases, self.combine))

    def logits(self, state: LSTMDecoderState) -> Tensor:
        return matmul_nt(state.attn_vector, self.output, self.network.output_bias, keep_fp32=True)


class CompiledInference(ReferenceInference):
    """Beam search by the compiled loops for float32 on a CPU: weights packed once, in int8 where the network says so.

    Sentences that retire are only dropped from the encoder output's batch_indices.
    """

    def __init__(self, network: LSTMNetwork) -> None:
        super().__init__(network)
        quantized = network.int8 and matmul.supports_int8(network.shape.hidden)
        pack = PackedWeight.quantize if quantized else PackedWeight.pack
        matrices, biases = [pack(matrix) for matrix in network.decoder], list(network.decoder_bias)[1:]
        self.decoder = lstm_cpu.decoder_weights(self.word_gates, matrices, pack(network.combine), biases)
        self.output = pack(network.output, network.output_bias)
        self.encoder = _compiled_encoder(network) if matmul.uses_own_gemm() else None

    def encode(self, source: Tensor) -> LSTMEncoderOutput:
        if self.encoder is None:
            encoder_output = self.network.encode(source)
        else:
            padded = source == PAD
            states, keys, state, cell = self.encoder.run(source, (~padded).to(self.dtype))
            encoder_output = LSTMEncoderOutput(states, keys, _mask_bias(padded, self.dtype), state, cell)
        return encoder_output._replace(batch_indices=torch.arange(source.shape[1]))

    def init_state(self, encoder_output: LSTMEncoderOutput) -> LSTMDecoderState:
        state = super().init_state(encoder_output)
        return state if encoder_output.batch_indices is None else state.reorder(encoder_output.batch_indices)

    def step(
        self, words: Tensor, encoder_output: LSTMEncoderOutput, state: LSTMDecoderState, parents: Tensor
    ) -> LSTMDecoderState:
        states, keys, mask_bias, _, _, indices = encoder_output
        indices = torch.arange(len(keys)) if indices is None else indices
        memory = states, keys, mask_bias, indices
        return LSTMDecoderState(*lstm_cpu.decoder_step(words, memory, state, parents, self.decoder))

    def logits(self, state: LSTMDecoderState) -> Tensor:
        return self.output.apply(state.attn_vector, self.network.shape.vocab)

    def top_k(
        self, state: LSTMDecoderState, scores: Tensor, open_slots: Tensor, *, forbidden_ids: tuple[int, ...]
    ) -> Continuations:
        size = self.network.shape.vocab
        return lstm_cpu.beam_top_k(
            state.attn_vector, self.output, scores, open_slots, size=size, forbidden_ids=forbidden_ids
        )


def _compiled_encoder(network: LSTMNetwork) -> lstm_cpu.Encoder:
    weights = map(list, (network.encoder_input, network.encoder_state, network.encoder_bias))
    return lstm_cpu.Encoder(network.source_embedding, *weights, attention=network.attention)
