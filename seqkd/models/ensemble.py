"""An ensemble: networks of one shape over one vocabulary, whose probabilities are averaged, as one network.

A search, Word-KD, perplexity and a model's folder take it as any other network. It is trained member by member
(`seqkd.training.run`). Sizes as in `interface`; M members.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from seqkd.models.interface import Continuations, InferenceModel, Network, NetworkShape
from seqkd.models.lstm import CompiledInference, LSTMNetwork
from seqkd.ops.cpu import lstm as lstm_cpu
from seqkd.ops.matmul import PackedWeight


class EnsembleOutput(NamedTuple):
    """The encoder outputs of all members."""

    members: tuple[Any, ...]

    def select(self, sentences: Tensor) -> Self:
        return type(self)(tuple(member.select(sentences) for member in self.members))

    def copy_(self, other: Self) -> None:
        _copy(self.members, other.members)


class EnsembleState(NamedTuple):
    """The decoder states of all members."""

    members: tuple[Any, ...]

    def reorder(self, rows: Tensor) -> Self:
        return type(self)(tuple(member.reorder(rows) for member in self.members))

    def copy_(self, other: Self) -> None:
        _copy(self.members, other.members)


def _copy(targets: Sequence[Any], values: Sequence[Any]) -> None:
    for target, value in zip(targets, values, strict=True):
        target.copy_(value)


class Ensemble(Network):
    """Its vectors are those of all members side by side, (T, B, M x H); its logits are log-probabilities."""

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__(shape)
        one = shape._replace(members=1)
        self.members = nn.ModuleList(LSTMNetwork(one) for _ in range(shape.members))

    @property
    def networks(self) -> list[Network]:
        return list(self.members)  # type: ignore[arg-type]

    @property
    def vector_size(self) -> int:
        return self.shape.members * self.shape.hidden

    def init_weights(
        self, generator: torch.Generator, *, init_range: float = 0.1, embedding_init_range: float = 0.1
    ) -> None:
        for member in self.networks:
            member.init_weights(generator, init_range=init_range, embedding_init_range=embedding_init_range)

    def forward_with_masks(self, source: Tensor, target: Tensor, *dropout_masks: Tensor) -> Tensor:
        assert not dropout_masks, "an ensemble is trained member by member"
        return torch.cat([member.forward_with_masks(source, target) for member in self.networks], -1)

    def logits(self, vectors: Tensor) -> Tensor:
        parts = vectors.chunk(self.shape.members, -1)
        return average(member.logits(part) for member, part in zip(self.networks, parts, strict=True))

    def probabilities(self, vectors: Tensor) -> Tensor:
        parts = vectors.chunk(self.shape.members, -1)
        total = torch.zeros((), device=vectors.device)
        for member, part in zip(self.networks, parts, strict=True):
            total = total + member.probabilities(part) / len(parts)
        return total

    def make_inference_model(self) -> "EnsembleInference":
        return EnsembleInference(self)


def average(logits: Iterable[Tensor]) -> Tensor:
    """Return the logarithms of the mean of the probabilities that each of these logits (..., V) stand for."""
    total, count = torch.empty(0), 0
    for each in logits:  # one after the other, so that a few are held at most
        logprobs = each.log_softmax(-1)
        total, count = torch.logaddexp(total, logprobs) if count else logprobs, count + 1
    return total - math.log(count)


def make(shape: NetworkShape) -> Network:
    """Return a network without weights: an ensemble where the shape has several members."""
    return LSTMNetwork(shape) if shape.members == 1 else Ensemble(shape)


def members(network: Network) -> list[Network]:
    """Return the networks that are trained one by one: an ensemble's members, or the network itself."""
    return network.networks if isinstance(network, Ensemble) else [network]


class EnsembleInference(InferenceModel[EnsembleOutput, EnsembleState]):
    """Beam search with the members' mean distribution at every step."""

    def __init__(self, network: Ensemble) -> None:
        self.members = []
        for member in network.networks:
            member.int8 = network.int8
            self.members.append(member.make_inference_model())
        super().__init__(network.device, self.members[0].dtype)
        compiled = [member for member in self.members if isinstance(member, CompiledInference)]
        self.outputs = PackedWeight.stack([member.output for member in compiled]) if compiled else None
        self.vocab = network.shape.vocab

    def encode(self, source: Tensor) -> EnsembleOutput:
        return EnsembleOutput(tuple(member.encode(source) for member in self.members))

    def init_state(self, encoder_output: EnsembleOutput) -> EnsembleState:
        pairs = zip(self.members, encoder_output.members, strict=True)
        return EnsembleState(tuple(member.init_state(output) for member, output in pairs))

    def step(
        self, words: Tensor, encoder_output: EnsembleOutput, state: EnsembleState, parents: Tensor
    ) -> EnsembleState:
        triples = zip(self.members, encoder_output.members, state.members, strict=True)
        return EnsembleState(tuple(member.step(words, output, each, parents) for member, output, each in triples))

    def logits(self, state: EnsembleState) -> Tensor:
        return average(member.logits(each) for member, each in zip(self.members, state.members, strict=True))

    def top_k(
        self, state: EnsembleState, scores: Tensor, open_slots: Tensor, *, forbidden_ids: tuple[int, ...]
    ) -> Continuations | None:
        if self.outputs is None:
            return None
        vectors = torch.stack([each.attn_vector for each in state.members])
        size = self.vocab
        return lstm_cpu.beam_top_k(vectors, self.outputs, scores, open_slots, size=size, forbidden_ids=forbidden_ids)
