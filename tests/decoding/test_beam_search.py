"""Search against enumeration of every sequence, greedy against beam 1, a batch of one against a batch of many."""

import itertools
import math
import subprocess
import sys
from collections.abc import Sequence

import pytest
import torch
from networks import MANY, SOURCES, random_network

from seqkd.data.batches import pad_left
from seqkd.data.vocab import BOS, EOS, PAD
from seqkd.decoding import beam_search, hypotheses
from seqkd.decoding.beam_search import BatchSizer
from seqkd.decoding.hypotheses import SearchSettings
from seqkd.models.interface import Network
from seqkd.ops import matmul
from seqkd.ops.cpu import lstm as lstm_cpu
from seqkd.ops.matmul import PackedWeight
from seqkd.utils.errors import InputError


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


ALIKE = [[4 + (7 * row + column) % 30 for column in range(5)] for row in range(60)]


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


def test_batch_sizer_keeps_to_its_rows_and_a_long_sentence_comes_alone() -> None:
    sizer = BatchSizer(100)
    assert sizer.batch_size([3] * 500, 5) == 20
    assert sizer.batch_size([3] * 7, 5) == 7
    assert sizer.batch_size([3] * 500, 101) == 1
    assert sizer.batch_size([3, 4, *[100] * 20], 1) == 10
    assert sizer.batch_size([3, 4, 5, 2000], 1) == 3
    assert sizer.batch_size([2000], 5) == 1


def test_batch_sizer_hardly_pads_a_large_batch() -> None:
    sizer, lengths = BatchSizer(3000), [10] * 1000 + [11] * 200 + [30] * 900
    assert sizer.batch_size(lengths, 1) == 1200
    assert sizer.batch_size(lengths[900:], 1) == 800


def limit_sentences(monkeypatch: pytest.MonkeyPatch, most: int, error: Exception) -> list[int]:
    """Let a batch of more than so many sentences end in error; returns the list that the sizes tried are added to."""
    sizes = []

    class Short(beam_search._Beam):
        def __init__(self, search: SearchSettings, sources: Sequence[Sequence[int]]) -> None:
            sizes.append(len(sources))
            if len(sources) > most:
                raise error
            super().__init__(search, sources)

    monkeypatch.setattr(beam_search, "_Beam", Short)
    return sizes


def test_beam_search_translates_no_more_than_the_bound_of_a_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beam_search, "MAX_LINE_PIECES", 3)
    network = random_network(vocab_size=40, init_range=5.0)
    sources = [[4, 5, 6, 7, 8], [4, 5, 6], [9, 8]]
    found = beam_search.decode(network, sources, beam=4)
    assert found == beam_search.decode(network, [source[:3] for source in sources], beam=4)
    assert found[0][0].ids == found[1][0].ids


OUT_OF_MEMORY = {
    "python": MemoryError(),
    "torch": RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried"),
    "torch elsewhere": RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
    "cuda": torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
}


