"""The network of Kim & Rush (2016): LSTM encoder and decoder, Luong's general attention, input feeding.

Sizes in comments: S source positions, T target positions, B sentences, H hidden units, L layers, V pieces.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seqkd.data.vocab import PAD
from seqkd.ops import lstm as lstm_ops
from seqkd.ops import matmul
from seqkd.ops.cpu import lstm as lstm_cpu
from seqkd.ops.matmul import PackedWeight, cast_weight, linear, matmul_nt

MASK_BIAS = -1e9  # added to the attention's score of a padded source position


class NetworkShape(NamedTuple):
    """What a weights file alone does not say."""

    vocab: int  # V, pieces
    layers: int  # L
    hidden: int  # H, also the embedding size
    dropout: float  # probability


class EncoderOutput(NamedTuple):
    """An encoded batch."""

    states: Tensor  # (B, S, H)
    keys: Tensor  # (B, S, H), states times the attention's matrix
    closed: Tensor  # (B, 1, S), 0 at words and CLOSED at padding
    state: Tensor  # (L, B, H), the encoder's last state
    cell: Tensor  # (L, B, H)
    places: Tensor | None = None  # (B,) where in the others each sentence stands; None: in its own place

    def at(self, rows: Tensor) -> Self:
        """The memory of some sentences only, without their states' history; rows: (n,). With places none is moved."""
        if self.places is not None:
            return self._replace(places=self.places[rows])
        return self._replace(states=self.states[rows], keys=self.keys[rows], closed=self.closed[rows])


class DecoderState(NamedTuple):
    """The decoder between two words, for N rows."""

    attn_vector: Tensor  # (N, H), the last attentional vector
    state: Tensor  # (L, N, H)
    cell: Tensor  # (L, N, H)

    def at(self, rows: Tensor) -> Self:
        attn_vector = self.attn_vector.index_select(0, rows)
        return self._replace(
            attn_vector=attn_vector, state=self.state.index_select(1, rows), cell=self.cell.index_select(1, rows)
        )


class InferenceModel(NamedTuple):
    """What a search calls of a network whose weights stay as they are."""

    step: Callable[
        [Tensor, EncoderOutput, DecoderState, Tensor], DecoderState
    ]  # (N,) words, and the (N,) rows of the last step they follow
    logits: Callable[[Tensor], Tensor]
    encode: Callable[[Tensor], EncoderOutput]
    boards: dict[Any, Any]  # what searches on a GPU have recorded
    best: Callable[..., tuple[Tensor, Tensor, Tensor]] | None = None  # search.best of the logits of vectors, compiled


