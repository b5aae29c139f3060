"""Perplexity of human targets under a network."""

import math
import sys
from typing import Any

import torch

from seqkd.data import batches
from seqkd.data.batches import MAX_LINE_PIECES, Batch, TokenizedCorpus
from seqkd.models import losses
from seqkd.models.interface import InferenceModel, Network
from seqkd.ops import matmul
from seqkd.utils.errors import InputError

BATCH_SIZE = 64  # sentences
MAX_NLL = math.log(sys.float_info.max)  # nats of which exp is a number


@torch.no_grad()
def total_nll(network: Network, text: TokenizedCorpus, *, rank: int = 0, size: int = 1) -> tuple[float, int]:
    """Return the NLL in nats, summed over target words with EOS, and the number of these words.

    rank, size: of every size-th batch only, from batch number rank on.
    """
    planned = batches.make_batches(text, BATCH_SIZE)[rank::size]
    total, long = 0.0, []
    for rows in planned:
        if text.longest(rows) > MAX_LINE_PIECES:
            long.append(rows[0])
        else:
            total += _batch_nll(network, batches.collate(text, rows))
    if long:
        with network.inference() as model:
            for row in long:
                total += _stepwise_nll(model, batches.collate(text, [row]))
    return total, sum(map(text.count_target_tokens, planned))


def _batch_nll(network: Network, batch: Batch) -> float:
    """Return the NLL of a batch, holding its activations at all positions at once."""
    batch = batch.to(network.device)
    positions, labels = batch.target_positions(matmul.ROW_MULTIPLE)
    logits = network.logits(network(batch.source, batch.decoder_input).flatten(0, 1)[positions])
    return float(losses.nll(logits, labels))


def _stepwise_nll(model: InferenceModel[Any, Any], batch: Batch) -> float:
    """Return the NLL of a batch of one pair by a search's steps, holding the encoder output and one decoder state."""
    batch = batch.to(model.device)
    total, parents = 0.0, torch.zeros(1, dtype=torch.int64, device=model.device)
    encoder_output = model.encode(batch.source)
    state = model.init_state(encoder_output)
    for words, labels in zip(batch.decoder_input, batch.labels, strict=True):
        state = model.step(words, encoder_output, state, parents)
        total += float(losses.nll(model.logits(state), labels))
    return total


def perplexity(network: Network, text: TokenizedCorpus) -> float:
    """Return exp of the mean NLL per target word, EOS included. Raises InputError where that is no number."""
    total, words = total_nll(network, text)
    if not total / words < MAX_NLL:
        raise InputError("the model's weights are so large that it gives no numbers; train the model anew.")
    return math.exp(total / words)
