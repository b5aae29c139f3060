"""Search against enumeration of every sequence, greedy against beam 1, a batch of one against a batch of many."""

import itertools
import math

import pytest
import torch
from networks import MANY, SOURCES, random_network

from seqkd.data.batches import pad_left
from seqkd.data.vocab import BOS, EOS, PAD
from seqkd.decoding import beam_search, hypotheses
from seqkd.decoding.beam_search import BatchSizer
from seqkd.models.interface import Network
from seqkd.ops import matmul
from seqkd.ops.cpu import lstm as lstm_cpu
from seqkd.ops.matmul import PackedWeight


@torch.no_grad()
def log_probability(network: Network, source: list[int], words: list[int]) -> float:
    """Return that of a whole sentence, EOS included, by the network's forward pass of training."""
    decoder_input = torch.tensor([[BOS, *words]]).t()
    logits = network.logits(network(pad_left([source]), decoder_input))[:, 0]
    scores = torch.log_softmax(logits, -1)
    return sum(float(scores[position, word]) for position, word in enumerate([*words, EOS]))


def test_beam_search_with_a_huge_beam_finds_the_mode_and_ranks_every_sequence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beam_search, "max_length", lambda source_length: 4)
    network = random_network()
    words = [word for word in range(7) if word not in (PAD, BOS, EOS)]
    sequences = [list(seq) for length in range(4) for seq in itertools.product(words, repeat=length)]
    for source in SOURCES[:3]:
        scored = sorted(((log_probability(network, source, seq), tuple(seq)) for seq in sequences), reverse=True)
        (nbest_list,) = beam_search.decode(network, [source], beam=400, nbest=400)
        finished = [hypothesis for hypothesis in nbest_list if hypothesis.finished]
        assert [hypothesis.ids for hypothesis in finished] == [seq for _, seq in scored]
        assert [hypothesis.logprob for hypothesis in finished] == pytest.approx([score for score, _ in scored])


def test_beam_search_with_beam_1_is_greedy() -> None:
    network = random_network()
    for source, (best,) in zip(SOURCES, beam_search.decode(network, SOURCES, beam=1), strict=True):
        words: list[int] = []
        while len(words) < beam_search.max_length(len(source)):
            decoder_input = torch.tensor([[BOS, *words]]).t()
            with torch.no_grad():
                logits = network.logits(network(pad_left([source]), decoder_input))[-1, 0]
            logits[[PAD, BOS]] = float("-inf")
            if int(logits.argmax()) == EOS:
                break
            words.append(int(logits.argmax()))
        assert list(best.ids) == words


@pytest.mark.parametrize("beam", [1, 3, 5])
def test_beam_search_of_a_batch_of_one_and_of_many_agree(beam: int) -> None:
    network = random_network()
    many = beam_search.decode(network, SOURCES, beam=beam, nbest=beam)
    for source, expected in zip(SOURCES, many, strict=True):
        (alone,) = beam_search.decode(network, [source], beam=beam, nbest=beam)
        assert [item.ids for item in alone] == [item.ids for item in expected]
        assert [item.logprob for item in alone] == pytest.approx([item.logprob for item in expected])


@pytest.mark.parametrize("beam", [1, 4, 35])
def test_beam_search_scores_are_the_networks_own(beam: int) -> None:
    network = random_network()
    for source, found in zip(SOURCES, beam_search.decode(network, SOURCES, beam=beam, nbest=beam), strict=True):
        assert len({item.ids for item in found}) == len(found)
        for item in found:
            if item.finished:
                assert item.logprob == pytest.approx(log_probability(network, source, list(item.ids)))


def test_beam_search_nbest_list_is_full_and_its_scores_fall() -> None:
    network = random_network(vocab_size=40)
    for found in beam_search.decode(network, [[4, 5], [9, 20, 7]], beam=12, nbest=12):
        assert len(found) == 12
        scores = [item.logprob for item in found if item.finished]
        assert scores == sorted(scores, reverse=True)


def test_beam_search_first_of_an_nbest_list_is_the_best_hypothesis() -> None:
    network = random_network(vocab_size=40)
    one = beam_search.decode(network, SOURCES, beam=5)
    full = beam_search.decode(network, SOURCES, beam=5, nbest=5)
    assert [items[0].ids for items in one] == [items[0].ids for items in full]


def test_length_penalty_divides_by_the_pieces_with_the_end() -> None:
    network = random_network(vocab_size=40)
    for found in beam_search.decode(network, SOURCES, beam=8, nbest=8, length_penalty=1.0):
        means = [item.logprob / (len(item.ids) + 1) for item in found if item.finished]
        assert means == sorted(means, reverse=True)


