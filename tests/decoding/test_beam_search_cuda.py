"""Beam search in static buffers, here on a CPU without CUDA graphs, against the one that drops what has ended."""

from typing import Any

import pytest
import torch
from networks import MANY, SOURCES, random_network

from seqkd.data.nbest import Hypothesis
from seqkd.decoding import beam_search, beam_search_cuda
from seqkd.decoding.hypotheses import SearchSettings
from seqkd.models.interface import Network


def decode_in_static_buffers(
    network: Network, sources: list[list[int]], **settings: Any
) -> tuple[list[list[Hypothesis]], int]:
    """Return the n-best lists, and how many static beams they took."""
    with torch.inference_mode(), network.inference() as model:
        nbest_lists = beam_search_cuda.run(SearchSettings(model, **settings), sources, beam_search.max_length)
        return nbest_lists, len(model.graph_cache)


@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
@pytest.mark.parametrize(("beam", "nbest"), [(1, 1), (3, 3), (5, 1), (12, 12)])
@pytest.mark.parametrize(("vocab", "sources"), [(7, SOURCES), (40, MANY)])
def test_static_beam_finds_the_same_lists(
    vocab: int, sources: list[list[int]], beam: int, nbest: int, length_penalty: float
) -> None:
    network = random_network(vocab_size=vocab, init_range=12.0 if vocab == 7 else 5.0)
    expected = beam_search.decode(network, sources, beam=beam, nbest=nbest, length_penalty=length_penalty)
    found, _ = decode_in_static_buffers(network, sources, beam=beam, nbest=nbest, length_penalty=length_penalty)
    for one, other in zip(found, expected, strict=True):
        assert [(item.ids, item.finished) for item in one] == [(item.ids, item.finished) for item in other]
        assert [item.logprob for item in one] == pytest.approx([item.logprob for item in other])


def test_static_beam_moves_the_last_sentences_to_a_smaller_one(monkeypatch: pytest.MonkeyPatch) -> None:
    network = random_network(vocab_size=40, init_range=5.0)
    sources = [[4], [5]] * 14 + [[4 + column % 30 for column in range(30)]] * 2
    expected = beam_search.decode(network, sources, beam=4, nbest=4)
    for steps in (1, 8):
        monkeypatch.setattr(beam_search_cuda, "SYNC_EVERY", steps)
        found, beams = decode_in_static_buffers(network, sources, beam=4, nbest=4, length_penalty=0.0)
        assert beams > 1
        for one, other in zip(found, expected, strict=True):
            assert [item.ids for item in one] == [item.ids for item in other]
