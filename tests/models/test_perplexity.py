"""Perplexity: of a long line step by step, in the memory of a search, and the same number."""

import os
import subprocess
import sys

import pytest
import torch
from source_tree import ROOT

from seqkd.data import batches
from seqkd.data.batches import TokenizedCorpus
from seqkd.models import perplexity
from seqkd.models.lstm import LSTMNetwork, NetworkShape

LINES = [[4 + (7 * row + column) % 36 for column in range(1 + row % 9)] for row in range(20)]
TEXT = TokenizedCorpus(LINES, LINES[::-1])


def network(dtype: torch.dtype = torch.float32) -> LSTMNetwork:
    made = LSTMNetwork(NetworkShape(40, 2, 16, 0.3))
    made.init_weights(torch.Generator().manual_seed(1), init_range=1.0)
    return made.to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_total_nll_step_by_step_is_that_of_batches(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    nats, words = perplexity.total_nll(network(dtype), TEXT)
    for module in (batches, perplexity):
        monkeypatch.setattr(module, "MAX_LINE_PIECES", 4)
    stepwise, same_words = perplexity.total_nll(network(dtype), TEXT)
    assert same_words == words == sum(len(line) + 1 for line in LINES)
    assert stepwise == pytest.approx(nats, rel=1e-6)
    parts = [perplexity.total_nll(network(dtype), TEXT, rank=rank, size=3) for rank in range(3)]
    assert sum(part[0] for part in parts) == pytest.approx(nats, rel=1e-6)
    assert sum(part[1] for part in parts) == words


def test_total_nll_of_short_lines_has_the_same_bits_beside_a_long_one() -> None:
    long = TokenizedCorpus([*TEXT.sources, [4] * 1200], [*TEXT.targets, [5] * 1100])
    alone = TokenizedCorpus(long.sources[-1:], long.targets[-1:])
    parts = [perplexity.total_nll(network(), text)[0] for text in (TEXT, alone, long)]
    assert parts[0] + parts[1] == parts[2]


PEAK = """
import re, sys, torch
from seqkd.data.batches import TokenizedCorpus
from seqkd.models import perplexity
from seqkd.models.lstm import LSTMNetwork, NetworkShape

peak = lambda: 1024 * int(re.search("VmHWM:(.*) kB", open("/proc/self/status").read())[1])
torch.set_num_threads(1)
network = LSTMNetwork(NetworkShape(500, 2, 64, 0.0))
lines = [[4 + at % 400 for at in range(20)]] * 100 + [[4] * int(sys.argv[1])]
perplexity.total_nll(network, TokenizedCorpus(lines, lines))
print(peak())
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells the peak on Linux alone")
def test_total_nll_of_a_line_of_5_000_pieces_takes_hardly_more_memory_than_of_a_short_one() -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    short, long = (
        int(subprocess.check_output([sys.executable, "-c", PEAK, length], env=environment)) for length in ("20", "5000")
    )
    assert long < short + (32 << 20), f"{short >> 20} MB, {long >> 20} MB"
