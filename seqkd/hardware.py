"""Where and how this process computes."""

import ctypes
import gc
from contextlib import suppress
from functools import cache

import torch

from seqkd import cuda, products
from seqkd.config import Machine
from seqkd.errors import InputError
from seqkd.products import Precision

MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1  # of mallopt in glibc
LARGE, ALL = 32 << 20, 1 << 30  # bytes


@cache
def _keep_memory() -> None:
    """What is freed stays with the process where the library is glibc; what is loaded, Python looks through no more.

    A step frees its buffers, and the next one takes as many; to get the pages anew was 5 % of a training's time.
    Hypotheses are tuples by the thousand, for which Python's collector of circles went through all modules: 0.1 s.
    """
    gc.freeze()
    with suppress(AttributeError, OSError, TypeError):  # another system's library
        library = ctypes.CDLL(None)
        library.mallopt(MMAP_THRESHOLD, LARGE)
        library.mallopt(TRIM_THRESHOLD, ALL)


def settle(machine: Machine, precision: Precision = "fp32") -> torch.device:
    """The device, with one thread and the fitting matrix products. Raises InputError for a GPU that is not there."""
    products.choose(machine.products, precision)
    _keep_memory()
    torch.set_num_threads(1)
    if machine.device == "cuda" and not torch.cuda.is_available():
        raise InputError("machine.yaml: device is cuda, but torch finds no GPU; write cpu or auto.")
    gpu = machine.device != "cpu" and torch.cuda.is_available()
    return torch.device("cuda" if gpu else "cpu")


def told(device: torch.device) -> str:
    """Where the products that settle chose are taken, in words."""
    if device.type != "cuda":
        return products.chosen()
    steps = "kernels of seqkd's own" if cuda.available() else "torch's operations, for this torch compiles no kernels"
    return f"matrix products on {torch.cuda.get_device_name()}, steps by {steps}"
