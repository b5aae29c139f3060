"""The device that this process computes on, and its settings."""

import ctypes
import gc
import platform
from contextlib import suppress
from functools import cache
from typing import Literal

import torch

from seqkd.config.machine import Machine
from seqkd.ops import matmul
from seqkd.ops.cpu import target
from seqkd.ops.cuda import lstm_cell as lstm_cell_cuda
from seqkd.ops.matmul import Precision
from seqkd.utils import torchrun
from seqkd.utils.errors import InputError

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # parameters of glibc's mallopt
MAX_HEAP_BLOCK = 32 << 20  # bytes; larger blocks are returned to the system when freed
MAX_FREE_HEAP = 1 << 30  # bytes


def device_of(machine: Machine) -> torch.device:
    """Return the device that machine.yaml asks for; change no setting.

    Raises InputError if it asks for a GPU and torch finds none.
    """
    if machine.device == "cuda" and not torch.cuda.is_available():
        raise InputError("machine.yaml: device is cuda, but torch finds no GPU; write cpu or auto.")
    on_gpu = machine.device != "cpu" and torch.cuda.is_available()
    return torch.device("cuda" if on_gpu else "cpu")


def choose_precision(machine: Machine, precision: Precision | Literal["auto"]) -> Precision:
    """Return the precision that auto stands for on this machine: bf16 where products are faster in it, else fp32."""
    if precision != "auto":
        return precision
    return "bf16" if device_of(machine).type == "cuda" or matmul.bf16_is_faster() else "fp32"


def configure(machine: Machine, precision: Precision | Literal["auto"] = "fp32") -> torch.device:
    """Set this process up for computing: matrix products, memory and one thread. Return the device.

    Raises InputError if machine.yaml asks for a GPU and torch finds none.
    """
    device = device_of(machine)
    if device.type == "cuda" and torchrun.world()[1] > 1:
        torch.cuda.set_device(torchrun.local_rank())
    matmul.set_backend(machine.matmul_backend, choose_precision(machine, precision))
    _keep_freed_memory()
    _freeze_loaded_modules()
    torch.set_num_threads(1)
    return device


def of_workers(machine: Machine) -> Machine:
    """Return what the processes that compute for this machine are told of it: on this machine, all.

    A cluster's worker is told the device by its name: where this machine finds no GPU, one that a worker has would give
    other bits. Raise InputError as device_of does.
    """
    if machine.workers is None:
        return machine
    device = machine.device if machine.mixed else device_of(machine).type
    return machine.model_copy(update={"cluster": None, "commands": {}, "processes": 1, "device": device})


def device_name(device: torch.device) -> str:
    """Return the name of the GPU, or of the processor, with family and model where several share a name."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    lines = (line.partition(":") for line in target.cpuinfo().splitlines())
    values = {key.strip(): value.strip() for key, _, value in lines}
    name = values.get("model name") or platform.processor() or platform.machine()
    return f"{name} (family {values['cpu family']}, model {values['model']})" if "cpu family" in values else name


def describe(device: torch.device) -> str:
    """Return in words what computes on the device, as `configure` has set it up."""
    if device.type != "cuda":
        return matmul.describe_backend()
    steps = (
        "seqkd's own kernels"
        if lstm_cell_cuda.available()
        else "torch's operations, because this torch compiles no kernels"
    )
    return f"matrix products on {device_name(device)}, steps by {steps}"


@cache
def _freeze_loaded_modules() -> None:
    """Keep all loaded modules out of full garbage collections, which took 0.1 s each and which a search's many tuples
    start often."""
    gc.freeze()


@cache
def _keep_freed_memory() -> None:
    """Make glibc keep freed memory: a time step frees its buffers and the next one allocates as many.

    Getting the pages from the system again was 5 % of a training's time.
    """
    with suppress(AttributeError, OSError, TypeError):  # another system's C library
        library = ctypes.CDLL(None)
        library.mallopt(M_MMAP_THRESHOLD, MAX_HEAP_BLOCK)
        library.mallopt(M_TRIM_THRESHOLD, MAX_FREE_HEAP)
