"""Every way of taking a product gives the same product."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from seqkd.config import schema
from seqkd.ops import devices, matmul

X = torch.randn(96, 300, generator=torch.Generator().manual_seed(1))
WEIGHT = torch.randn(400, 300, generator=torch.Generator().manual_seed(2))
BIAS = torch.randn(400, generator=torch.Generator().manual_seed(3))


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    matmul.set_backend()


def close(one: torch.Tensor, other: torch.Tensor, precision: str) -> None:
    """In fp32 to its last digits; in bfloat16 to 2^-8 of the norms multiplied."""
    torch.testing.assert_close(one, other, rtol=1e-5, atol=2e-4 if precision == "fp32" else 0.6)


@pytest.mark.parametrize("library", ["own", "torch"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_linear_layer_and_its_gradients(library: matmul.Backend, precision: matmul.Precision) -> None:
    wanted = [it.double().requires_grad_() for it in (X, WEIGHT, BIAS)]
    expected = torch.nn.functional.linear(*wanted)
    matmul.set_backend(library, precision)
    given = [it.clone().requires_grad_() for it in (X, WEIGHT, BIAS)]
    found = matmul.linear(*given)
    assert found.shape == (96, 400)
    if precision == "bf16" and matmul.has_bf16():
        assert float((found.double() - expected).abs().max()) > 1e-3, "nothing was rounded"
    close(found.double(), expected, precision)
    ours = torch.autograd.grad(found.sum() * 0.1, given)
    theirs = torch.autograd.grad(expected.sum() * 0.1, wanted)
    for one, other in zip(ours, theirs, strict=True):
        close(one.double(), other, precision)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("shape", [(1, 2, 1), (7, 64, 31), (8, 10, 32), (101, 30, 65), (5, 17, 40)])
def test_a_product_of_any_shape_and_any_strides_is_that_of_the_rounded_numbers(
    shape: tuple[int, int, int], precision: matmul.Precision
) -> None:
    rows, depth, columns = shape
    matmul.set_backend("own", precision)
    x, weight, bias = X.flatten()[: rows * depth].view(rows, depth), WEIGHT[:columns, :depth], BIAS[:columns]
    rounds = precision == "bf16" and matmul.has_bf16() and depth % 2 == 0
    expected = F.linear(*(it.bfloat16().double() if rounds else it.double() for it in (x, weight))) + bias.double()
    for left in (x, x.t().contiguous().t()):
        for right in (weight, weight.t().contiguous().t()):
            found = matmul.matmul_nt(left, right, bias)
            torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_row_of_a_product_depends_on_no_other_row(precision: matmul.Precision) -> None:
    matmul.set_backend("own", precision)
    right = matmul.PackedWeight.pack(WEIGHT, BIAS)
    together = right.apply(X, len(WEIGHT))
    assert torch.equal(matmul.matmul_nt(X, WEIGHT, BIAS), together)
    for first, last in ((0, 1), (3, 5), (10, 17), (40, 95)):
        assert torch.equal(right.apply(X[first:last], len(WEIGHT)), together[first:last])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_no_rounding_hides_a_number_that_is_not_finite(precision: matmul.Precision) -> None:
    matmul.set_backend("own", precision)
    x, weight = torch.ones(2, 2), torch.ones(1, 2)
    for bad in (float("nan"), float("inf"), -float("inf")):
        x[1, 1] = bad
        found = matmul.matmul_nt(x, weight)
        assert float(found[0, 0]) == 2.0
        assert not bool(found[1].isfinite())


@pytest.mark.parametrize(
    ("wide", "precision", "whole", "kind"),
    [
        (True, "bf16", False, torch.bfloat16),
        (True, "bf16", True, torch.bfloat16),
        (True, "fp32", False, torch.float32),
        (False, "bf16", True, torch.float32),  # a torch that rounds results: no logits of it
    ],
)
def test_bf16_off_the_cpu_rounds_what_is_multiplied_and_gives_fp32(
    wide: bool, precision: matmul.Precision, whole: bool, kind: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU's tensors without their content: types and shapes, by the same path."""
    if wide and not matmul.FP32_RESULTS:
        pytest.skip("this torch rounds results too")
    monkeypatch.setattr(matmul, "FP32_RESULTS", wide)
    matmul.set_backend("auto", precision)
    with FakeTensorMode():
        x, weight, bias = (torch.empty(*size, device="cuda") for size in ((96, 400), (80, 400), (80,)))
        with CountedTypes() as seen:
            found = matmul.linear(x, weight, bias, whole=whole)
    assert (found.shape, found.dtype) == ((96, 80), torch.float32)
    assert seen.products == [kind]


class CountedTypes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The types in which products are taken."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.products: list[torch.dtype] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if function.overloadpacket.__name__ in ("mm", "addmm", "linear"):
            self.products.append([it for it in args if isinstance(it, torch.Tensor)][-1].dtype)
        return function(*args, **(kwargs or {}))


def test_a_run_says_where_its_products_are_taken() -> None:
    named: dict[matmul.Backend, str] = {"auto": "seqkd's own loops", "torch": "torch"}
    for library, words in named.items():
        device = devices.configure(schema.Machine(device="cpu", matmul_backend=library))
        assert devices.describe(device) == f"matrix products by {words}, float32"


needs_int8 = pytest.mark.skipif(not matmul.supports_int8(4), reason="this processor has no int8 product")


@needs_int8
@pytest.mark.parametrize("rows", [1, 32, 101])
def test_an_int8_product_is_that_of_the_rounded_numbers(rows: int) -> None:
    x = torch.tanh(X.repeat(2, 1)[:rows])
    scale = WEIGHT.double().abs().amax(1, keepdim=True) / 127
    rounded, steps = (x.double() * 127).round(), (WEIGHT.double() / scale).round()
    expected = (rounded @ steps.t()) * scale.t() / 127 + BIAS.double()
    found = matmul.PackedWeight.quantize(WEIGHT, BIAS).apply(x, len(WEIGHT))
    assert found.shape == (rows, 400)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=2e-3)  # a half may be rounded either way
    assert float((found - (x @ WEIGHT.t() + BIAS)).abs().max()) < 0.6


@needs_int8
def test_a_row_of_an_int8_product_depends_on_no_other_row() -> None:
    right, x = matmul.PackedWeight.quantize(WEIGHT, BIAS), torch.tanh(X)
    together = right.apply(x, len(WEIGHT))
    assert all(torch.equal(right.apply(x[row : row + 1], len(WEIGHT))[0], together[row]) for row in (0, 31, 95))
