"""NLL and Word-KD over the words of a batch, with their gradient in closed form (Kim & Rush 2016, section 3.1)."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from seqkd import fused, kernels


class _Mixed(torch.autograd.Function):
    """On a CPU the logits' own buffer becomes the gradient; elsewhere one more (words, V) does."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, gold: Tensor, teacher: Tensor | None, alpha: float) -> Tensor:
        if fused.usable(logits):
            loss, gradient = _compiled(logits, gold, teacher, alpha)
            ctx.save_for_backward(gradient)
            return loss
        words = len(gold)
        student = torch.log_softmax(logits[:words], -1)
        loss = (alpha - 1.0) * student.gather(1, gold[:, None]).sum()
        if teacher is not None:
            loss = loss - alpha * torch.dot(teacher.view(-1), student.view(-1))
        if ctx.needs_input_grad[0]:
            student.exp_()
            if teacher is not None:
                student.sub_(teacher, alpha=alpha)
            student.scatter_add_(1, gold[:, None], torch.full_like(student[:, :1], alpha - 1.0))
            ctx.save_for_backward(F.pad(student, (0, 0, 0, len(logits) - words)))
        return loss

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        scale = gradients[0]  # 1 in the trainer, which scales the weights' gradients instead of this larger buffer
        return gradient if float(scale) == 1.0 else gradient * scale, None, None, None


def _compiled(logits: Tensor, gold: Tensor, teacher: Tensor | None, alpha: float) -> tuple[Tensor, Tensor]:
    """The loss and its gradient, which takes the logits' place: another large buffer would cost as much as the loss."""
    values, shares = logits.detach(), fused.NONE if teacher is None else teacher.numpy()
    loss = kernels.mixed_loss(values.numpy(), values.amax(-1).numpy(), gold.numpy(), shares, np.float32(alpha))
    return logits.new_tensor(loss), values


def nll(logits: Tensor, gold: Tensor) -> Tensor:
    """- sum log p(gold); gold: (words,) ids. Returns a scalar, nats, summed over words.

    logits: (words, V), used up; rows beyond the words are filling and get no gradient.
    """
    loss: Tensor = _Mixed.apply(logits, gold, None, 0.0)  # type: ignore[no-untyped-call]
    return loss


def word_kd(logits: Tensor, gold: Tensor, teacher: Tensor, *, alpha: float) -> Tensor:
    """(1 - alpha) NLL + alpha sum_words sum_k -q(k) log p(k), section 3.1.

    logits: (words, V) of the student, as for nll; gold: (words,) ids; teacher: (words, V) the probabilities q, all of
    them. Returns a scalar, nats, summed over words.
    """
    loss: Tensor = _Mixed.apply(logits, gold, teacher, alpha)  # type: ignore[no-untyped-call]
    return loss
