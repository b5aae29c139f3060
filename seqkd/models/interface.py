"""The seam between a network's architecture and what uses it: training, the losses and both beam searches.

A new architecture is one module beside this one that implements these classes, and its name in
`checkpoint.ARCHITECTURES`, by which `architecture` in a model's shape.json chooses it. The tensors inside an encoder
output or a decoder state are the architecture's own: a search only selects, reorders and copies them.

Sizes: B sentences, S source positions, T target positions, V pieces; N = B x R rows of the decoder, R hypotheses of
each sentence, those of one sentence together.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Generic, NamedTuple, Protocol, Self, TypeVar

import torch
from torch import Tensor, nn

Continuations = tuple[Tensor, Tensor, Tensor]  # (B, W) each: log-probabilities, parent rows in the sentence, words


class NetworkShape(NamedTuple):
    """What a weights file alone does not say."""

    vocab: int  # V, pieces
    layers: int
    hidden: int  # hidden units
    dropout: float  # probability
    members: int = 1  # networks of an ensemble


class EncoderOutput(Protocol):
    """An encoded batch of B sentences."""

    def select(self, sentences: Tensor) -> Self:
        """Return the encoder output of these sentences only; sentences: (n,) indices, which may repeat."""
        ...

    def copy_(self, other: Self) -> None:
        """Copy the values of another encoder output of the same sizes into these tensors (for CUDA graphs)."""
        ...


class DecoderState(Protocol):
    """The decoder between two words, for N rows."""

    def reorder(self, rows: Tensor) -> Self:
        """Return a new state with these rows in this order; rows: (n,) indices, which may repeat."""
        ...

    def copy_(self, other: Self) -> None:
        """Copy the values of another state of the same sizes into these tensors (for CUDA graphs)."""
        ...


EncoderOutputT = TypeVar("EncoderOutputT", bound=EncoderOutput)
DecoderStateT = TypeVar("DecoderStateT", bound=DecoderState)


class InferenceModel(ABC, Generic[EncoderOutputT, DecoderStateT]):
    """A network prepared for beam search: its weights are packed or cast once and must not change meanwhile."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self.device = device
        self.dtype = dtype  # of the logits
        self.graph_cache: dict[Any, Any] = {}  # CUDA graphs that searches captured, with their buffers

    @abstractmethod
    def encode(self, source: Tensor) -> EncoderOutputT:
        """Encode source, (S, B) ids padded on the left."""

    @abstractmethod
    def init_state(self, encoder_output: EncoderOutputT) -> DecoderStateT:
        """Return the decoder state before the first word, one row per sentence."""

    @abstractmethod
    def step(
        self, words: Tensor, encoder_output: EncoderOutputT, state: DecoderStateT, parents: Tensor
    ) -> DecoderStateT:
        """Return the decoder state after one more word of each row, leaving the given state as it is.

        words: (N,) ids; parents: (N,) the row of state that each word continues.
        """

    @abstractmethod
    def logits(self, state: DecoderStateT) -> Tensor:
        """Return (N, V), a new tensor that the caller may overwrite."""

    def top_k(
        self, state: DecoderStateT, scores: Tensor, open_slots: Tensor, *, forbidden_ids: tuple[int, ...]
    ) -> Continuations | None:
        """Choose each sentence's best continuations without holding all logits; None: this model cannot.

        The same as `hypotheses.top_k_continuations` of the logits, with a width of the most open slots of a sentence.
        """
        return None


class Network(nn.Module, ABC):
    """An encoder-decoder over one joint vocabulary."""

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.shape = shape
        self.int8 = False  # whether a beam search multiplies in int8, where the processor can
        self._inference_model: InferenceModel[Any, Any] | None = None

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    def vector_size(self) -> int:
        """Return the length of each of forward's vectors."""
        return self.shape.hidden

    @abstractmethod
    def init_weights(
        self, generator: torch.Generator, *, init_range: float = 0.1, embedding_init_range: float = 0.1
    ) -> None:
        """Draw new weights, uniform in (-init_range, init_range), the embeddings in their own range."""

    def exclude_pieces(self, ids: Sequence[int]) -> None:
        """Let these pieces begin with next to no probability, where the network has a bias for each.

        For pieces that no target of the training text has. Else their weights grow in every update of Adam, however
        small the gradient, and disturb all others: 508 of 2,000 pieces took 3 BLEU from a small student.
        """

    @abstractmethod
    def forward_with_masks(self, source: Tensor, target: Tensor, *dropout_masks: Tensor) -> Tensor:
        """Return forward's vectors with the dropout masks that sample_dropout drew; no masks: no dropout."""

    @abstractmethod
    def logits(self, vectors: Tensor) -> Tensor:
        """Map forward's vectors (..., H) to (..., V)."""

    def probabilities(self, vectors: Tensor) -> Tensor:
        """Map forward's vectors (..., H) to probabilities (..., V)."""
        return self.logits(vectors).softmax(-1)

    @abstractmethod
    def make_inference_model(self) -> InferenceModel[Any, Any]:
        """Prepare the weights, as they are now, for beam search."""

    def sample_dropout(self, source: Tensor, target: Tensor, generator: torch.Generator | None) -> Sequence[Tensor]:
        """Draw the dropout masks of a batch; none without a generator. Drawn apart from the forward pass, because a
        captured CUDA graph would repeat the same masks."""
        return []

    def forward(self, source: Tensor, target: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return the vectors (T, B, H) after each word of target, of which `logits` makes the next word's logits.

        source: (S, B) ids padded on the left; target: (T, B) ids, BOS first, padded on the right; generator: draws the
        dropout masks, None: no dropout.
        """
        return self.forward_with_masks(source, target, *self.sample_dropout(source, target, generator))

    @contextmanager
    def inference(self) -> Iterator[InferenceModel[Any, Any]]:
        """Prepare the network once for all beam searches within the block, in which its weights must not change."""
        if self._inference_model is not None:
            yield self._inference_model
            return
        self._inference_model = self.make_inference_model()
        try:
            yield self._inference_model
        finally:
            self._inference_model.graph_cache.clear()
            self._inference_model = None

    def freeze(self) -> None:
        """Prepare the network for beam search for good: its weights must not change any more."""
        self._inference_model = self.make_inference_model()
