"""How likely a network finds human targets."""

import math
import sys

import torch

from seqkd.data import batches
from seqkd.data.batches import TokenizedCorpus
from seqkd.models import losses
from seqkd.models.lstm import LSTMNetwork
from seqkd.utils.errors import InputError

BATCH_SIZE = 64  # at once
MAX_NLL = math.log(sys.float_info.max)  # nats of which exp is a number


@torch.no_grad()
def total_nll(network: LSTMNetwork, text: TokenizedCorpus, *, rank: int = 0, size: int = 1) -> tuple[float, int]:
    """NLL of the targets summed over words, EOS included, and how many words these are; of every size-th batch."""
    total, words = 0.0, 0
    for rows in batches.make_batches(text, BATCH_SIZE)[rank::size]:
        batch = batches.collate(text, rows).to(network.output.device)
        places, gold = batch.target_positions()
        logits = network.logits(network(batch.source, batch.decoder_input).flatten(0, 1)[places])
        total += float(losses.nll(logits, gold))
        words += len(gold)
    return total, words


def perplexity(network: LSTMNetwork, text: TokenizedCorpus) -> float:
    """exp of the mean NLL per target word, EOS included. Raises InputError where that is no number."""
    total, words = total_nll(network, text)
    if not total / words < MAX_NLL:
        raise InputError("the model's weights are so large that it gives no numbers; train the model anew.")
    return math.exp(total / words)
