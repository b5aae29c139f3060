"""Perplexity of human targets under a network."""

import math
import sys

import torch

from seqkd.data import batches
from seqkd.data.batches import TokenizedCorpus
from seqkd.models import losses
from seqkd.models.interface import Network
from seqkd.ops import matmul
from seqkd.utils.errors import InputError

BATCH_SIZE = 64  # sentences
MAX_NLL = math.log(sys.float_info.max)  # nats of which exp is a number


@torch.no_grad()
def total_nll(network: Network, text: TokenizedCorpus, *, rank: int = 0, size: int = 1) -> tuple[float, int]:
    """Return the NLL in nats, summed over target words with EOS, and the number of these words.

    rank, size: of every size-th batch only, from batch number rank on.
    """
    total, words = 0.0, 0
    for rows in batches.make_batches(text, BATCH_SIZE)[rank::size]:
        batch = batches.collate(text, rows).to(network.device)
        positions, labels = batch.target_positions(matmul.ROW_MULTIPLE)
        logits = network.logits(network(batch.source, batch.decoder_input).flatten(0, 1)[positions])
        total += float(losses.nll(logits, labels))
        words += len(labels)
    return total, words


def perplexity(network: Network, text: TokenizedCorpus) -> float:
    """Return exp of the mean NLL per target word, EOS included. Raises InputError where that is no number."""
    total, words = total_nll(network, text)
    if not total / words < MAX_NLL:
        raise InputError("the model's weights are so large that it gives no numbers; train the model anew.")
    return math.exp(total / words)
