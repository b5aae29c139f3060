"""What both beam searches share: their settings, the top-k choice of continuations and the ranking of hypotheses.

Sizes: B sentences, R rows of each, V pieces, W continuations of each sentence.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from seqkd.data.nbest import Hypothesis
from seqkd.data.vocab import BOS, PAD
from seqkd.models.interface import Continuations, InferenceModel

DEAD = float("-inf")  # the score of a row that holds no hypothesis
FORBIDDEN_IDS = (PAD, BOS)  # words that a search never writes


class SearchSettings(NamedTuple):
    """What every batch of a search has in common."""

    model: InferenceModel[Any, Any]
    beam: int
    nbest: int  # at most beam
    length_penalty: float  # exponent of the length that divides a log-probability; 0: the plain sum


def top_k_continuations(
    logits: Tensor, scores: Tensor, open_slots: Tensor, *, width: int, forbidden_ids: tuple[int, ...]
) -> Continuations:
    """Choose the width best continuations of each sentence's rows, best first.

    logits: (B x R, V), overwritten; scores: (B, R) log-probabilities so far; open_slots: (B,) how many continuations a
    sentence may have; width: at most R x (V - forbidden).
    Returns (B, width) each: log-probabilities, -inf beyond a sentence's open slots; the rows of the sentence that they
    continue; the words that they add.
    """
    log_normalizer = logits.logsumexp(-1, keepdim=True)
    for word in forbidden_ids:
        logits[:, word] = DEAD
    per_row = min(width, logits.shape[1] - len(forbidden_ids))
    # chosen before the normalizer is subtracted, which changes no row's order
    values, words = logits.max(-1, keepdim=True) if per_row == 1 else logits.topk(per_row, -1)
    values = (values - log_normalizer + scores.reshape(-1, 1)).reshape(len(scores), -1)
    values, chosen = values.topk(width, -1)
    closed = torch.arange(width, device=open_slots.device) >= open_slots[:, None]
    return values.masked_fill(closed, DEAD), chosen // per_row, words.reshape(len(scores), -1).gather(1, chosen)


def normalized_score(hypothesis: Hypothesis, length_penalty: float) -> float:
    """Apply the length penalty: log-probability / length ** length_penalty; the end of a finished one counts."""
    ids, logprob, finished = hypothesis
    divisor: float = (len(ids) + finished) ** length_penalty
    return logprob / divisor


def rank(hypotheses: Iterable[Hypothesis], *, nbest: int, length_penalty: float) -> list[Hypothesis]:
    """Return the n-best list: finished hypotheses first, then by normalized score; equal ones stay in their order."""

    def key(hypothesis: Hypothesis) -> tuple[bool, float]:
        return not hypothesis.finished, -normalized_score(hypothesis, length_penalty)

    return sorted(hypotheses, key=key)[:nbest]
