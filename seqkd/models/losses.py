"""NLL and word-level knowledge distillation (Word-KD), with gradients in closed form (Kim & Rush 2016, section 3.1)."""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from seqkd.ops.cpu import lstm as lstm_cpu
from seqkd.ops.cpu import softmax


class TopK(NamedTuple):
    """The teacher's k likeliest words at each of a batch's words, k < V, and the probability of all others together."""

    ids: Tensor  # (words, k) integers, distinct within a row
    probs: Tensor  # (words, k + 1) those of ids, then the rest; a row sums to 1


class _MixedLoss(torch.autograd.Function):
    """(1 - alpha) NLL + alpha Word-KD; the forward pass computes the gradient too.

    On a CPU the logits' own buffer becomes the gradient; elsewhere one more (words, V) does.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, teacher: Tensor | TopK | None, alpha: float) -> Tensor:
        with_gradient = _compiled if lstm_cpu.supports(logits) else _plain
        loss, gradient = with_gradient(logits, labels, teacher, alpha)
        ctx.save_for_backward(gradient)
        return loss

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        scale = gradients[0]  # 1 in the trainer, which scales the weights' gradients instead of this larger buffer
        return gradient if float(scale) == 1.0 else gradient * scale, None, None, None


def _plain(logits: Tensor, labels: Tensor, teacher: Tensor | TopK | None, alpha: float) -> tuple[Tensor, Tensor]:
    """Return the loss and its gradient in the logits, by torch operations."""
    words = len(labels)
    student = torch.log_softmax(logits[:words], -1)
    loss = (alpha - 1.0) * student.gather(1, labels[:, None]).sum()
    if isinstance(teacher, TopK):
        ids, probs, rest = teacher.ids.long(), teacher.probs[:, :-1], teacher.probs[:, -1:]
        others = student.scatter(1, ids, -torch.inf)
        outside = others.logsumexp(-1, keepdim=True)
        loss = loss - alpha * ((probs * student.gather(1, ids)).sum() + (rest * outside).sum())
        gradient = student.exp_().scatter_add_(1, ids, -alpha * probs)
        gradient.sub_(others.sub_(outside).exp_().mul_(alpha * rest))
    elif teacher is not None:
        loss = loss - alpha * torch.dot(teacher.view(-1), student.view(-1))
        gradient = student.exp_().sub_(teacher, alpha=alpha)
    else:
        gradient = student.exp_()
    gradient.scatter_add_(1, labels[:, None], torch.full_like(student[:, :1], alpha - 1.0))
    return loss, F.pad(gradient, (0, 0, 0, len(logits) - words))


def _compiled(logits: Tensor, labels: Tensor, teacher: Tensor | TopK | None, alpha: float) -> tuple[Tensor, Tensor]:
    """Return the loss and its gradient, which overwrites the logits: a second large buffer would double the time."""
    values, weight = logits.detach(), np.float32(alpha)
    arrays = values.numpy(), values.amax(-1).numpy(), labels.numpy()
    if isinstance(teacher, TopK):
        loss = softmax.top_k_loss(*arrays, teacher.ids.numpy(), teacher.probs.numpy(), weight)
    else:
        loss = softmax.mixed_loss(*arrays, lstm_cpu.EMPTY if teacher is None else teacher.numpy(), weight)
    return logits.new_tensor(loss), values


def nll(logits: Tensor, labels: Tensor) -> Tensor:
    """Return - sum log p(labels), a scalar in nats, summed over words; labels: (words,) ids.

    logits: (words, V), overwritten; further rows are padding and get no gradient.
    """
    loss: Tensor = _MixedLoss.apply(logits, labels, None, 0.0)  # type: ignore[no-untyped-call]
    return loss


def word_kd(logits: Tensor, labels: Tensor, teacher: Tensor | TopK, *, alpha: float) -> Tensor:
    """Return (1 - alpha) NLL + alpha sum_words sum_k -q(k) log p(k), section 3.1: nats, summed over words.

    logits: (words, V) of the student, as for nll; labels: (words,) ids; teacher: the probabilities q, (words, V) or its
    top-k words.

    With top-k the words outside it are one class of mass r, and P is the sum of their p: a word's Word-KD is
    - sum_listed q(k) log p(k) - r log P, and its gradient in a logit is p - q in the list and p - r p / P outside, the
    full one with the teacher's tail shaped as the student's: the tail's mass is taught, its order is not. (Mass spread
    evenly outside would teach that rare words are alike.) The full loss is larger by r times the cross-entropy of the
    two tails, at most r (log(V - k) + the spread of the logits outside), and the gradients differ by at most 2r in sum.
    """
    loss: Tensor = _MixedLoss.apply(logits, labels, teacher, alpha)  # type: ignore[no-untyped-call]
    return loss
