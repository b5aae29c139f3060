"""The search in fixed shapes, here without a record, against the one that lets go of what has ended."""

import pytest
import torch
from networks import MANY, SOURCES, random_network

from seqkd.data.nbest import Hypothesis
from seqkd.decoding import beam_search, beam_search_cuda
from seqkd.decoding.beam_search_cuda import SearchSettings
from seqkd.models import lstm


def on_boards(net: lstm.LSTMNetwork, sources: list[list[int]], **settings: float) -> tuple[list[list[Hypothesis]], int]:
    """What is found, and how many boards it took."""
    with torch.inference_mode(), net.inference() as ready:
        found = beam_search_cuda.run(SearchSettings(net, ready, **settings), sources, beam_search.max_length)  # type: ignore[arg-type]
        return found, len(ready.boards)


@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
@pytest.mark.parametrize(("beam", "nbest"), [(1, 1), (3, 3), (5, 1), (12, 12)])
@pytest.mark.parametrize(("vocab", "sources"), [(7, SOURCES), (40, MANY)])
def test_the_same_lists_are_found(
    vocab: int, sources: list[list[int]], beam: int, nbest: int, length_penalty: float
) -> None:
    net = random_network(vocab=vocab, init_range=12.0 if vocab == 7 else 5.0)
    expected = beam_search.decode(net, sources, beam=beam, nbest=nbest, length_penalty=length_penalty)
    found, _ = on_boards(net, sources, beam=beam, nbest=nbest, length_penalty=length_penalty)
    for one, other in zip(found, expected, strict=True):
        whole = other[:nbest]
        assert [(item.ids, item.finished) for item in one] == [(item.ids, item.finished) for item in whole]
        assert [item.logprob for item in one] == pytest.approx([item.logprob for item in whole])


def test_the_last_sentences_move_to_a_smaller_board(monkeypatch: pytest.MonkeyPatch) -> None:
    net = random_network(vocab=40, init_range=5.0)
    sources = [[4], [5]] * 14 + [[4 + at % 30 for at in range(30)]] * 2
    expected = beam_search.decode(net, sources, beam=4, nbest=4)
    for look in (1, 8):
        monkeypatch.setattr(beam_search_cuda, "SYNC_EVERY", look)
        found, boards = on_boards(net, sources, beam=4, nbest=4, length_penalty=0.0)
        assert boards > 1
        for one, other in zip(found, expected, strict=True):
            assert [item.ids for item in one] == [item.ids for item in other]
