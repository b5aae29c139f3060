"""An ensemble: the plain mean of its members' probabilities, in losses and searches; one folder holds all."""

import itertools
from pathlib import Path

import pytest
import torch
from networks import MANY, SOURCES, untrained_model
from torch import Tensor

from seqkd.data.batches import TokenizedCorpus, pad_left
from seqkd.data.vocab import BOS, EOS
from seqkd.decoding import beam_search
from seqkd.models import checkpoint, ensemble, perplexity
from seqkd.models.ensemble import Ensemble
from seqkd.models.interface import NetworkShape
from seqkd.models.lstm import LSTMNetwork
from seqkd.ops import matmul


def made(*, vocab: int = 7, members: int = 3, init_range: float = 1.2) -> Ensemble:
    """Return an ensemble in float64 whose members disagree."""
    network = ensemble.make(NetworkShape(vocab, 2, 8, 0.3, members))
    assert isinstance(network, Ensemble)
    network.init_weights(torch.Generator().manual_seed(3), init_range=init_range, embedding_init_range=init_range)
    return network.double()


def plain_mean(network: Ensemble, source: Tensor, target: Tensor) -> Tensor:
    """Return the mean of the members' probabilities (T, B, V), one member after the other."""
    with torch.no_grad():
        parts = [member.logits(member(source, target)).softmax(-1) for member in network.networks]
    return sum(parts[1:], parts[0]) / len(parts)


def test_logits_are_the_logarithms_of_the_members_mean_probability() -> None:
    network, source, target = made(), pad_left(SOURCES), torch.tensor([[BOS] * 5, [4, 5, 6, 4, 5]])
    expected = plain_mean(network, source, target)
    with torch.no_grad():
        found = network.logits(network(source, target))
    torch.testing.assert_close(found.exp(), expected)
    assert network(source, target).shape == (2, 5, network.vector_size) == (2, 5, 24)
    alone = network.networks[0]
    assert not torch.allclose(alone.logits(alone(source, target)).softmax(-1), expected, atol=0.05)


def test_beam_search_of_an_ensemble_finds_the_mode_of_the_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beam_search, "max_length", lambda source_length: 3)
    network = made()
    sentences = [words for length in range(3) for words in itertools.product((1, 4, 5, 6), repeat=length)]
    for source, found in zip(SOURCES, beam_search.decode(network, SOURCES, beam=99, nbest=99), strict=True):
        scored = []
        for words in sentences:
            logprobs = plain_mean(network, pad_left([source]), torch.tensor([[BOS, *words]]).t())[:, 0].log()
            scored.append((sum(float(row[word]) for row, word in zip(logprobs, [*words, EOS], strict=True)), words))
        finished = [hypothesis for hypothesis in found if hypothesis.finished]
        assert [hypothesis.ids for hypothesis in finished] == [words for _, words in sorted(scored, reverse=True)]
        assert [it.logprob for it in finished] == pytest.approx(sorted((it for it, _ in scored), reverse=True))


@pytest.mark.parametrize("beam", [1, 4])
def test_compiled_search_of_an_ensemble_finds_what_the_plain_one_finds(
    beam: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matmul, "_bf16", False)
    network = made(vocab=40, init_range=0.8)
    expected = beam_search.decode(network, MANY, beam=beam, nbest=beam)
    found = beam_search.decode(network.float(), MANY, beam=beam, nbest=beam)
    for one, other in zip(found, expected, strict=True):
        assert [it.ids for it in one] == [it.ids for it in other]
        assert [it.logprob for it in one] == pytest.approx([it.logprob for it in other], abs=1e-4)


def test_search_of_a_sentence_has_the_same_bits_whatever_shares_its_batch() -> None:
    network = made(vocab=40, init_range=0.8).float()
    together = beam_search.decode(network, MANY, beam=4, nbest=4)
    alone = [beam_search.decode(network, [source], beam=4, nbest=4)[0] for source in MANY]
    assert alone == together


def test_perplexity_is_that_of_the_mean_distribution() -> None:
    network = made()
    text = TokenizedCorpus(SOURCES, [[4, 5], [6], [5], [4], [6, 6]])
    total, words = perplexity.total_nll(network, text)
    expected = 0.0
    for source, target in zip(text.sources, text.targets, strict=True):
        probs = plain_mean(network, pad_left([source]), torch.tensor([[BOS, *target]]).t())[:, 0]
        expected -= sum(float(row[word].log()) for row, word in zip(probs, [*target, EOS], strict=True))
    assert total == pytest.approx(expected)
    assert words == 12


def test_folder_holds_all_members_and_gives_them_back(tmp_path: Path) -> None:
    pieces = untrained_model(tmp_path).vocab
    network = made(vocab=pieces.size, members=2).float()
    checkpoint.save(tmp_path / "m", checkpoint.Model(network, pieces, None), card="")
    again = checkpoint.load(tmp_path / "m").network
    assert isinstance(again, Ensemble)
    assert again.shape == network.shape
    assert all(map(torch.equal, again.parameters(), network.parameters()))
    int8 = checkpoint.rounded(checkpoint.Model(network, pieces, None)).network
    assert beam_search.decode(int8, [[4, 5]], beam=2, nbest=2)[0][0].ids


def test_one_member_is_a_plain_network() -> None:
    assert type(ensemble.make(NetworkShape(7, 1, 8, 0.0))) is LSTMNetwork
