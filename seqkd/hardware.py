"""Where and how this process computes."""

import torch

from seqkd import products
from seqkd.config import Machine
from seqkd.errors import InputError
from seqkd.products import Precision


def settle(machine: Machine, precision: Precision = "fp32") -> torch.device:
    """The device, with one thread and the fitting matrix products. Raises InputError for a GPU that is not there."""
    products.choose(machine.products, precision)
    torch.set_num_threads(1)
    if machine.device == "cuda" and not torch.cuda.is_available():
        raise InputError("machine.yaml: device is cuda, but torch finds no GPU; write cpu or auto.")
    gpu = machine.device != "cpu" and torch.cuda.is_available()
    return torch.device("cuda" if gpu else "cpu")


def told(device: torch.device) -> str:
    """Where the products that settle chose are taken, in words."""
    return f"matrix products on {torch.cuda.get_device_name()}" if device.type == "cuda" else products.chosen()
