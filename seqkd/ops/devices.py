"""Where and how this process computes."""

import ctypes
import gc
import platform
from contextlib import suppress
from functools import cache

import torch

from seqkd.config.schema import Machine
from seqkd.ops import matmul
from seqkd.ops.cuda import lstm_cell as lstm_cell_cuda
from seqkd.ops.matmul import Precision
from seqkd.utils.errors import InputError

MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1  # of mallopt in glibc
LARGE, ALL = 32 << 20, 1 << 30  # bytes


@cache
def _spare_searches() -> None:
    """What was loaded, Python looks through no more: hypotheses are tuples by the thousand, for which its collector of
    circles went through all modules, 0.1 s every time."""
    gc.freeze()


@cache
def _keep_memory() -> None:
    """What is freed stays with the process where the library is glibc.

    A step frees its buffers, and the next one takes as many; to get the pages anew was 5 % of a training's time.
    """
    with suppress(AttributeError, OSError, TypeError):  # another system's library
        library = ctypes.CDLL(None)
        library.mallopt(MMAP_THRESHOLD, LARGE)
        library.mallopt(TRIM_THRESHOLD, ALL)


def configure(machine: Machine, precision: Precision = "fp32") -> torch.device:
    """The device, with one thread and the fitting matrix products. Raises InputError for a GPU that is not there."""
    matmul.set_backend(machine.matmul_backend, precision)
    _keep_memory()
    _spare_searches()
    torch.set_num_threads(1)
    return device_of(machine)


def device_of(machine: Machine) -> torch.device:
    """Return the device that machine.yaml chooses. Raises InputError for a GPU that is not there."""
    if machine.device == "cuda" and not torch.cuda.is_available():
        raise InputError("machine.yaml: device is cuda, but torch finds no GPU; write cpu or auto.")
    gpu = machine.device != "cpu" and torch.cuda.is_available()
    return torch.device("cuda" if gpu else "cpu")


def device_name(where: torch.device) -> str:
    """What computes there: the GPU, or the processor by name, and by family and model where several share a name."""
    if where.type == "cuda":
        return torch.cuda.get_device_name(where)
    pairs = (line.partition(":") for line in matmul.cpuinfo().splitlines())
    said = {key.strip(): value.strip() for key, _, value in pairs}
    called = said.get("model name") or platform.processor() or platform.machine()
    return f"{called} (family {said['cpu family']}, model {said['model']})" if "cpu family" in said else called


def describe(where: torch.device) -> str:
    """Where the products that settle chose are taken, in words."""
    if where.type != "cuda":
        return matmul.describe_backend()
    steps = (
        "kernels of seqkd's own"
        if lstm_cell_cuda.available()
        else "torch's operations, for this torch compiles no kernels"
    )
    return f"matrix products on {device_name(where)}, steps by {steps}"
