"""GEMM by matrix tiles: the kernels with the tiles' plain twin, as machine code, and with tiles where there are any."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from source_tree import ROOT

from seqkd.ops.cpu import amx, gemm_tiles, packing, target, tiles

Array = NDArray[Any]
pytestmark = pytest.mark.skipif(packing.PANEL_COLUMNS != 2 * tiles.WIDTH, reason="tiles read panels of 32 columns")
needs_amx = pytest.mark.skipif(not target.HAS_AMX_BF16, reason="no AMX")
TWIN = [pytest.param(tiles.memory(), id="twin"), pytest.param(None, id="AMX", marks=needs_amx)]
DRAW = np.random.default_rng(1).standard_normal


def panels_of(weight: Array) -> Array:
    """The panels of a weight (out, in), for pairs of bfloat16."""
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


@pytest.mark.parametrize("tiles_used", TWIN)
@pytest.mark.parametrize(
    ("rows", "depth", "columns"),
    [(1, 1, 1), (7, 64, 31), (16, 2, 32), (17, 33, 40), (32, 70, 33), (65, 500, 96), (300, 1000, 33), (0, 4, 4)],
)
def test_multiply_is_the_product_of_the_rounded_numbers(
    rows: int, depth: int, columns: int, tiles_used: Array | None
) -> None:
    x, weight, bias = (
        DRAW((rows, depth)).astype(np.float32),
        DRAW((columns, depth)).astype(np.float32),
        bias_of(columns),
    )
    expected = rounded(x) @ rounded(weight).T + bias[:columns]
    size = np.abs(rounded(x)) @ np.abs(rounded(weight)).T + np.abs(bias[:columns])
    for given in (x, np.asfortranarray(x)):  # as a weight's gradient has it
        surrounding = np.full((rows, columns + 3), 7.0, np.float32)
        gemm_tiles.multiply_call(given, panels_of(weight), bias, surrounding[:, :columns], tiles_used)
        assert (np.abs(surrounding[:, :columns] - expected) <= 1e-6 * size).all()
        assert (surrounding[:, columns:] == 7.0).all()


def test_multiply_by_the_twin_adds_the_even_and_the_odd_products_of_each_step_to_the_bias() -> None:
    x, weight, bias = DRAW((70, 320)).astype(np.float32), DRAW((32, 320)).astype(np.float32), bias_of(32)
    out = np.empty((70, 32), np.float32)
    gemm_tiles.multiply_call(x, panels_of(weight), bias, out, tiles.memory())
    left, right, expected = rounded(x).astype(np.float32), rounded(weight).astype(np.float32), np.tile(bias, (70, 1))
    for step in range(0, 320, 32):
        sums = np.zeros((2, 70, 32), np.float32)
        for k in range(step, step + 32):
            sums[k % 2] += left[:, k, None] * right[None, :, k]
        expected = expected + (sums[0] + sums[1])
    assert (out == expected).all()


@pytest.mark.parametrize("tiles_used", TWIN)
@pytest.mark.parametrize("kind", ["bf16", "int8"])
def test_multiply_gives_a_row_the_same_bits_whatever_the_other_rows(kind: amx.Kind, tiles_used: Array | None) -> None:
    x, columns = np.tanh(DRAW((300, 320))).astype(np.float32), 40
    panels = panels_of(DRAW((columns, 320)).astype(np.float32))
    bias = bias_of(columns) if kind == "bf16" else np.zeros(64, np.int32)
    panels = panels if kind == "bf16" else panels.view(np.uint32)

    def product(part: Array) -> bytes:
        out = np.full((len(part), columns), np.nan, np.float32)
        gemm_tiles.multiply_call(part, panels, bias, out, tiles_used)
        return out.tobytes()

    together, row = product(x), 4 * columns
    for first, last in [(0, 1), (1, 17), (5, 38), (63, 65), (100, 230), (299, 300)]:
        assert product(x[first:last]) == together[first * row : last * row], f"rows {first} to {last}"


@pytest.mark.parametrize("tiles_used", TWIN)
@pytest.mark.parametrize("kind", ["bf16", "int8"])
def test_trial_of_the_tiles_gives_the_exact_product_of_small_integers(kind: amx.Kind, tiles_used: Array | None) -> None:
    assert amx.agrees(kind, tiles_used)


def test_trial_finds_a_wrong_product(monkeypatch: pytest.MonkeyPatch) -> None:
    right = amx._trial("bf16")
    for name in ("x", "bias"):
        wrong = getattr(right, name).copy()
        wrong[3] += 1
        monkeypatch.setattr(amx, "_trial", lambda _, name=name, wrong=wrong: right._replace(**{name: wrong}))
        assert not amx.agrees("bf16", tiles.memory())


def test_twin_raises_where_a_tile_reaches_beyond_its_array_or_does_not_fit() -> None:
    x, panels, bias = np.zeros((4, 16), np.int32), np.zeros((1, 1, 16, 32), np.int32), np.zeros(32, np.float32)
    out = np.zeros((4, 32), np.float32)
    gemm_tiles.gemm_tiles(x, panels, bias, out, tiles.memory())
    for wrong in ((x[:3], panels, bias), (x[:, :8], panels, bias), (x, panels, bias[:16])):
        with pytest.raises(ValueError, match="beyond its array"):
            gemm_tiles.gemm_tiles(*wrong, out, tiles.memory())


def _stop() -> bool:
    os.kill(os.getpid(), signal.SIGILL)
    return True


def _raise() -> bool:
    raise ValueError


@pytest.mark.parametrize(
    ("check", "reason"),
    [
        (lambda: True, ""),
        (lambda: False, "a trial gave a wrong product"),
        (_stop, f"a trial was stopped by signal {signal.SIGILL.value}"),
        (_raise, "a trial failed"),
    ],
)
def test_failure_says_how_a_trial_in_a_child_process_ends(check: Callable[[], bool], reason: str) -> None:
    assert amx.failure(check, before=lambda: None) == reason


@pytest.mark.parametrize(("refusal", "failure"), [("", ""), ("the system refuses them", ""), ("", "a trial failed")])
def test_usable_warns_once_where_tiles_are_refused_or_wrong(
    refusal: str, failure: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("HAS_AMX_BF16", "HAS_AMX_INT8"):
        monkeypatch.setattr(target, name, True)
    monkeypatch.setattr(amx, "refusal", lambda: refusal)
    monkeypatch.setattr(amx, "failure", lambda *_, **__: failure)
    for cached in (amx.usable, amx._warn):
        cached.cache_clear()
    try:
        assert {amx.usable("bf16"), amx.usable("bf16"), amx.usable("int8")} == {not refusal + failure}
    finally:
        for cached in (amx.usable, amx._warn):
            cached.cache_clear()
    told = capsys.readouterr().err.splitlines()
    assert len(told) == bool(refusal + failure)
    assert not told or (refusal + failure in told[0] and "AMX" in told[0])


COMPILE = """
from numba import types
from seqkd.ops.cpu import gemm_tiles
for number, bias in ((types.int32, types.float32), (types.uint32, types.int32)):
    x, panels = types.Array(number, 2, "A"), types.Array(number, 4, "C")
    signature = x, panels, types.Array(bias, 1, "C"), types.Array(types.float32, 2, "C"), types.none
    gemm_tiles.gemm_tiles.compile(signature)
    print(gemm_tiles.gemm_tiles.inspect_asm(signature), "#####")
