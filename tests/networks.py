"""Small random networks and source sentences, shared by the tests of beam search."""

import torch

from seqkd.models.lstm import LSTMNetwork, NetworkShape

SOURCES = [[4, 5, 6], [5], [6, 4], [4, 4, 5, 6, 6], [5, 6]]
MANY = [[4 + (7 * row + column) % 30 for column in range(1 + row % 9)] for row in range(60)]


def random_network(*, vocab: int = 7, layers: int = 2, hidden: int = 8, init_range: float = 12.0) -> LSTMNetwork:
    """Return a network in float64; the larger its weights, the further apart the hypotheses' scores."""
    network = LSTMNetwork(NetworkShape(vocab, layers, hidden, 0.3))
    network.init_weights(torch.Generator().manual_seed(3))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(init_range)
    return network.double()
