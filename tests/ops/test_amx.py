"""GEMM by Intel's matrix tiles, where there are any; test_gemm_tiles.py runs this file with emulated ones."""

import ctypes
import mmap
import os
from typing import Any

import numpy as np
import pytest
import torch
from networks import MANY, random_network
from numpy.typing import NDArray

from seqkd.decoding import beam_search
from seqkd.decoding.beam_search import BatchSizer
from seqkd.models import losses
from seqkd.models.lstm import LSTMNetwork, NetworkShape
from seqkd.ops import matmul
from seqkd.ops.cpu import amx, gemm_tiles, packing, target

Array = NDArray[Any]
pytestmark = pytest.mark.skipif(not (target.HAS_AMX_BF16 and target.HAS_AMX_INT8), reason="no AMX")
emulated = pytest.mark.skipif("AMX_EMULATOR" not in os.environ, reason="a processor may add in another order")
DRAW = np.random.default_rng(1).standard_normal


def panels_of(weight: Array) -> Array:
    """Return the panels of a weight (out, in), for pairs of bfloat16."""
    even = np.pad(weight, ((0, 0), (0, weight.shape[1] % 2)))
    lines = np.zeros((-(-len(weight) // packing.PANEL_COLUMNS), even.shape[1] // 2, packing.PANEL_COLUMNS), np.int32)
    packing.pack(even.T, lines)
    return gemm_tiles.in_steps(lines)


def bias_of(columns: int) -> Array:
    padded = np.full(-(-columns // packing.PANEL_COLUMNS) * packing.PANEL_COLUMNS, np.nan, np.float32)
    padded[:columns] = DRAW(columns)
    return padded


def rounded(x: Array) -> Array:
    return torch.from_numpy(np.ascontiguousarray(x)).bfloat16().double().numpy()


@pytest.mark.parametrize(
    ("rows", "depth", "columns"),
    [(1, 1, 1), (7, 64, 31), (16, 2, 32), (17, 33, 40), (32, 70, 33), (65, 500, 96), (300, 1000, 33), (0, 4, 4)],
)
def test_multiply_is_the_product_of_the_rounded_numbers(rows: int, depth: int, columns: int) -> None:
    x, weight = (DRAW((count, depth)).astype(np.float32) for count in (rows, columns))
    bias = bias_of(columns)
    expected = rounded(x) @ rounded(weight).T + bias[:columns]
    size = np.abs(rounded(x)) @ np.abs(rounded(weight)).T + np.abs(bias[:columns])
    for given in (x, np.asfortranarray(x)):  # as a weight's gradient has it
        surrounding = np.full((rows, columns + 3), 7.0, np.float32)
        gemm_tiles.multiply_call(given, panels_of(weight), bias, surrounding[:, :columns])
        assert (np.abs(surrounding[:, :columns] - expected) <= 1e-6 * size).all()
        assert (surrounding[:, columns:] == 7.0).all()


@emulated
def test_multiply_adds_the_even_and_the_odd_products_of_each_step_to_the_bias() -> None:
    x, weight, bias = DRAW((70, 320)).astype(np.float32), DRAW((32, 320)).astype(np.float32), bias_of(32)
    out = np.empty((70, 32), np.float32)
    gemm_tiles.multiply_call(x, panels_of(weight), bias, out)
    left, right, expected = rounded(x).astype(np.float32), rounded(weight).astype(np.float32), np.tile(bias, (70, 1))
    for step in range(0, 320, 32):
        sums = np.zeros((2, 70, 32), np.float32)
        for k in range(step, step + 32):
            sums[k % 2] += left[:, k, None] * right[None, :, k]
        expected = expected + (sums[0] + sums[1])
    assert (out == expected).all()


@pytest.mark.parametrize("kind", ["bf16", "int8"])
def test_multiply_gives_a_row_the_same_bits_whatever_the_other_rows(kind: amx.Kind) -> None:
    x, columns = np.tanh(DRAW((300, 320))).astype(np.float32), 40
    panels = panels_of(DRAW((columns, 320)).astype(np.float32))
    bias = bias_of(columns) if kind == "bf16" else np.zeros(64, np.int32)
    panels = panels if kind == "bf16" else panels.view(np.uint32)

    def product(part: Array) -> bytes:
        out = np.full((len(part), columns), np.nan, np.float32)
        gemm_tiles.multiply_call(part, panels, bias, out)
        return out.tobytes()

    together, row = product(x), 4 * columns
    for first, last in [(0, 1), (1, 17), (5, 38), (63, 65), (100, 230), (299, 300)]:
        assert product(x[first:last]) == together[first * row : last * row], f"rows {first} to {last}"


def before_a_forbidden_page(array: Array) -> Array:
    """Return a copy of an array that ends where memory begins that stops a process which reads or writes it."""
    size = -(-array.nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
    memory = mmap.mmap(-1, size + mmap.PAGESIZE)
    end = ctypes.addressof(ctypes.c_char.from_buffer(memory)) + size
    assert not ctypes.CDLL(None).mprotect(ctypes.c_void_p(end), mmap.PAGESIZE, 0)
    copy: Array = np.frombuffer(memory, array.dtype, array.size, size - array.nbytes).reshape(array.shape)
    copy[...] = array
    return copy


@pytest.mark.parametrize("rows", [1, 16, 31, 32, 70])
@pytest.mark.parametrize("columns", [5, 64])
def test_gemm_tiles_reads_and_writes_nothing_behind_an_array(rows: int, columns: int) -> None:
    width = -(-columns // packing.PANEL_COLUMNS)
    arrays = [np.zeros((rows, 48), np.int32), np.zeros((width, 3, 16, 32), np.int32), np.ones(32 * width, np.float32)]
    out = before_a_forbidden_page(np.zeros((rows, columns), np.float32))
    gemm_tiles.gemm_tiles(*map(before_a_forbidden_page, arrays), out)
    assert (out == 1).all()


@pytest.mark.parametrize("kind", ["bf16", "int8"])
def test_trial_gives_the_exact_product_of_small_integers(kind: amx.Kind) -> None:
    assert amx.agrees(kind)
    assert amx.usable(kind)


def test_trial_finds_a_wrong_product(monkeypatch: pytest.MonkeyPatch) -> None:
    right = amx._trial("bf16")
    for name in ("x", "bias"):
        wrong = getattr(right, name).copy()
        wrong[3] += 1
        monkeypatch.setattr(amx, "_trial", lambda _, name=name, wrong=wrong: right._replace(**{name: wrong}))
        assert not amx.agrees("bf16")


def gradients(network: LSTMNetwork) -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(3)
    source, words = (torch.randint(4, 45, (time, 5), generator=draw) for time in (9, 7))
    source[:3, 1] = 0
    vectors = network(source, words, torch.Generator().manual_seed(2))
    logits = network.logits(vectors.flatten(0, 1))
    losses.nll(logits, torch.randint(4, 45, (35,), generator=draw)).backward()  # type: ignore[no-untyped-call]
    return [parameter.grad.double() for parameter in network.parameters() if parameter.grad is not None]


@pytest.mark.slow
def test_tiles_compute_the_products_of_a_training() -> None:
    network = LSTMNetwork(NetworkShape(45, 2, 33, 0.0))
    network.init_weights(torch.Generator().manual_seed(1), embedding_init_range=0.5)
    exact = LSTMNetwork(network.shape).double()
    exact.load_state_dict(network.state_dict())
    matmul.set_backend("auto", "bf16")
    assert matmul.describe_backend() == "matrix products by seqkd's own loops and matrix tiles (AMX), bfloat16"
    for one, other in zip(gradients(network), gradients(exact), strict=True):
        assert 1e-5 < float((one - other).norm() / other.norm()) < 0.03


@pytest.mark.slow
def test_tiles_compute_the_products_of_a_search() -> None:
    matmul.set_backend("auto", "bf16")
    network = random_network(vocab_size=40, init_range=5.0).float()
    source = torch.randint(4, 40, (9, 41), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode(), network.inference() as ready:
        for one, other in zip(ready.encode(source)[:5], network.encode(source)[:5], strict=True):
            assert torch.equal(one, other)
    sizes = map(BatchSizer, (1500, 37, 1))
    wide, *others = (beam_search.decode(network, MANY, beam=5, nbest=5, batch_sizer=size) for size in sizes)
    assert others == [wide, wide]
