"""A network of another architecture goes through both beam searches without any change of them."""

import itertools
from typing import NamedTuple, Self

import pytest
import torch
from networks import MANY
from test_beam_search_cuda import decode_in_static_buffers
from torch import Tensor, nn

from seqkd.data.batches import pad_left
from seqkd.data.vocab import BOS, EOS, PAD
from seqkd.decoding import beam_search
from seqkd.models.interface import InferenceModel, Network, NetworkShape


class BagOutput(NamedTuple):
    bag: Tensor  # (B, H), the sum of the source's embeddings

    def select(self, sentences: Tensor) -> Self:
        return type(self)(self.bag[sentences])

    def copy_(self, other: Self) -> None:
        self.bag.copy_(other.bag)


class BagState(NamedTuple):
    total: Tensor  # (N, H), of the words so far and the source's bag, halved with each word

    def reorder(self, rows: Tensor) -> Self:
        return type(self)(self.total[rows])

    def copy_(self, other: Self) -> None:
        self.total.copy_(other.total)


class BagNetwork(Network):
    """The sum of the source's embeddings, a decaying one of the target's, and a matrix over both."""

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__(shape)
        self.embedding, self.output = (nn.Parameter(torch.zeros(shape.vocab, shape.hidden)) for _ in range(2))

    def init_weights(
        self, generator: torch.Generator, *, init_range: float = 0.1, embedding_init_range: float = 0.1
    ) -> None:
        with torch.no_grad():
            self.embedding.uniform_(-embedding_init_range, embedding_init_range, generator=generator)
            self.output.uniform_(-init_range, init_range, generator=generator)

    def bag(self, source: Tensor) -> Tensor:
        return (self.embedding[source] * (source != PAD)[:, :, None]).sum(0)

    def extend(self, total: Tensor, words: Tensor, bag: Tensor) -> Tensor:
        return total * 0.5 + self.embedding[words] + bag

    def forward_with_masks(self, source: Tensor, target: Tensor, *dropout_masks: Tensor) -> Tensor:
        bag, totals = self.bag(source), []
        total = torch.zeros_like(bag)
        for words in target:
            total = self.extend(total, words, bag)
            totals.append(total)
        return torch.stack(totals)

    def logits(self, vectors: Tensor) -> Tensor:
        return torch.tanh(vectors) @ self.output.t()

    def make_inference_model(self) -> "BagInference":
        return BagInference(self)


class BagInference(InferenceModel[BagOutput, BagState]):
    def __init__(self, network: BagNetwork) -> None:
        super().__init__(network.device, network.output.dtype)
        self.network = network

    def encode(self, source: Tensor) -> BagOutput:
        return BagOutput(self.network.bag(source))

    def init_state(self, encoder_output: BagOutput) -> BagState:
        return BagState(torch.zeros_like(encoder_output.bag))

    def step(self, words: Tensor, encoder_output: BagOutput, state: BagState, parents: Tensor) -> BagState:
        bag = encoder_output.bag.repeat_interleave(len(words) // len(encoder_output.bag), 0)
        return BagState(self.network.extend(state.reorder(parents).total, words, bag))

    def logits(self, state: BagState) -> Tensor:
        return self.network.logits(state.total)


def bag_network(vocab: int) -> BagNetwork:
    network = BagNetwork(NetworkShape(vocab, layers=1, hidden=8, dropout=0.0))
    network.init_weights(torch.Generator().manual_seed(5), init_range=2.0, embedding_init_range=0.5)
    return network.double()


def test_beam_search_of_a_second_architecture_finds_the_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beam_search, "max_length", lambda source_length: 3)
    network = bag_network(vocab=7)
    sources = [[4, 5], [6], [5, 5, 4]]
    sentences = [words for length in range(3) for words in itertools.product((1, 4, 5, 6), repeat=length)]
    cpu = beam_search.decode(network, sources, beam=99, nbest=99)
    static, _ = decode_in_static_buffers(network, sources, beam=99, nbest=99, length_penalty=0.0)
    for source, *nbest_lists in zip(sources, cpu, static, strict=True):
        scored = []
        for words in sentences:
            with torch.no_grad():
                vectors = network(pad_left([source]), torch.tensor([[BOS, *words]]).t())
                logprobs = torch.log_softmax(network.logits(vectors)[:, 0], -1)
            scored.append((sum(float(row[word]) for row, word in zip(logprobs, [*words, EOS], strict=True)), words))
        for nbest_list in nbest_lists:
            finished = [item for item in nbest_list if item.finished]
            assert [item.ids for item in finished] == [words for _, words in sorted(scored, reverse=True)]
            assert [item.logprob for item in finished] == pytest.approx(sorted((it for it, _ in scored), reverse=True))


@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
@pytest.mark.parametrize("beam", [1, 4])
def test_static_beam_of_a_second_architecture_finds_the_same_lists(beam: int, length_penalty: float) -> None:
    network = bag_network(vocab=40)
    expected = beam_search.decode(network, MANY, beam=beam, nbest=beam, length_penalty=length_penalty)
    found, beams = decode_in_static_buffers(network, MANY, beam=beam, nbest=beam, length_penalty=length_penalty)
    assert beams > 1
    for one, other in zip(found, expected, strict=True):
        assert [(item.ids, item.finished) for item in one] == [(item.ids, item.finished) for item in other]
        assert [item.logprob for item in one] == pytest.approx([item.logprob for item in other])
