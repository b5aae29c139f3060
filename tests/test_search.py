"""Search against enumeration of every sequence, greedy against beam 1, a batch of one against a batch of many."""

import itertools
import math

import pytest
import torch

from seqkd import fused, model, search
from seqkd.batches import padded_left
from seqkd.vocab import BOS, EOS, PAD

SOURCES = [[4, 5, 6], [5], [6, 4], [4, 4, 5, 6, 6], [5, 6]]


def random_network(*, vocab: int = 7, layers: int = 2, hidden: int = 8, spread: float = 12.0) -> model.Network:
    network = model.Network(model.Shape(vocab, layers, hidden, 0.3))
    network.start(torch.Generator().manual_seed(3))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(spread)
    return network.double()


@torch.no_grad()
def log_probability(network: model.Network, source: list[int], words: list[int]) -> float:
    """Of a whole sentence, EOS included, by the network as training sees it."""
    entered = torch.tensor([[BOS, *words]]).t()
    logits = network.logits(network(padded_left([source]), entered))[:, 0]
    scores = torch.log_softmax(logits, -1)
    return sum(float(scores[at, word]) for at, word in enumerate([*words, EOS]))


def test_a_huge_beam_finds_the_mode_and_ranks_every_sequence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "longest", lambda source: 4)
    network = random_network()
    words = [word for word in range(7) if word not in (PAD, BOS, EOS)]
    sequences = [list(seq) for length in range(4) for seq in itertools.product(words, repeat=length)]
    for source in SOURCES[:3]:
        scored = sorted(((log_probability(network, source, seq), tuple(seq)) for seq in sequences), reverse=True)
        (found,) = search.decode(network, [source], beam=400, nbest=400)
        whole = [hypothesis for hypothesis in found if hypothesis.finished]
        assert [hypothesis.ids for hypothesis in whole] == [seq for _, seq in scored]
        assert [hypothesis.logprob for hypothesis in whole] == pytest.approx([score for score, _ in scored])


def test_beam_1_is_greedy() -> None:
    network = random_network()
    for source, (best,) in zip(SOURCES, search.decode(network, SOURCES, beam=1), strict=True):
        words: list[int] = []
        while len(words) < search.longest(len(source)):
            entered = torch.tensor([[BOS, *words]]).t()
            with torch.no_grad():
                logits = network.logits(network(padded_left([source]), entered))[-1, 0]
            logits[[PAD, BOS]] = float("-inf")
            if int(logits.argmax()) == EOS:
                break
            words.append(int(logits.argmax()))
        assert list(best.ids) == words


@pytest.mark.parametrize("beam", [1, 3, 5])
def test_a_batch_of_one_and_a_batch_of_many_agree(beam: int) -> None:
    network = random_network()
    many = search.decode(network, SOURCES, beam=beam, nbest=beam)
    for source, expected in zip(SOURCES, many, strict=True):
        (alone,) = search.decode(network, [source], beam=beam, nbest=beam)
        assert [item.ids for item in alone] == [item.ids for item in expected]
        assert [item.logprob for item in alone] == pytest.approx([item.logprob for item in expected])


@pytest.mark.parametrize("beam", [1, 4, 35])
def test_scores_are_the_networks_own(beam: int) -> None:
    network = random_network()
    for source, hypotheses in zip(SOURCES, search.decode(network, SOURCES, beam=beam, nbest=beam), strict=True):
        assert len({item.ids for item in hypotheses}) == len(hypotheses)
        for item in hypotheses:
            if item.finished:
                assert item.logprob == pytest.approx(log_probability(network, source, list(item.ids)))


def test_an_nbest_list_is_full_and_falls() -> None:
    network = random_network(vocab=40)
    for hypotheses in search.decode(network, [[4, 5], [9, 20, 7]], beam=12, nbest=12):
        assert len(hypotheses) == 12
        scores = [item.logprob for item in hypotheses if item.finished]
        assert scores == sorted(scores, reverse=True)


def test_the_best_of_a_list_is_the_single_answer() -> None:
    network = random_network(vocab=40)
    one = search.decode(network, SOURCES, beam=5)
    full = search.decode(network, SOURCES, beam=5, nbest=5)
    assert [items[0].ids for items in one] == [items[0].ids for items in full]


def test_length_normalisation_divides_by_pieces_with_the_end() -> None:
    network = random_network(vocab=40)
    for hypotheses in search.decode(network, SOURCES, beam=8, nbest=8, normalise=1.0):
        whole = [item for item in hypotheses if item.finished]
        means = [item.logprob / (len(item.ids) + 1) for item in whole]
        assert means == sorted(means, reverse=True)


def test_an_empty_source_gets_an_empty_hypothesis_in_its_place() -> None:
    network = random_network()
    answers = search.decode(network, [[4], [], [5]], beam=2)
    assert answers[1][0].ids == ()
    assert math.isclose(answers[1][0].logprob, 0.0)
    assert answers[0][0].ids == search.decode(network, [[4]], beam=2)[0][0].ids


def test_the_compiled_choice_of_continuations_is_the_plain_one() -> None:
    generator = torch.Generator().manual_seed(7)
    for rows, room, size in ((1, [5, 5], 200), (4, [4, 2], 200), (5, [5, 1], 64), (3, [9, 9], 5)):
        logits = torch.randn(2 * rows, size, generator=generator) * 3
        scores = -torch.rand(2, rows, generator=generator).sort(1).values * 4
        scores[1, -1] = float("-inf") if rows > 1 else -1.0
        for one, other in zip(
            fused.best(logits, scores, torch.tensor(room), barred=(PAD, BOS)),
            search.best(logits, scores, torch.tensor(room), barred=(PAD, BOS)),
            strict=True,
        ):
            live = search.best(logits, scores, torch.tensor(room), barred=(PAD, BOS))[0] > float("-inf")
            torch.testing.assert_close(one[live], other[live], rtol=1e-5, atol=1e-5)
            assert one.shape == other.shape


@pytest.mark.parametrize("beam", [1, 5])
def test_the_compiled_search_finds_what_the_plain_one_finds(beam: int, monkeypatch: pytest.MonkeyPatch) -> None:
    network = random_network(vocab=150).float()
    found = search.decode(network, SOURCES, beam=beam, nbest=beam)
    monkeypatch.setattr(fused, "usable", lambda tensor: False)
    for one, other in zip(found, search.decode(network, SOURCES, beam=beam, nbest=beam), strict=True):
        assert [item.ids for item in one] == [item.ids for item in other]
        assert [item.logprob for item in one] == pytest.approx([item.logprob for item in other], rel=1e-4)
