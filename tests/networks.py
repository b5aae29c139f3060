"""Small random networks, a model's folder and source sentences, shared by the tests of what translates."""

from collections.abc import Sequence
from pathlib import Path

import torch

from seqkd.data import vocab
from seqkd.models import checkpoint
from seqkd.models.checkpoint import Model
from seqkd.models.lstm import LSTMNetwork, NetworkShape

TEXT = ["the cat sat on the mat", "der Kater saß auf der Matte", "a dog ran"]
PLACEHOLDERS = "{0}{1}{2}{3}{4}{5}{6}{7}{8}"  # as many as a vocabulary has pieces for
SOURCES = [[4, 5, 6], [5], [6, 4], [4, 4, 5, 6, 6], [5, 6]]
MANY = [[4 + (7 * row + column) % 30 for column in range(1 + row % 9)] for row in range(60)]
ALIKE = [[4 + (7 * row + column) % 30 for column in range(5)] for row in range(60)]


def random_network(*, vocab_size: int = 7, layers: int = 2, hidden: int = 8, init_range: float = 12.0) -> LSTMNetwork:
    """Return a network in float64; the larger its weights, the further apart the hypotheses' scores."""
    network = LSTMNetwork(NetworkShape(vocab_size, layers, hidden, 0.3))
    network.init_weights(torch.Generator().manual_seed(3))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(init_range)
    return network.double()


def save_untrained_model(folder: Path, texts: Sequence[str]) -> Path:
    """Save a model that knows the pieces of texts and has learnt nothing: its answers are the same each time."""
    pieces = vocab.train([*texts, "der Kater saß auf der Matte"] * 3, folder / "joint.model", size=40)
    network = LSTMNetwork(NetworkShape(pieces.size, 1, 16, 0.0))
    network.init_weights(torch.Generator().manual_seed(1), init_range=2.0)
    checkpoint.save(folder / "m", Model(network, pieces, None), card="")
    return folder / "m"


def untrained_model(folder: Path, *, layers: int = 2, byte_fallback: bool = True, texts: Sequence[str] = TEXT) -> Model:
    """Return a model of the texts' pieces whose weights are so large that its words differ from step to step.

    It writes placeholders more often than other pieces.
    """
    size = 300 if byte_fallback else 40
    pieces = vocab.train([*texts] * 3, folder / "joint.model", size=size, byte_fallback=byte_fallback)
    network = LSTMNetwork(NetworkShape(pieces.size, layers, 16, 0.1))
    network.init_weights(torch.Generator().manual_seed(1), init_range=1.0, embedding_init_range=1.0)
    with torch.no_grad():
        network.output_bias[4 : 4 + pieces.placeholders] += 3
    return Model(network, pieces, None)