"""
AMX_FEATURES = "+avx512f,+avx512bw,+avx512dq,+avx512vl,+avx512bf16,+amx-tile,+amx-bf16,+amx-int8"


@pytest.mark.slow
def test_gemm_tiles_is_compiled_to_the_tiles_instructions(tmp_path: Path) -> None:
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "NUMBA_CPU_NAME": "sapphirerapids"}
    environment |= {"NUMBA_CPU_FEATURES": AMX_FEATURES}
    command = [sys.executable, "-c", COMPILE]
    codes = subprocess.check_output(command, cwd=ROOT, env=environment, text=True).split("#####")
    for name, code in zip(("tdpbf16ps", "tdpbusd"), codes, strict=False):
        assert {"ldtilecfg", "tilerelease"} <= set(code.split())
        kernel = re.findall(rf"^\t({name}|tile[a-z]+)\t(.*)$", code, re.MULTILINE)
        assert {operands for instruction, operands in kernel if instruction == name} == {
            "%tmm6, %tmm4, %tmm0",
            "%tmm7, %tmm4, %tmm1",
            "%tmm6, %tmm5, %tmm2",
            "%tmm7, %tmm5, %tmm3",
        }
        loaded = {operands.split("%")[-1] for instruction, operands in kernel if instruction == "tileloadd"}
        stored = {operands.split(",")[0][1:] for instruction, operands in kernel if instruction == "tilestored"}
        assert (loaded, stored) == ({f"tmm{n}" for n in range(8)}, {f"tmm{n}" for n in range(4)})
        _assert_lean(code, name)


def _assert_lean(code: str, name: str) -> None:
    """Assert that blocks of products touch no stack, store no tile and do little beside."""
    blocks = [block.splitlines() for block in re.split(r"^\.?\w+:", code, flags=re.MULTILINE) if f"\t{name}\t" in block]
    assert blocks
    for lines in blocks:
        first, last = (at(n for n, line in enumerate(lines) if f"\t{name}\t" in line) for at in (min, max))
        products = lines[first : last + 1]
        count = sum(f"\t{name}\t" in line for line in products)
        assert not [line for line in products if "tilestored" in line or "%rsp" in line]
        assert len(products) <= 4 * count, "more than three other instructions for each product"


ALL_BY_TWIN = """
import numba
import torch
from networks import MANY, random_network
from seqkd.decoding import beam_search
from seqkd.decoding.beam_search import BatchSizer
from seqkd.models import losses
from seqkd.models.lstm import LSTMNetwork, NetworkShape
from seqkd.ops import matmul
from seqkd.ops.cpu import amx, gemm_tiles, tiles

