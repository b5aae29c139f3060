"""How likely a network finds human targets."""

import math
import sys

import torch

from seqkd import batches, losses
from seqkd.batches import Text
from seqkd.errors import InputError
from seqkd.model import Network

SENTENCES = 64  # at once
LARGEST = math.log(sys.float_info.max)  # nats of which exp is a number


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
    """exp of the mean NLL per target word, EOS included. Raises InputError where that is no number."""
    total, words = nats(network, text)
    if not total / words < LARGEST:
        raise InputError("the model's weights are so large that it gives no numbers; train the model anew.")
    return math.exp(total / words)
