"""NLL and Word-KD against a float64 reference, in value and gradient."""

import pytest
import torch
from torch.nn import functional as F

from seqkd import losses

LOGITS = torch.randn(3, 5, dtype=torch.double, generator=torch.Generator().manual_seed(1))
GOLD = torch.tensor([0, 3, 3])
TEACHER = torch.randn(3, 5, dtype=torch.double, generator=torch.Generator().manual_seed(2)).softmax(-1)


def reference(logits: torch.Tensor, alpha: float) -> torch.Tensor:
    logs = torch.log_softmax(logits, -1)
    return (1 - alpha) * F.nll_loss(logs, GOLD, reduction="sum") - alpha * (TEACHER * logs).sum()


def test_nll_by_hand() -> None:
    even = torch.zeros(2, 4, requires_grad=True)
    loss = losses.nll(even, torch.tensor([1, 2]))
    assert loss.item() == pytest.approx(2 * 1.3862944)
    (gradient,) = torch.autograd.grad(loss, even)
    assert gradient.tolist() == [[0.25, -0.75, 0.25, 0.25], [0.25, 0.25, -0.75, 0.25]]


@pytest.mark.parametrize("dtype", [torch.double, torch.float])
@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.5, 1.0])
def test_word_kd_equals_the_reference_in_value_and_gradient(alpha: float, dtype: torch.dtype) -> None:
    ours, theirs = LOGITS.to(dtype).clone().requires_grad_(), LOGITS.clone().requires_grad_()
    loss, expected = losses.word_kd(ours, GOLD, TEACHER.to(dtype), alpha=alpha), reference(theirs, alpha)
    (gradient,) = torch.autograd.grad(2.5 * loss, ours)
    (wanted,) = torch.autograd.grad(2.5 * expected, theirs)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    torch.testing.assert_close(gradient, wanted.to(dtype), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.double, torch.float])
def test_rows_beyond_the_words_are_filling_without_a_gradient(dtype: torch.dtype) -> None:
    filled = torch.cat((LOGITS, LOGITS[:2])).to(dtype).requires_grad_()
    loss = losses.word_kd(filled.clone(), GOLD, TEACHER.to(dtype), alpha=0.5)
    (gradient,) = torch.autograd.grad(loss, filled)
    assert loss.item() == pytest.approx(reference(LOGITS, 0.5).item(), rel=1e-6)
    assert gradient[:3].abs().sum() > 0.1
    assert not gradient[3:].any()


def test_word_kd_with_alpha_zero_is_nll_and_with_the_teacher_as_student_has_no_gradient() -> None:
    assert losses.word_kd(LOGITS.clone(), GOLD, TEACHER, alpha=0.0).item() == pytest.approx(
        losses.nll(LOGITS.clone(), GOLD).item()
    )
    logits = TEACHER.log().requires_grad_()
    (gradient,) = torch.autograd.grad(losses.word_kd(logits, GOLD, TEACHER, alpha=1.0), logits)
    assert float(gradient.abs().max()) < 1e-12
