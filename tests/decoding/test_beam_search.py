"""Search against enumeration of every sequence, greedy against beam 1, a batch of one against a batch of many."""

import itertools
import math
import subprocess
import sys
from typing import Any

import pytest
import torch
from networks import MANY, SOURCES, random_network

from seqkd.data.batches import pad_left
from seqkd.data.vocab import BOS, EOS, PAD
from seqkd.decoding import beam_search
from seqkd.decoding.beam_search import BatchSizer
from seqkd.models import lstm
from seqkd.ops import matmul
from seqkd.ops.cpu import lstm as lstm_cpu
from seqkd.ops.matmul import PackedWeight
from seqkd.utils.errors import InputError


@torch.no_grad()
def log_probability(network: lstm.LSTMNetwork, source: list[int], words: list[int]) -> float:
    """Of a whole sentence, EOS included, by the network as training sees it."""
    decoder_input = torch.tensor([[BOS, *words]]).t()
    logits = network.logits(network(pad_left([source]), decoder_input))[:, 0]
    scores = torch.log_softmax(logits, -1)
    return sum(float(scores[at, word]) for at, word in enumerate([*words, EOS]))


def test_a_huge_beam_finds_the_mode_and_ranks_every_sequence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beam_search, "max_length", lambda source: 4)
    network = random_network()
    words = [word for word in range(7) if word not in (PAD, BOS, EOS)]
    sequences = [list(seq) for length in range(4) for seq in itertools.product(words, repeat=length)]
    for source in SOURCES[:3]:
        scored = sorted(((log_probability(network, source, seq), tuple(seq)) for seq in sequences), reverse=True)
        (found,) = beam_search.decode(network, [source], beam=400, nbest=400)
        whole = [hypothesis for hypothesis in found if hypothesis.finished]
        assert [hypothesis.ids for hypothesis in whole] == [seq for _, seq in scored]
        assert [hypothesis.logprob for hypothesis in whole] == pytest.approx([score for score, _ in scored])


def test_beam_1_is_greedy() -> None:
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
def test_a_batch_of_one_and_a_batch_of_many_agree(beam: int) -> None:
    network = random_network()
    many = beam_search.decode(network, SOURCES, beam=beam, nbest=beam)
    for source, expected in zip(SOURCES, many, strict=True):
        (alone,) = beam_search.decode(network, [source], beam=beam, nbest=beam)
        assert [item.ids for item in alone] == [item.ids for item in expected]
        assert [item.logprob for item in alone] == pytest.approx([item.logprob for item in expected])


@pytest.mark.parametrize("beam", [1, 4, 35])
def test_scores_are_the_networks_own(beam: int) -> None:
    network = random_network()
    for source, hypotheses in zip(SOURCES, beam_search.decode(network, SOURCES, beam=beam, nbest=beam), strict=True):
        assert len({item.ids for item in hypotheses}) == len(hypotheses)
        for item in hypotheses:
            if item.finished:
                assert item.logprob == pytest.approx(log_probability(network, source, list(item.ids)))


def test_an_nbest_list_is_full_and_falls() -> None:
    network = random_network(vocab=40)
    for hypotheses in beam_search.decode(network, [[4, 5], [9, 20, 7]], beam=12, nbest=12):
        assert len(hypotheses) == 12
        scores = [item.logprob for item in hypotheses if item.finished]
        assert scores == sorted(scores, reverse=True)


def test_the_best_of_a_list_is_the_single_answer() -> None:
    network = random_network(vocab=40)
    one = beam_search.decode(network, SOURCES, beam=5)
    full = beam_search.decode(network, SOURCES, beam=5, nbest=5)
    assert [items[0].ids for items in one] == [items[0].ids for items in full]


def test_length_normalisation_divides_by_pieces_with_the_end() -> None:
    network = random_network(vocab=40)
    for hypotheses in beam_search.decode(network, SOURCES, beam=8, nbest=8, length_penalty=1.0):
        whole = [item for item in hypotheses if item.finished]
        means = [item.logprob / (len(item.ids) + 1) for item in whole]
        assert means == sorted(means, reverse=True)


def test_an_empty_source_gets_an_empty_hypothesis_in_its_place() -> None:
    network = random_network()
    answers = beam_search.decode(network, [[4], [], [5]], beam=2)
    assert answers[1][0].ids == ()
    assert math.isclose(answers[1][0].logprob, 0.0)
    assert answers[0][0].ids == beam_search.decode(network, [[4]], beam=2)[0][0].ids


