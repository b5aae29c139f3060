"""How much a search takes at once: batches by their pieces, halved where memory runs out, within stated bounds."""

import itertools
import subprocess
import sys
from collections.abc import Sequence

import pytest
import torch
from networks import ALIKE, random_network

from seqkd.decoding import beam_search
from seqkd.decoding.beam_search import BatchSizer
from seqkd.decoding.hypotheses import SearchSettings
from seqkd.utils.errors import InputError


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
