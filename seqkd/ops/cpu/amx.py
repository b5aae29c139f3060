"""Whether products may use the matrix tiles of Intel's AMX here: flags, the system's permission, and a trial."""

import ctypes
import faulthandler
import os
import resource
import sys
from collections.abc import Callable
from functools import cache, partial
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seqkd.ops.cpu import gemm_tiles, packing, target

Kind = Literal["bf16", "int8"]
ARCH_PRCTL, ARCH_REQ_XCOMP_PERM, XTILEDATA = 158, 0x1023, 18  # of Linux on x86-64
ROWS, DEPTH, COLUMNS = 130, 600, 45  # of the trial: groups that overlap, a split depth, a last step and panel not full


@cache
def usable(kind: Kind) -> bool:
    """Return whether tiles compute products of such numbers in this process and in those that it forks.

    The first call asks the system for the tiles, and tries them in a child process on a small product: where they are
    refused or wrong, that costs speed and no result. One line on stderr then says why.
    """
    if not (target.HAS_AMX_BF16 if kind == "bf16" else target.HAS_AMX_INT8):
        return False
    reason = refusal() or failure(partial(agrees, kind), before=partial(agrees, kind, rows=()))
    if reason:
        _warn(reason)
    return not reason


@cache
def _warn(reason: str) -> None:
    print(f"The processor's matrix tiles (AMX) are not used: {reason}. Slower loops are.", file=sys.stderr, flush=True)


@cache
def refusal() -> str:
    """Ask Linux for the tiles, for this process and those that it forks; return why it refuses them, or ""."""
    if not sys.platform.startswith("linux"):
        return "only Linux is known to hand them out"
    library = ctypes.CDLL(None, use_errno=True)
    if library.syscall(ARCH_PRCTL, ARCH_REQ_XCOMP_PERM, XTILEDATA):
        return f"the system refuses them ({os.strerror(ctypes.get_errno())})"
    return ""


def failure(check: Callable[[], bool], *, before: Callable[[], object]) -> str:
    """Return how a check fails in a child process, or "". before: what this process does first, such as compiling."""
    before()
    child = os.fork()
    if not child:
        status = 2
        try:
            faulthandler.disable()
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            status = 0 if check() else 1
        finally:
            os._exit(status)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code < 0:
        return f"a trial was stopped by signal {-code}"
    return {0: "", 1: "a trial gave a wrong product"}.get(code, "a trial failed")


class _Trial(NamedTuple):
    x: NDArray[np.float32]
    panels: NDArray[Any]
    bias: NDArray[Any]
    expected: NDArray[Any]


def agrees(kind: Kind, *, rows: tuple[int, ...] = (5, 37, ROWS)) -> bool:
    """Return whether tiles give the exact product of small integers, for the first so many rows; (): only compile."""
    trial = _trial(kind)
    for count in (0, *rows):
        out = np.full((count, COLUMNS), np.nan, np.float32)
        gemm_tiles.multiply_call(trial.x[:count], trial.panels, trial.bias, out)
        if out.view(trial.expected.dtype).tobytes() != trial.expected[:count].tobytes():
            return False
    return True


def _trial(kind: Kind) -> _Trial:
    """Return a product of small integers, whose every sum is exact in float32: it has one right result."""
    draw = np.random.default_rng(1).integers
    x, weight, bias = draw(-8, 9, (ROWS, DEPTH)), draw(-8, 9, (COLUMNS, DEPTH)), draw(-8, 9, COLUMNS)
    width = packing.PANEL_COLUMNS
    columns = np.zeros((-(-COLUMNS // width) * width, DEPTH), np.int8)
    columns[:COLUMNS] = weight
    padded_bias = np.zeros(len(columns), np.int64)
    padded_bias[:COLUMNS] = bias
    expected = x.astype(np.float64) @ weight.T + bias
    if kind == "int8":
        lines = columns.view(np.uint32).reshape(-1, width, DEPTH // 4).transpose(0, 2, 1)
        padded_bias -= (packing.INT8_MAX + 1) * columns.sum(1, dtype=np.int64)
        given, number = (x / packing.INT8_MAX).astype(np.float32), "int32"
    else:
        lines = np.empty((len(columns) // width, DEPTH // 2, width), np.int32)
        packing.pack(columns.T.astype(np.float32), lines)
        given, number = x.astype(np.float32), "float32"
    return _Trial(given, gemm_tiles.in_steps(lines), padded_bias.astype(number), expected.astype(number))