def test_the_compiled_choice_of_continuations_is_the_plain_one() -> None:
    generator = torch.Generator().manual_seed(7)
    for rows, room, size in ((1, [5, 5], 200), (4, [4, 2], 200), (5, [5, 1], 64), (3, [9, 9], 5)):
        vectors, weight = (torch.randn(count, 6, generator=generator) for count in (2 * rows, size))
        logits = vectors @ weight.t()
        scores = -torch.rand(2, rows, generator=generator).sort(1).values * 4
        scores[1, -1] = float("-inf") if rows > 1 else -1.0
        for one, other in zip(
            lstm_cpu.beam_top_k(
                vectors, PackedWeight.pack(weight), scores, torch.tensor(room), size=size, forbidden_ids=(PAD, BOS)
            ),
            beam_search.top_k_continuations(logits, scores, torch.tensor(room), forbidden_ids=(PAD, BOS)),
            strict=True,
        ):
            live = beam_search.top_k_continuations(logits, scores, torch.tensor(room), forbidden_ids=(PAD, BOS))[
                0
            ] > float("-inf")
            torch.testing.assert_close(one[live], other[live], rtol=1e-5, atol=1e-5)
            assert one.shape == other.shape


@pytest.mark.parametrize("beam", [1, 5])
def test_the_compiled_search_finds_what_the_plain_one_finds(beam: int, monkeypatch: pytest.MonkeyPatch) -> None:
    network = random_network(vocab=150).float()
    found = beam_search.decode(network, SOURCES, beam=beam, nbest=beam)
    monkeypatch.setattr(lstm_cpu, "supports", lambda tensor: False)
    for one, other in zip(found, beam_search.decode(network, SOURCES, beam=beam, nbest=beam), strict=True):
        assert [item.ids for item in one] == [item.ids for item in other]
        assert [item.logprob for item in one] == pytest.approx([item.logprob for item in other], rel=1e-4)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_the_encoder_of_a_search_gives_the_bits_of_the_networks(
    layers: int, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matmul, "_bf16", precision == "bf16")
    network = random_network(vocab=40, layers=layers, init_range=5.0).float()
    with torch.inference_mode(), network.inference() as ready:
        for sources in (SOURCES, sorted(MANY, key=len), MANY):
            source = pad_left(sources)
            found, expected = ready.encode(source), network.encode(source)
            for one, other in zip(found[:5], expected[:5], strict=True):
                assert torch.equal(one, other)
            some = torch.tensor([3, 1])
            kept, alone = found.at(some), expected.at(some)
            assert kept.places is not None
            assert torch.equal(kept.states[kept.places], alone.states)


# Batches and memory.

ALIKE = [[4 + (7 * row + at) % 30 for at in range(5)] for row in range(60)]