def test_beam_search_gives_an_empty_source_an_empty_hypothesis() -> None:
    network = random_network()
    answers = beam_search.decode(network, [[4], [], [5]], beam=2)
    assert answers[1][0].ids == ()
    assert math.isclose(answers[1][0].logprob, 0.0)
    assert answers[0][0].ids == beam_search.decode(network, [[4]], beam=2)[0][0].ids


def test_compiled_top_k_is_the_plain_one() -> None:
    generator = torch.Generator().manual_seed(7)
    for rows, slots, size in ((1, [5, 5], 200), (4, [4, 2], 200), (5, [5, 1], 64), (3, [9, 9], 5)):
        vectors, weight = (torch.randn(count, 6, generator=generator) for count in (2 * rows, size))
        logits = vectors @ weight.t()
        scores = -torch.rand(2, rows, generator=generator).sort(1).values * 4
        scores[1, -1] = float("-inf") if rows > 1 else -1.0
        open_slots, packed = torch.tensor(slots), PackedWeight.pack(weight)
        compiled = lstm_cpu.beam_top_k(vectors, packed, scores, open_slots, size=size, forbidden_ids=(PAD, BOS))
        width = min(max(slots), rows * (size - 2))
        plain = hypotheses.top_k_continuations(logits, scores, open_slots, width=width, forbidden_ids=(PAD, BOS))
        live = plain[0] > float("-inf")
        for one, other in zip(compiled, plain, strict=True):
            torch.testing.assert_close(one[live], other[live], rtol=1e-5, atol=1e-5)
            assert one.shape == other.shape


@pytest.mark.parametrize("beam", [1, 5])
def test_beam_search_compiled_finds_what_the_plain_one_finds(beam: int, monkeypatch: pytest.MonkeyPatch) -> None:
    network = random_network(vocab_size=150).float()
    found = beam_search.decode(network, SOURCES, beam=beam, nbest=beam)
    monkeypatch.setattr(lstm_cpu, "supports", lambda tensor: False)
    for one, other in zip(found, beam_search.decode(network, SOURCES, beam=beam, nbest=beam), strict=True):
        assert [item.ids for item in one] == [item.ids for item in other]
        assert [item.logprob for item in one] == pytest.approx([item.logprob for item in other], rel=1e-4)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_compiled_encoder_gives_the_bits_of_the_networks(
    layers: int, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matmul, "_bf16", precision == "bf16")
    network = random_network(vocab_size=40, layers=layers, init_range=5.0).float()
    with torch.inference_mode(), network.inference() as ready:
        for sources in (SOURCES, sorted(MANY, key=len), MANY):
            source = pad_left(sources)
            found, expected = ready.encode(source), network.encode(source)
            for one, other in zip(found[:5], expected[:5], strict=True):
                assert torch.equal(one, other)
            some = torch.tensor([3, 1])
            lazy, moved = found.select(some), expected.select(some)
            assert lazy.states is found.states
            assert lazy.batch_indices is not None
            for field in ("states", "keys", "mask_bias"):
                assert torch.equal(getattr(lazy, field)[lazy.batch_indices], getattr(moved, field))
            for one, other in zip(ready.init_state(lazy), ready.init_state(moved), strict=True):
                assert torch.equal(one, other)


@pytest.mark.slow
@pytest.mark.parametrize("beam", [1, 5])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_beam_search_gives_the_same_bits_in_every_batch(
    precision: str, beam: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = random_network(vocab_size=40, init_range=5.0).float()
    network.int8 = precision == "int8"
    monkeypatch.setattr(matmul, "_bf16", precision == "bf16")
    wide, *others = (
        beam_search.decode(network, MANY, beam=beam, nbest=beam, batch_sizer=BatchSizer(rows)) for rows in (1500, 37, 1)
    )
    assert others == [wide, wide]
    for rows in (1500, 37, 1):
        assert beam_search.decode(network, MANY, beam=beam, batch_sizer=BatchSizer(rows)) == [
            items[:1] for items in wide
        ]
    assert beam_search.decode(network, MANY[::2], beam=beam, nbest=beam) == wide[::2]


def test_beam_search_in_int8_gives_nearly_the_networks_scores_and_leaves_the_network_as_it_was() -> None:
    network = random_network(vocab_size=150, init_range=4.0).float()
    network.int8 = True
    with torch.inference_mode():
        before = network.logits(torch.full((3, 8), 0.5))
    for source, found in zip(SOURCES, beam_search.decode(network, SOURCES, beam=5, nbest=5), strict=True):
        (alone,) = beam_search.decode(network, [source], beam=5, nbest=5)
        assert [item.ids for item in alone] == [item.ids for item in found]
        for item in found:
            if item.finished:
                length = len(item.ids) + 1
                own = log_probability(network, source, list(item.ids))
                assert item.logprob == pytest.approx(own, abs=0.05 * length)
    with torch.inference_mode():
        assert torch.equal(network.logits(torch.full((3, 8), 0.5)), before)
