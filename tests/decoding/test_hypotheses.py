"""The choice of continuations and the ranking of hypotheses, by hand."""

import pytest
import torch

from seqkd.data.nbest import Hypothesis
from seqkd.decoding import hypotheses


def test_top_k_continuations_by_hand() -> None:
    """Two sentences of two rows over four words, of which the first is forbidden; the second has one open slot."""
    probabilities = torch.tensor(
        [[0.1, 0.2, 0.3, 0.4], [0.1, 0.7, 0.1, 0.1], [0.5, 0.2, 0.2, 0.1], [0.2, 0.1, 0.1, 0.6]]
    )
    scores = torch.tensor([[0.5, 0.25], [0.5, 0.5]]).log()
    found, parents, words = hypotheses.top_k_continuations(
        probabilities.log(), scores, torch.tensor([3, 1]), width=3, forbidden_ids=(0,)
    )
    assert found.exp()[0].tolist() == pytest.approx([0.2, 0.175, 0.15])
    assert [parents[0].tolist(), words[0].tolist()] == [[0, 1, 0], [3, 1, 2]]
    assert found.exp()[1].tolist() == pytest.approx([0.3, 0.0, 0.0])
    assert (parents[1, 0].item(), words[1, 0].item()) == (1, 3)


def test_rank_puts_finished_hypotheses_first_and_divides_by_the_length_with_its_end() -> None:
    short, long = Hypothesis((4,), -2.0, True), Hypothesis((4, 5, 6), -3.0, True)
    cut = Hypothesis((4, 5), -0.5, False)
    assert hypotheses.rank([cut, long, short], nbest=3, length_penalty=0.0) == [short, long, cut]
    assert hypotheses.rank([cut, short, long], nbest=3, length_penalty=1.0) == [long, short, cut]
    assert hypotheses.rank([cut, long, short], nbest=1, length_penalty=0.5) == [short]  # -2 / 2**.5 > -3 / 4**.5


def test_rank_keeps_the_order_of_equal_scores() -> None:
    first, second = Hypothesis((4,), -1.0, True), Hypothesis((5,), -1.0, True)
    assert hypotheses.rank([first, second], nbest=2, length_penalty=1.0) == [first, second]
    assert hypotheses.rank([second, first], nbest=1, length_penalty=1.0) == [second]
