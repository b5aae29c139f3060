"""How likely a network finds human targets."""

import math

import torch

from seqkd import batches, losses
from seqkd.batches import Text
from seqkd.model import Network

SENTENCES = 64  # at once


@torch.no_grad()
def nats(network: Network, text: Text, *, rank: int = 0, size: int = 1) -> tuple[float, int]:
    """NLL of the targets summed over words, EOS included, and how many words these are; of every size-th batch."""
    total, words = 0.0, 0
    for rows in batches.plan(text, SENTENCES)[rank::size]:
        batch = batches.make(text, rows).to(network.output.device)
        places, gold = batch.words()
        logits = network.logits(network(batch.source, batch.entered).flatten(0, 1)[places])
        total += float(losses.nll(logits, gold))
        words += len(gold)
    return total, words


def perplexity(network: Network, text: Text) -> float:
    """exp of the mean NLL per target word, EOS included."""
    total, words = nats(network, text)
    return math.exp(total / words)
