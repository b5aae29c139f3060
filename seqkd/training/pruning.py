"""Magnitude pruning, class-blind over all parameters, embeddings included (Kim & Rush 2016, Table 3)."""

import torch
from torch import Tensor

from seqkd.models.lstm import LSTMNetwork


def mask(network: LSTMNetwork, ratio: float) -> Tensor:
    """(parameters,) bool, False at the share ratio of the weights that are smallest by absolute value.

    Exactly round(ratio * parameters) weights go; of equal ones the first.
    """
    flat = torch.cat([parameter.detach().abs().flatten() for parameter in network.parameters()])
    kept = torch.ones(flat.numel(), dtype=torch.bool, device=flat.device)
    kept[flat.argsort(stable=True)[: round(ratio * flat.numel())]] = False
    return kept


def apply(network: LSTMNetwork, kept: Tensor) -> None:
    """Sets the weights outside the mask to zero, in place."""
    at = 0
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(kept[at : at + parameter.numel()].view(parameter.shape))
            at += parameter.numel()
