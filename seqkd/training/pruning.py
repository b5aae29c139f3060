"""Magnitude pruning, class-blind over all parameters, embeddings included (Kim & Rush 2016, Table 3)."""

import torch
from torch import Tensor

from seqkd.models.interface import Network


def mask(network: Network, ratio: float) -> Tensor:
    """Return a mask, (parameters,) bool, that is False at the weights that are smallest by absolute value.

    Exactly round(ratio * parameters) of it are False; among equal weights the first ones.
    """
    magnitudes = torch.cat([parameter.detach().abs().flatten() for parameter in network.parameters()])
    remaining = torch.ones(magnitudes.numel(), dtype=torch.bool, device=magnitudes.device)
    remaining[magnitudes.argsort(stable=True)[: round(ratio * magnitudes.numel())]] = False
    return remaining


def apply(network: Network, mask: Tensor) -> None:
    """Set the weights where the mask is False to zero, in place."""
    parameters = list(network.parameters())
    pieces = torch.split(mask, [parameter.numel() for parameter in parameters])
    with torch.no_grad():
        for parameter, piece in zip(parameters, pieces, strict=True):
            parameter.mul_(piece.view(parameter.shape))