@pytest.mark.parametrize("error", OUT_OF_MEMORY.values(), ids=OUT_OF_MEMORY)
def test_beam_search_halves_its_batches_when_memory_runs_out_and_says_so_once(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    network = random_network(vocab_size=40, init_range=5.0)
    expected = beam_search.decode(network, ALIKE, beam=5)
    sizes, sizer = limit_sentences(monkeypatch, 9, error), BatchSizer(200)
    found = beam_search.decode(network, ALIKE, beam=5, batch_sizer=sizer)
    assert [items[0].ids for items in found] == [items[0].ids for items in expected]
    assert sizes == [40, 20, 10, 5, *[5] * 11]
    assert sizer.max_rows == 25
    message = "Not enough memory for 40 sentences with a beam of 5: continuing with fewer.\n"
    assert capsys.readouterr().err == message


def test_beam_search_without_memory_for_one_sentence_says_so_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    limit_sentences(monkeypatch, 0, MemoryError())
    with pytest.raises(
        InputError, match=r"^not enough memory to translate one sentence of 1 pieces with a beam of 5; "
    ):
        beam_search.decode(random_network(), [[4]] * 40, beam=5)


def test_beam_search_does_not_take_another_error_for_a_lack_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    limit_sentences(monkeypatch, 0, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        beam_search.decode(random_network(), [[4]], beam=5)


LIMITED = """
import resource, sys, torch
from seqkd.decoding import beam_search
from seqkd.models.lstm import LSTMNetwork, NetworkShape
torch.set_num_threads(1)
network = LSTMNetwork(NetworkShape(1000, 1, 512, 0.0))
network.init_weights(torch.Generator().manual_seed(3), init_range=0.5)
network.freeze()
beam_search.max_length = lambda source_length: 6
sources = [[4 + (column * row) % 900 for column in range(8)] for row in range(300)]
expected = beam_search.decode(network, sources, beam=20, batch_sizer=beam_search.BatchSizer(500))
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (45 << 20), resource.RLIM_INFINITY))
sizer = beam_search.BatchSizer(300 * 20)
found = beam_search.decode(network, sources, beam=20, batch_sizer=sizer)
assert [items[0].ids for items in found] == [items[0].ids for items in expected]
print(sizer.max_rows)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_beam_search_survives_a_real_memory_limit() -> None:
    """The states before and after a step of 6000 rows are 74 MB, and 45 MB are left."""
    done = subprocess.run([sys.executable, "-c", LIMITED], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) in (3000, 1500, 750)
    assert done.stderr.count("Not enough memory") == 1


PEAK = """
import re, sys, torch
from seqkd.config.machine import Machine
from seqkd.decoding import beam_search
from seqkd.models.lstm import LSTMNetwork, NetworkShape
from seqkd.ops import devices
beam, pieces, sentences, steps = map(int, sys.argv[1:5])
precision = sys.argv[5]
devices.configure(Machine(device="cpu"), precision)
network = LSTMNetwork(NetworkShape(8000, 2, 500, 0.3))
network.init_weights(torch.Generator().manual_seed(3))
if steps:
    beam_search.max_length = lambda source_length: steps
drawn = torch.randint(4, 8000, (sentences, pieces), generator=torch.Generator().manual_seed(1)).tolist()
found = beam_search.decode(network, drawn, beam=beam, nbest=beam)
assert all(len(items) == beam for items in found)
print(int(re.search("VmHWM:(.*) kB", open("/proc/self/status").read())[1]) >> 10)  # not its parent's
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("beam", "pieces", "sentences", "precision"),
    [(35, 60, 42, "fp32"), (35, 60, 42, "bf16"), (35, 2000, 2, "fp32"), (1, 60, 400, "fp32")],
)
def test_beam_search_of_the_papers_network_stays_below_1500_megabytes_a_process(
    beam: int, pieces: int, sentences: int, precision: str
) -> None:
    command = [sys.executable, "-c", PEAK, str(beam), str(pieces), str(sentences), "3", precision]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 1500


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


@pytest.mark.parametrize("beam", [1, 5, 35])
def test_batch_sizer_halves_a_gpu_batch_down_to_one_sentence(beam: int) -> None:
    sizer = BatchSizer(1500)
    sizes = [sizer.gpu_batch_size(beam, 20)]
    while sizes[-1] > 1:
        sizer.halve(sizes[-1], pieces=20, beam=beam)
        sizes.append(sizer.gpu_batch_size(beam, 20))
    with pytest.raises(InputError, match="not enough memory to translate one sentence"):
        sizer.halve(1, pieces=20, beam=beam)
    assert sizes[0] == {1: 1024, 5: 1024, 35: 256}[beam]
    assert all(later <= before // 2 for before, later in itertools.pairwise(sizes))
    assert BatchSizer(1500).gpu_batch_size(beam, 20_000) == 4