class LSTMNetwork(nn.Module):
    """No tying, one bias a layer; gates in the order input, forget, output, candidate."""

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.shape = shape
        self.int8 = False  # whether a search multiplies in int8, where the processor can
        self._ready: InferenceModel | None = None
        vocab, layers, hidden, _ = shape

        def weight(*size: int) -> nn.Parameter:
            return nn.Parameter(torch.zeros(*size))

        self.source_embedding, self.target_embedding = weight(vocab, hidden), weight(vocab, hidden)
        self.encoder_input = nn.ParameterList(weight(4 * hidden, hidden) for _ in range(layers))
        self.encoder_state = nn.ParameterList(weight(4 * hidden, hidden) for _ in range(layers))
        self.encoder_bias = nn.ParameterList(weight(4 * hidden) for _ in range(layers))
        self.decoder_word = weight(4 * hidden, hidden)  # the embedding's share of the first layer's gates
        self.decoder = nn.ParameterList(weight(4 * hidden, 2 * hidden) for _ in range(layers))  # [input; own state]
        self.decoder_bias = nn.ParameterList(weight(4 * hidden) for _ in range(layers))
        self.attention = weight(hidden, hidden)
        self.combine = weight(hidden, 2 * hidden)  # [context; top state]
        self.output, self.output_bias = weight(vocab, hidden), weight(vocab)

    def init_weights(
        self, generator: torch.Generator, *, init_range: float = 0.1, embedding_init_range: float = 0.1
    ) -> None:
        """Fresh weights, uniform in (-spread, spread), those of the embeddings in their own range."""
        embeddings = (self.source_embedding, self.target_embedding)
        with torch.no_grad():
            for parameter in self.parameters():
                bound = embedding_init_range if any(parameter is it for it in embeddings) else init_range
                parameter.uniform_(-bound, bound, generator=generator)

    def encode(self, source: Tensor, keeps: Sequence[Tensor] = ()) -> EncoderOutput:
        """source: (S, B) ids, padded on the left. keeps: as drawn has them; none: no dropout."""
        padded = source == PAD
        waits = source.is_cuda or bool(padded.any())  # a GPU is not asked
        live = (~padded).unsqueeze(-1).to(self.output.dtype) if waits else None
        gates = self._shares(source, self.source_embedding, self.encoder_input[0], self.encoder_bias[0])
        states, cells = [], []
        for layer, weight in enumerate(self.encoder_state, start=1):
            below, cell = lstm_ops.Layer.apply(gates, weight, live)  # type: ignore[no-untyped-call]
            states.append(below[-1])
            cells.append(cell)
            if layer < self.shape.layers:
                below = below * keeps[layer - 1] if keeps else below
                gates = linear(below, self.encoder_input[layer], self.encoder_bias[layer])
        memory = below.transpose(0, 1).contiguous()
        closed = padded.t()[:, None].to(memory.dtype) * MASK_BIAS
        keys = linear(memory, self.attention.t())
        return EncoderOutput(memory, keys, closed, torch.stack(states), torch.stack(cells))

    def forward(self, source: Tensor, target: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The attentional vectors (T, B, H) after each word of target.

        source: (S, B) ids padded on the left; target: (T, B) ids, BOS first, padded on the right. generator: draws the
        dropout; None: no dropout.
        """
        return self.forward_with_masks(source, target, *self.sample_dropout(source, target, generator))

    def sample_dropout(self, source: Tensor, target: Tensor, generator: torch.Generator | None) -> list[Tensor]:
        """Dropout multipliers: (S, B, H) between layers of the encoder, then the decoder's (T, L, B, H); or none."""
        layers, hidden = self.shape[1:3]
        sizes = [(*source.shape, hidden)] * (layers - 1) + [(target.shape[0], layers, target.shape[1], hidden)]
        dropped = generator is not None and self.shape.dropout
        return [self._dropped(size, generator) for size in sizes] if dropped else []

    def forward_with_masks(self, source: Tensor, target: Tensor, *keeps: Tensor) -> Tensor:
        """forward, the dropout drawn."""
        memory = self.encode(source, keeps[:-1])
        keep = keeps[-1] if keeps else None
        words = self._shares(target, self.target_embedding, self.decoder_word, self.decoder_bias[0])
        vectors: Tensor = lstm_ops.Decoder.apply(  # type: ignore[no-untyped-call]
            words, *memory[:5], keep, self.combine, *self.decoder, *list(self.decoder_bias)[1:]
        )
        return vectors

    def _shares(self, words: Tensor, embedding: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """The words' shares of a first layer's gates, (T, B) -> (T, B, 4H): each distinct word is multiplied once."""
        if not lstm_cpu.supports(embedding):  # a GPU would wait for the number of distinct words
            return linear(F.embedding(words, embedding), weight, bias)
        distinct, places = torch.unique(words, return_inverse=True)
        return F.embedding(places, linear(F.embedding(distinct, embedding), weight, bias))

    def _dropped(self, size: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
        """Dropout multipliers: 0, or 1 / keep."""
        keep = 1.0 - self.shape.dropout
        like, count = self.output, math.prod(size)
        drawn = torch.empty(-(-count // 4), dtype=torch.int64, device=like.device)
        drawn.random_(-(1 << 63), None, generator=generator)  # four decisions a number: drawing is what costs
        kept = drawn.view(torch.int16)[:count] < round(keep * (1 << 16)) - (1 << 15)
        return kept.view(size).to(like.dtype).mul_(1.0 / keep)

    def logits(self, vectors: Tensor) -> Tensor:
        """(..., H) -> (..., V)"""
        return linear(vectors, self.output, self.output_bias, keep_fp32=True)

    @contextmanager
    def inference(self) -> Iterator[InferenceModel]:
        """What a search multiplies with, for as long as the weights stay as they are; kept for all searches within."""
        if self._ready is not None:
            yield self._ready
            return
        self._ready = self._made_ready()
        try:
            yield self._ready
        finally:
            self._ready.boards.clear()
            self._ready = None

    def freeze(self) -> None:
        """Keeps what a search multiplies with for good: the weights may not change any more."""
        self._ready = self._made_ready()

    def _made_ready(self) -> InferenceModel:
        with torch.no_grad():
            table = matmul_nt(self.target_embedding, self.decoder_word, self.decoder_bias[0])
            if self.output.is_cuda:
                return self._ready_on_gpu(table)
            if not lstm_cpu.supports(self.output):

                def plain(words: Tensor, memory: EncoderOutput, last: DecoderState, parents: Tensor) -> DecoderState:
                    return self.step(table[words], memory, last.at(parents))

                return InferenceModel(plain, self.logits, self.encode, {})
            right = (
                PackedWeight.quantize if self.int8 and matmul.supports_int8(self.shape.hidden) else PackedWeight.pack
            )
            matrices, biases = [right(matrix) for matrix in self.decoder], list(self.decoder_bias)[1:]
            steps = lstm_cpu.decoder_weights(table, matrices, right(self.combine), biases)
            output = right(self.output, self.output_bias)
            encoder = self._encoder() if matmul.uses_own_gemm() else None

        def encode(source: Tensor) -> EncoderOutput:
            places = torch.arange(source.shape[1])
            if encoder is None:
                return self.encode(source)._replace(places=places)
            live = source != PAD
            states, keys, state, cell = encoder.run(source, live.to(self.output.dtype))
            closed = (~live).t()[:, None].to(states.dtype) * MASK_BIAS
            return EncoderOutput(states, keys, closed, state, cell, places)

        def step(words: Tensor, memory: EncoderOutput, last: DecoderState, parents: Tensor) -> DecoderState:
            places = torch.arange(len(memory.keys)) if memory.places is None else memory.places
            held = memory.states, memory.keys, memory.closed, places
            return DecoderState(*lstm_cpu.decoder_step(words, held, last, parents, steps))

        def logits(vectors: Tensor) -> Tensor:
            return output.apply(vectors, self.shape.vocab)

        def best(
            vectors: Tensor, scores: Tensor, room: Tensor, *, forbidden_ids: tuple[int, ...]
        ) -> tuple[Tensor, Tensor, Tensor]:
            return lstm_cpu.beam_top_k(
                vectors, output, scores, room, size=self.shape.vocab, forbidden_ids=forbidden_ids
            )

        return InferenceModel(step, logits, encode, {}, best)

    def _encoder(self) -> lstm_cpu.Encoder:
        weights = map(list, (self.encoder_input, self.encoder_state, self.encoder_bias))
        return lstm_cpu.Encoder(self.source_embedding, *weights, attention=self.attention)

    def _ready_on_gpu(self, table: Tensor) -> InferenceModel:
        combine, *matrices = map(cast_weight, (self.combine, *self.decoder))
        output = cast_weight(self.output) if matmul.FP32_RESULTS else self.output
        biases = list(self.decoder_bias)[1:]

        def step(words: Tensor, memory: EncoderOutput, last: DecoderState, parents: Tensor) -> DecoderState:
            given = table[words], memory[:3], last.at(parents)
            return DecoderState(*lstm_ops.decoder_step(*given, matrices, biases, combine))

        def logits(vectors: Tensor) -> Tensor:
            return matmul_nt(vectors, output, self.output_bias, keep_fp32=True)

        return InferenceModel(step, logits, self.encode, {})

    def step(self, words: Tensor, memory: EncoderOutput, last: DecoderState) -> DecoderState:
        """One decoder step, with autograd in plain torch: the reference of recurrence.onward and fused.step.

        words: (N, 4H), the embeddings' share of the first layer's gates; N = B x rows a sentence, a sentence's rows
        together.
        """
        lower, states, cells = last.attn_vector, [], []
        for layer in range(self.shape.layers):
            gates = linear(torch.cat((lower, last.state[layer]), -1), self.decoder[layer])
            added = self.decoder_bias[layer][None] if layer else words
            lower, cell = lstm_ops.lstm_step(gates, added, last.cell[layer])
            states.append(lower)
            cells.append(cell)
        sentences = memory.keys.shape[0]
        query = lower.view(sentences, -1, self.shape.hidden)  # (B, rows, H)
        weight = torch.softmax(torch.baddbmm(memory.closed, query, memory.keys.transpose(1, 2)), -1)
        context = torch.bmm(weight, memory.states).view(lower.shape)
        attn_vector = torch.tanh(linear(torch.cat((context, lower), -1), self.combine))
        return DecoderState(attn_vector, torch.stack(states), torch.stack(cells))
