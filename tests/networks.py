"""Small random networks and source sentences, shared by the tests of the searches."""

import torch

from seqkd.models import lstm

SOURCES = [[4, 5, 6], [5], [6, 4], [4, 4, 5, 6, 6], [5, 6]]


def random_network(*, vocab: int = 7, layers: int = 2, hidden: int = 8, init_range: float = 12.0) -> lstm.LSTMNetwork:
    network = lstm.LSTMNetwork(lstm.NetworkShape(vocab, layers, hidden, 0.3))
    network.init_weights(torch.Generator().manual_seed(3))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(init_range)
    return network.double()


MANY = [[4 + (7 * row + at) % 30 for at in range(1 + row % 9)] for row in range(60)]
