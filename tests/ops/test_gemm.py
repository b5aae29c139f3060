"""Packing, quantization and the micro-kernels, on this processor and on one with shorter vectors; compiled code."""

import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from llvmlite import binding
from source_tree import ROOT

from seqkd.ops.cpu import gemm, packing, target


def test_pack_puts_columns_side_by_side_in_panels_and_leaves_zeros_beyond_them() -> None:
    matrix = np.arange(2 * 40, dtype=np.float32).reshape(2, 40)
    for given in (matrix, np.asfortranarray(matrix)):
        panels = np.zeros((-(-40 // packing.PANEL_COLUMNS), 2, packing.PANEL_COLUMNS), np.float32)
        packing.pack(given, panels)
        columns = panels.transpose(1, 0, 2).reshape(2, -1)
        assert np.array_equal(columns[:, :40], matrix)
        assert not columns[:, 40:].any()


def test_pack_bf16_puts_the_first_number_in_the_lower_half_and_rounds_as_torch_does() -> None:
    special = [0.0, -0.0, 1.0, 1.00390625, 1.01171875, 3.0e38, float("inf"), -float("inf"), float("nan"), 1e-40]
    values = np.array(special + np.random.default_rng(1).standard_normal(90).tolist(), np.float32).reshape(10, 10)
    expected = torch.from_numpy(values).bfloat16().float().numpy()
    across, down = np.empty((10, 5), np.int32), np.empty((5, 10), np.int32)
    packing.pack_bf16(values, across)
    packing.pack_bf16_rows(values, down)
    for pairs, low, high in ((across, expected[:, ::2], expected[:, 1::2]), (down, expected[::2], expected[1::2])):
        np.testing.assert_array_equal((pairs << 16).view(np.float32), low)
        np.testing.assert_array_equal((pairs & ~0xFFFF).view(np.float32), high)
    rounded = np.empty_like(values)
    packing.round_bf16(values, rounded)
    np.testing.assert_array_equal(rounded, expected)


def test_quantize_u8_packs_four_numbers_in_one_lowest_first_with_zero_at_128() -> None:
    out = np.empty((1, 1), np.uint32)
    packing.quantize_u8(np.array([[0.0, 1.0, -1.0, 0.5]], np.float32), out)
    assert out.view(np.uint8).tolist() == [[128, 255, 1, 192]]


@pytest.mark.parametrize("kind", [np.float32, np.int32, np.uint32])
def test_gemm_gives_a_row_the_same_bits_in_every_micro_kernel(kind: type[np.generic]) -> None:
    if (kind is np.int32 and not target.HAS_BF16) or (kind is np.uint32 and not target.HAS_INT8):
        pytest.skip("this processor has no instruction for such numbers")
    generator, columns = np.random.default_rng(1), packing.PANEL_COLUMNS + 5
    raw = [
        generator.standard_normal(size, np.float32)
        for size in ((2, 12, packing.PANEL_COLUMNS), (3 * gemm.BLOCK_ROWS, 12))
    ]
    bias = np.zeros(2 * packing.PANEL_COLUMNS, np.int32 if kind is np.uint32 else np.float32)
    panels, x = (part.view(kind) for part in raw)
    if kind is np.int32:
        panels, x = panels & 0x3FFF3FFF, x & 0x3FFF3FFF  # bfloat16 from 0 to 2
    alone = np.empty((len(x), columns), np.float32)
    for row in range(len(x)):
        gemm.gemm_packed(x[row : row + 1], panels, bias, alone[row : row + 1])
    for count in (*range(1, 30), gemm.BLOCK_ROWS + 1, 3 * gemm.BLOCK_ROWS - 5):
        out = np.empty((count, columns), np.float32)
        gemm.gemm_packed(x[:count], panels, bias, out)
        assert out.tobytes() == alone[:count].tobytes()
    assert kind is np.uint32 or np.isfinite(alone).all()


@pytest.mark.parametrize("transposed", [False, True])
def test_pairs_that_are_expanded_give_the_bits_of_the_processors_instruction(transposed: bool) -> None:
    if not target.HAS_BF16:
        pytest.skip("this processor has no instruction for pairs of bfloat16")
    draw = np.random.default_rng(1).standard_normal
    matrix, bias = draw((50, packing.PANEL_COLUMNS), np.float32), draw(packing.PANEL_COLUMNS, np.float32)
    x = draw((50, 29), np.float32).T if transposed else draw((29, 50), np.float32)
    panels, pairs = np.empty((1, 25, packing.PANEL_COLUMNS), np.int32), np.empty((29, 25), np.int32)
    packing.pack(matrix, panels)
    packing.pack_bf16(x, pairs)
    rounded = np.empty_like(x)
    packing.round_bf16(x, rounded)
    for rows in range(1, 30):
        by_instruction, expanded = np.empty((2, rows, packing.PANEL_COLUMNS), np.float32)
        gemm.gemm_packed(pairs[:rows], panels, bias, by_instruction)
        gemm.gemm_packed(rounded[:rows], panels, bias, expanded)
        assert expanded.tobytes() == by_instruction.tobytes()


WITHOUT_AVX512 = """
from llvmlite import binding
binding.get_host_cpu_features = binding.FeatureMap  # it has no features
import numpy as np
from seqkd.ops.cpu import gemm, packing, target
assert (target.LANES, gemm.MAX_ROWS, target.HAS_BF16, target.HAS_INT8) == (8, 4, False, False)
draw = np.random.default_rng(1).standard_normal
for rows, depth, columns in ((1, 3, 5), (7, 20, 16), (101, 33, 45)):
    x, weight = draw((rows, depth), np.float32), draw((columns, depth), np.float32)
    panels = np.zeros((-(-columns // packing.PANEL_COLUMNS), depth, packing.PANEL_COLUMNS), np.float32)
    bias, out = draw(len(panels) * packing.PANEL_COLUMNS, np.float32), np.empty((rows, columns), np.float32)
    packing.pack(weight.T, panels)
    gemm.gemm_packed(x, panels, bias, out)
    np.testing.assert_allclose(out, x @ weight.T + bias[:columns], rtol=1e-5, atol=1e-5)
    if depth % 2 == 0:
        panels = np.zeros((len(panels), depth // 2, packing.PANEL_COLUMNS), np.int32)
        packing.pack(weight.T, panels)
        gemm.gemm_call(x, panels, bias, np.empty((2, 0), np.float32), out)
        packing.round_bf16(x, x)
        packing.round_bf16(weight, weight)
        np.testing.assert_allclose(out, x @ weight.T + bias[:columns], rtol=1e-5, atol=1e-5)
"""


@pytest.mark.slow
def test_gemm_is_right_on_a_processor_with_vectors_of_half_the_length(tmp_path: Path) -> None:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}  # what is compiled here is for no other process
    subprocess.run([sys.executable, "-c", WITHOUT_AVX512], cwd=ROOT, env=environment, check=True)


TRAIN = """
import hashlib
import torch
from seqkd.models import losses
from seqkd.models.lstm import LSTMNetwork, NetworkShape
from seqkd.ops import matmul
torch.set_num_threads(1)
matmul.set_backend("auto", "bf16")
draw = torch.Generator().manual_seed(3)
network = LSTMNetwork(NetworkShape(160, 1, 16, 0.1))
network.init_weights(torch.Generator().manual_seed(1), embedding_init_range=0.5)
source, target = torch.randint(4, 160, (43, 4), generator=draw), torch.randint(4, 160, (47, 4), generator=draw)
source[:7, 1] = source[:20, 2] = 0
for _ in range(2):
    vectors = network(source, target, torch.Generator().manual_seed(2))
    losses.nll(network.logits(vectors.flatten(0, 1)), torch.randint(4, 160, (188,), generator=draw)).backward()
    with torch.no_grad():
        for weight in network.parameters():
            weight -= 0.1 * weight.grad
print(hashlib.sha256(b"".join(weight.detach().numpy().tobytes() for weight in network.parameters())).hexdigest())
"""
TUNINGS = ["", "sapphirerapids"] if target.LANES == 16 else [""]  # "": this processor's; LLVM orders sums by the tuning


@pytest.mark.slow
@pytest.mark.parametrize("tuning", TUNINGS)
def test_compiled_code_gives_a_training_the_same_bits_when_just_compiled_and_when_cached(
    tuning: str, tmp_path: Path
) -> None:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    if tuning:
        features = binding.get_host_cpu_features().flatten()
        environment |= {"NUMBA_CPU_NAME": tuning, "NUMBA_CPU_FEATURES": features}

    def weights() -> str:
        return subprocess.check_output([sys.executable, "-c", TRAIN], cwd=ROOT, env=environment, text=True)

    assert not any(tmp_path.iterdir())
    compiled = weights()
    assert any(tmp_path.rglob("*.nbc")), "nothing was cached, so the second run compiles too"
    assert weights() == compiled


LAYER = """
import numpy as np
from seqkd.ops.cpu import gemm, lstm_loops, packing, target
panels = np.zeros((1, 1, packing.PANEL_COLUMNS), np.float32)
gates, tanh_cell = np.zeros((1, 1, 4), np.float32), np.zeros((1, 1, 1), np.float32)
states, cells = np.zeros((2, 1, 1), np.float32), np.zeros((2, 1, 1), np.float32)
inputs, mask = np.full((1, 1, 4), 2.0, np.float32), np.ones((1, 1), np.float32)
lstm_loops.layer(inputs, panels, mask, (gates, states, cells, tanh_cell))
print(gates[0, 0, 0])
"""


@pytest.mark.slow
def test_compiled_code_follows_an_edit_of_a_module_that_it_is_built_from(tmp_path: Path) -> None:
    package = tmp_path / "seqkd"
    shutil.copytree(ROOT / "seqkd", package, ignore=shutil.ignore_patterns("__pycache__"))
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    environment["PYTHONPATH"] = str(tmp_path)

    def input_gate() -> float:
        command = [sys.executable, "-c", LAYER]
        return float(subprocess.check_output(command, cwd=tmp_path, env=environment, text=True))

    assert input_gate() == pytest.approx(1 / (1 + math.exp(-2.0)))
    edited = package / "ops" / "cpu" / "lstm_cell.py"
    code = edited.read_text()
    assert "    return ONE / (ONE + exp(-x))\n" in code
    edited.write_text(code.replace("    return ONE / (ONE + exp(-x))\n", "    return HALF\n"))
    assert input_gate() == 0.5
