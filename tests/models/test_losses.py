"""NLL and Word-KD against a float64 reference, in value and gradient."""

import math

import pytest
import torch
from torch.nn import functional as F

from seqkd.models import losses

LOGITS = torch.randn(3, 5, dtype=torch.double, generator=torch.Generator().manual_seed(1))
LABELS = torch.tensor([0, 3, 3])
TEACHER = torch.randn(3, 5, dtype=torch.double, generator=torch.Generator().manual_seed(2)).softmax(-1)


def reference(logits: torch.Tensor, alpha: float) -> torch.Tensor:
    logs = torch.log_softmax(logits, -1)
    return (1 - alpha) * F.nll_loss(logs, LABELS, reduction="sum") - alpha * (TEACHER * logs).sum()


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
    loss, expected = losses.word_kd(ours, LABELS, TEACHER.to(dtype), alpha=alpha), reference(theirs, alpha)
    (gradient,) = torch.autograd.grad(2.5 * loss, ours)
    (wanted,) = torch.autograd.grad(2.5 * expected, theirs)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    torch.testing.assert_close(gradient, wanted.to(dtype), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.double, torch.float])
def test_word_kd_gives_rows_beyond_the_words_no_gradient(dtype: torch.dtype) -> None:
    filled = torch.cat((LOGITS, LOGITS[:2])).to(dtype).requires_grad_()
    loss = losses.word_kd(filled.clone(), LABELS, TEACHER.to(dtype), alpha=0.5)
    (gradient,) = torch.autograd.grad(loss, filled)
    assert loss.item() == pytest.approx(reference(LOGITS, 0.5).item(), rel=1e-6)
    assert gradient[:3].abs().sum() > 0.1
    assert not gradient[3:].any()


def test_word_kd_with_alpha_zero_is_nll_and_with_the_teacher_as_student_has_no_gradient() -> None:
    assert losses.word_kd(LOGITS.clone(), LABELS, TEACHER, alpha=0.0).item() == pytest.approx(
        losses.nll(LOGITS.clone(), LABELS).item()
    )
    logits = TEACHER.log().requires_grad_()
    (gradient,) = torch.autograd.grad(losses.word_kd(logits, LABELS, TEACHER, alpha=1.0), logits)
    assert float(gradient.abs().max()) < 1e-12


IDS = TEACHER.topk(2).indices  # two of five words, three left
REST = 1.0 - TEACHER.gather(1, IDS).sum(-1, keepdim=True)
TOP_K = losses.TopK(IDS, torch.cat((TEACHER.gather(1, IDS), REST), 1))


def top_k_reference(logits: torch.Tensor, alpha: float) -> torch.Tensor:
    """Return the loss with the words outside the top k as one class, by its definition."""
    probs = torch.softmax(logits, -1)
    others = 1.0 - probs.gather(1, IDS).sum(-1, keepdim=True)
    classes = torch.cat((probs.gather(1, IDS), others), 1)
    nll = F.nll_loss(probs.log(), LABELS, reduction="sum")
    return (1 - alpha) * nll - alpha * (TOP_K.probs * classes.log()).sum()


@pytest.mark.parametrize("dtype", [torch.double, torch.float])
@pytest.mark.parametrize("ids", [torch.int64, torch.int16])
@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_word_kd_over_top_k_equals_its_definition_in_value_and_gradient(
    alpha: float, ids: torch.dtype, dtype: torch.dtype
) -> None:
    ours, theirs = (
        torch.cat((LOGITS, LOGITS[:1])).to(dtype).requires_grad_(),
        LOGITS.clone().requires_grad_(),
    )
    top_k_targets = losses.TopK(IDS.to(ids), TOP_K.probs.to(dtype))
    loss, expected = losses.word_kd(ours.clone(), LABELS, top_k_targets, alpha=alpha), top_k_reference(theirs, alpha)
    (gradient,) = torch.autograd.grad(2.5 * loss, ours)
    (wanted,) = torch.autograd.grad(2.5 * expected, theirs)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    torch.testing.assert_close(gradient[:3], wanted.to(dtype), rtol=1e-5, atol=1e-6)
    assert not gradient[3:].any()


def test_word_kd_gradient_over_top_k_is_that_of_finite_differences() -> None:
    torch.autograd.gradcheck(
        lambda logits: losses.word_kd(logits.clone(), LABELS, TOP_K, alpha=0.7), LOGITS.clone().requires_grad_()
    )


@pytest.mark.parametrize("dtype", [torch.double, torch.float])
def test_word_kd_over_the_top_all_words_but_one_is_that_of_the_full_distribution(dtype: torch.dtype) -> None:
    probs, ids = TEACHER.to(dtype).sort(descending=True)
    top_k_targets = losses.TopK(ids[:, :-1], probs.contiguous())
    ours, theirs = LOGITS.to(dtype).requires_grad_(), LOGITS.to(dtype).requires_grad_()
    loss = losses.word_kd(ours.clone(), LABELS, top_k_targets, alpha=0.5)
    full = losses.word_kd(theirs.clone(), LABELS, TEACHER.to(dtype), alpha=0.5)
    assert loss.item() == pytest.approx(full.item(), rel=1e-6)
    torch.testing.assert_close(*(torch.autograd.grad(*pair)[0] for pair in ((loss, ours), (full, theirs))))


@pytest.mark.parametrize("sharpness", [0.5, 3.0, 8.0])
@pytest.mark.parametrize("top_k", [1, 8, 32])
def test_word_kd_over_top_k_is_below_the_full_one_by_no_more_nats_than_its_rest_allows(
    sharpness: float, top_k: int
) -> None:
    generator = torch.Generator().manual_seed(4)
    logits, teacher = torch.randn(2, 50, 400, dtype=torch.double, generator=generator)
    teacher, labels = (teacher * sharpness).softmax(-1), torch.zeros(50, dtype=torch.int64)
    probs, ids = teacher.topk(top_k)
    rest = 1.0 - probs.sum(-1, keepdim=True)
    top_k_targets = losses.TopK(ids, torch.cat((probs, rest), 1))
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    short = losses.word_kd(ours.clone(), labels, top_k_targets, alpha=1.0)
    full = losses.word_kd(theirs.clone(), labels, teacher, alpha=1.0)
    outside = logits.scatter(1, ids, torch.nan)
    spread = torch.tensor([row[~row.isnan()].max() - row[~row.isnan()].min() for row in outside])
    bound = (rest[:, 0] * (math.log(400 - top_k) + spread)).sum()
    assert 0.0 < float((full - short).detach()) <= float(bound)
    difference = torch.autograd.grad(short, ours)[0] - torch.autograd.grad(full, theirs)[0]
    assert bool((difference.abs().sum(-1) <= 2 * rest[:, 0] + 1e-12).all())


def test_word_kd_over_top_k_is_finite_for_a_student_that_rules_the_rest_out() -> None:
    logits = torch.tensor([[300.0, 299.0, -300.0, -300.0]], requires_grad=True)
    top_k_targets = losses.TopK(torch.tensor([[0, 1]]), torch.tensor([[0.5, 0.3, 0.2]]))
    loss = losses.word_kd(logits.clone(), torch.tensor([0]), top_k_targets, alpha=1.0)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert math.isfinite(loss.item())
    assert gradient[0, :2].tolist() == pytest.approx([0.2310586, -0.0310586], abs=1e-5)
    assert all(-0.1 <= value <= -0.05 for value in gradient[0, 2:].tolist())