memory, by_tiles = numba.njit(tiles.memory), gemm_tiles.gemm_tiles

@numba.njit
def by_twin(x, panels, bias, out, none):
    by_tiles(x, panels, bias, out, memory())

gemm_tiles.gemm_tiles = by_twin  # before anything is compiled that calls it
amx.usable = lambda kind: True
torch.set_num_threads(1)

def gradients(network):
    draw = torch.Generator().manual_seed(3)
    source, target = (torch.randint(4, 45, (time, 5), generator=draw) for time in (9, 7))
    source[:3, 1] = 0
    vectors = network(source, target, torch.Generator().manual_seed(2))
    logits = network.logits(vectors.flatten(0, 1))
    losses.nll(logits, torch.randint(4, 45, (35,), generator=draw)).backward()
    return [parameter.grad.double() for parameter in network.parameters()]

network = LSTMNetwork(NetworkShape(45, 2, 33, 0.0))
network.init_weights(torch.Generator().manual_seed(1), embedding_init_range=0.5)
exact = LSTMNetwork(network.shape).double()
exact.load_state_dict(network.state_dict())
matmul.set_backend("auto", "bf16")
print(matmul.describe_backend())
for one, other in zip(gradients(network), gradients(exact), strict=True):
    assert 1e-5 < float((one - other).norm() / other.norm()) < 0.03
network = random_network(vocab_size=40, init_range=5.0).float()
source = torch.randint(4, 40, (9, 41), generator=torch.Generator().manual_seed(1))
with torch.inference_mode(), network.inference() as ready:
    for one, other in zip(ready.encode(source)[:5], network.encode(source)[:5], strict=True):
        assert torch.equal(one, other)
sizes = map(BatchSizer, (1500, 37, 1))
wide, *others = (beam_search.decode(network, MANY, beam=5, nbest=5, batch_sizer=size) for size in sizes)
assert others == [wide, wide]
"""


@pytest.mark.slow
def test_tiles_compute_all_products_of_a_training_and_a_search_in_the_compiled_loops(tmp_path: Path) -> None:
    environment = os.environ | {"NUMBA_OPT": "0", "NUMBA_CACHE_DIR": str(tmp_path)}
    environment["PYTHONPATH"] = f"{ROOT}{os.pathsep}{ROOT / 'tests'}"
    told = subprocess.check_output([sys.executable, "-c", ALL_BY_TWIN], cwd=ROOT, env=environment, text=True)
    assert told == "matrix products by seqkd's own loops and matrix tiles (AMX), bfloat16\n"
