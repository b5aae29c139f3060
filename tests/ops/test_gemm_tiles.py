"""GEMM by matrix tiles: as machine code, with emulated tiles, and what decides whether tiles are used."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from source_tree import ROOT

from seqkd.ops.cpu import amx, packing, target, tiles

pytestmark = pytest.mark.skipif(packing.PANEL_COLUMNS != 2 * tiles.WIDTH, reason="tiles read panels of 32 columns")


@pytest.mark.slow
@pytest.mark.skipif(target.HAS_AMX_BF16, reason="real tiles run test_amx.py")
@pytest.mark.skipif(not (sys.platform == "linux" and shutil.which("cc")), reason="needs Linux and a C compiler")
def test_tests_of_the_tiles_pass_with_emulated_ones(tmp_path: Path) -> None:
    library = tmp_path / "amx_emulator.so"
    flags = ["-O2", "-fno-strict-aliasing", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror"]
    subprocess.run(["cc", *flags, "-o", library, ROOT / "tests" / "ops" / "amx_emulator.c"], check=True)
    environment = os.environ | {"AMX_EMULATOR": str(library), "NUMBA_CACHE_DIR": str(tmp_path)}
    environment["PYTHONPATH"] = f"{ROOT}{os.pathsep}{ROOT / 'tests'}"
    command = [sys.executable, "-m", "pytest", "-p", "amx_emulation", "-p", "no:faulthandler", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "tests/ops/test_amx.py"], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    assert "skipped" not in done.stdout


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
    signature = x, panels, types.Array(bias, 1, "C"), types.Array(types.float32, 2, "C")
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