@pytest.mark.slow
@pytest.mark.parametrize("beam", [1, 5])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_hypotheses_are_the_same_bits_in_every_batch(
    precision: str, beam: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = random_network(vocab=40, init_range=5.0).float()
    network.int8 = precision == "int8"
    monkeypatch.setattr(matmul, "_bf16", precision == "bf16")
    wide, *others = (
        beam_search.decode(network, MANY, beam=beam, nbest=beam, budget=BatchSizer(rows)) for rows in (1500, 37, 1)
    )
    assert others == [wide, wide]
    for rows in (1500, 37, 1):
        assert beam_search.decode(network, MANY, beam=beam, budget=BatchSizer(rows)) == [items[:1] for items in wide]
    assert beam_search.decode(network, MANY[::2], beam=beam, nbest=beam) == wide[::2]


def test_a_batch_keeps_to_the_budget_and_a_long_sentence_comes_alone() -> None:
    budget = BatchSizer(100)
    assert budget.sentences([3] * 500, 5) == 20
    assert budget.sentences([3] * 7, 5) == 7
    assert budget.sentences([3] * 500, 101) == 1
    assert budget.sentences([3, 4, *[100] * 20], 1) == 10
    assert budget.sentences([3, 4, 5, 2000], 1) == 3
    assert budget.sentences([2000], 5) == 1


def test_a_large_batch_is_hardly_padded() -> None:
    budget, lengths = BatchSizer(3000), [10] * 1000 + [11] * 200 + [30] * 900
    assert budget.sentences(lengths, 1) == 1200
    assert budget.sentences(lengths[900:], 1) == 800


def searched(monkeypatch: pytest.MonkeyPatch, most: int, error: Exception) -> list[int]:
    """Sizes of the batches tried, in a search in which a batch of more than so many sentences ends in error."""
    sizes = []

    class Short(beam_search._Beam):
        def __init__(self, network: lstm.LSTMNetwork, sources: list[list[int]], **settings: Any) -> None:
            sizes.append(len(sources))
            if len(sources) > most:
                raise error
            super().__init__(network, sources, **settings)

    monkeypatch.setattr(beam_search, "_Beam", Short)
    return sizes


SAID = {
    "python": MemoryError(),
    "torch": RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried"),
    "torch elsewhere": RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
    "cuda": torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
}


@pytest.mark.parametrize("error", SAID.values(), ids=SAID)
def test_where_memory_runs_out_the_budget_is_halved_and_this_is_said_once(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    network = random_network(vocab=40, init_range=5.0)
    expected = beam_search.decode(network, ALIKE, beam=5)
    sizes, budget = searched(monkeypatch, 9, error), BatchSizer(200)
    found = beam_search.decode(network, ALIKE, beam=5, budget=budget)
    assert [items[0].ids for items in found] == [items[0].ids for items in expected]
    assert sizes == [40, 20, 10, 5, *[5] * 11]
    assert budget.rows == 25
    told = capsys.readouterr().err
    assert told == "Not enough memory for 40 sentences with a beam of 5: going on with fewer at once.\n"


def test_where_memory_does_not_suffice_for_one_sentence_it_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    searched(monkeypatch, 0, MemoryError())
    with pytest.raises(
        InputError, match=r"^not enough memory to translate one sentence of 1 pieces with a beam of 5; "
    ):
        beam_search.decode(random_network(), [[4]] * 40, beam=5)


def test_another_error_is_not_taken_for_a_lack_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    searched(monkeypatch, 0, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        beam_search.decode(random_network(), [[4]], beam=5)


LIMITED = """
import resource, sys, torch
from seqkd import model, search
torch.set_num_threads(1)
network = model.Network(model.Shape(1000, 1, 512, 0.0))
network.init_weights(torch.Generator().manual_seed(3), spread=0.5)
network.freeze()
search.longest = lambda source: 6
sources = [[4 + (at * row) % 900 for at in range(8)] for row in range(300)]
expected = search.decode(network, sources, beam=20, budget=search.Budget(500))
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (45 << 20), resource.RLIM_INFINITY))
budget = search.Budget(300 * 20)
found = search.decode(network, sources, beam=20, budget=budget)
assert [items[0].ids for items in found] == [items[0].ids for items in expected]
print(budget.rows)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_a_real_limit_of_memory_is_lived_with() -> None:
    """The states before and after a step of 6000 rows are 74 MB, and 45 MB are left."""
    done = subprocess.run([sys.executable, "-c", LIMITED], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) in (3000, 1500, 750)
    assert done.stderr.count("Not enough memory") == 1


PEAK = """
import re, sys, torch
from seqkd import config, hardware, model, search
beam, pieces, sentences, steps = map(int, sys.argv[1:5])
precision = sys.argv[5]
hardware.settle(config.Machine(device="cpu"), precision)
network = model.Network(model.Shape(8000, 2, 500, 0.3))
network.init_weights(torch.Generator().manual_seed(3))
if steps:
    search.longest = lambda source: steps
drawn = torch.randint(4, 8000, (sentences, pieces), generator=torch.Generator().manual_seed(1)).tolist()
found = search.decode(network, drawn, beam=beam, nbest=beam)
assert all(len(items) == beam for items in found)
print(int(re.search("VmHWM:(.*) kB", open("/proc/self/status").read())[1]) >> 10)  # not its parent's
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("beam", "pieces", "sentences", "precision"),
    [(35, 60, 42, "fp32"), (35, 60, 42, "bf16"), (35, 2000, 2, "fp32"), (1, 60, 400, "fp32")],
)
def test_the_papers_network_stays_below_1500_megabytes_a_worker(
    beam: int, pieces: int, sentences: int, precision: str
) -> None:
    command = [sys.executable, "-c", PEAK, str(beam), str(pieces), str(sentences), "3", precision]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 1500


def test_an_int8_search_gives_nearly_the_scores_of_its_network_and_leaves_nothing_behind() -> None:
    network = random_network(vocab=150, init_range=4.0).float()
    network.int8 = True
    with torch.inference_mode():
        before = network.logits(torch.full((3, 8), 0.5))
    for source, hypotheses in zip(SOURCES, beam_search.decode(network, SOURCES, beam=5, nbest=5), strict=True):
        (alone,) = beam_search.decode(network, [source], beam=5, nbest=5)
        assert [item.ids for item in alone] == [item.ids for item in hypotheses]
        for item in hypotheses:
            if item.finished:
                length = len(item.ids) + 1
                own = log_probability(network, source, list(item.ids))
                assert item.logprob == pytest.approx(own, abs=0.05 * length)
    with torch.inference_mode():
        assert torch.equal(network.logits(torch.full((3, 8), 0.5)), before)


@pytest.mark.parametrize("beam", [1, 5, 35])
def test_a_board_shrinks_until_a_single_sentence_is_too_much(beam: int) -> None:
    budget = BatchSizer(1500)
    sizes = [budget.places(beam, 20)]
    while sizes[-1] > 1:
        budget.halve(sizes[-1], pieces=20, beam=beam)
        sizes.append(budget.places(beam, 20))
    with pytest.raises(InputError, match="not enough memory to translate one sentence"):
        budget.halve(1, pieces=20, beam=beam)
    assert sizes[0] == {1: 1024, 5: 1024, 35: 256}[beam]
    assert all(later <= before // 2 for before, later in itertools.pairwise(sizes))
    assert BatchSizer(1500).places(beam, 20_000) == 4
