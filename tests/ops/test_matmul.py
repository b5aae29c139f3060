"""Matrix products: every backend and precision gives the same result, up to its rounding."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from seqkd.ops import matmul

X = torch.randn(96, 300, generator=torch.Generator().manual_seed(1))
WEIGHT = torch.randn(400, 300, generator=torch.Generator().manual_seed(2))
BIAS = torch.randn(400, generator=torch.Generator().manual_seed(3))


@pytest.fixture(autouse=True)
def _default_backend() -> Iterator[None]:
    yield
    matmul.set_backend()


def close(one: torch.Tensor, other: torch.Tensor, precision: str) -> None:
    """Assert that two results are equal: in fp32 to its last digits, in bf16 to 2^-8 of the product of the norms."""
    torch.testing.assert_close(one, other, rtol=1e-5, atol=2e-4 if precision == "fp32" else 0.6)


@pytest.mark.parametrize("backend", ["own", "torch"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_linear_equals_torchs_in_values_and_gradients(backend: matmul.Backend, precision: matmul.Precision) -> None:
    exact_inputs = [tensor.double().requires_grad_() for tensor in (X, WEIGHT, BIAS)]
    expected = torch.nn.functional.linear(*exact_inputs)
    matmul.set_backend(backend, precision)
    inputs = [tensor.clone().requires_grad_() for tensor in (X, WEIGHT, BIAS)]
    result = matmul.linear(*inputs)
    assert result.shape == (96, 400)
    if precision == "bf16":
        assert float((result.double() - expected).abs().max()) > 1e-3, "nothing was rounded"
    close(result.double(), expected, precision)
    ours = torch.autograd.grad(result.sum() * 0.1, inputs)
    theirs = torch.autograd.grad(expected.sum() * 0.1, exact_inputs)
    for one, other in zip(ours, theirs, strict=True):
        close(one.double(), other, precision)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("shape", [(1, 2, 1), (7, 64, 31), (8, 10, 32), (101, 30, 65), (5, 17, 40)])
def test_matmul_nt_of_any_shape_and_strides_is_exact_for_the_rounded_inputs(
    shape: tuple[int, int, int], precision: matmul.Precision
) -> None:
    rows, depth, columns = shape
    matmul.set_backend("own", precision)
    x, weight, bias = X.flatten()[: rows * depth].view(rows, depth), WEIGHT[:columns, :depth], BIAS[:columns]
    rounds = precision == "bf16" and (depth % 2 == 0 or matmul.uses_tiles())
    exact = [tensor.bfloat16().double() if rounds else tensor.double() for tensor in (x, weight)]
    expected = F.linear(exact[0], exact[1], bias.double())
    for one in (x, x.t().contiguous().t()):
        for other in (weight, weight.t().contiguous().t()):
            torch.testing.assert_close(matmul.matmul_nt(one, other, bias).double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_matmul_nt_gives_a_row_the_same_bits_whatever_the_other_rows(precision: matmul.Precision) -> None:
    matmul.set_backend("own", precision)
    packed = matmul.PackedWeight.pack(WEIGHT, BIAS)
    together = packed.apply(X, len(WEIGHT))
    assert torch.equal(matmul.matmul_nt(X, WEIGHT, BIAS), together)
    for first, last in ((0, 1), (3, 5), (10, 17), (40, 95)):
        assert torch.equal(packed.apply(X[first:last], len(WEIGHT)), together[first:last])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_matmul_nt_keeps_nan_and_infinity(precision: matmul.Precision) -> None:
    matmul.set_backend("own", precision)
    x, weight = torch.ones(2, 2), torch.ones(1, 2)
    for bad in (float("nan"), float("inf"), -float("inf")):
        x[1, 1] = bad
        result = matmul.matmul_nt(x, weight)
        assert float(result[0, 0]) == 2.0
        assert not bool(result[1].isfinite())


@pytest.mark.parametrize(
    ("fp32_results", "precision", "keep_fp32", "kind"),
    [
        (True, "bf16", False, torch.bfloat16),
        (True, "bf16", True, torch.bfloat16),
        (True, "fp32", False, torch.float32),
        (False, "bf16", True, torch.float32),  # a torch that rounds results: not those of logits
    ],
)
def test_linear_on_a_gpu_rounds_inputs_and_returns_fp32(
    fp32_results: bool, precision: matmul.Precision, keep_fp32: bool, kind: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fake tensors have a GPU's types and shapes without content, and take the same path."""
    if fp32_results and not matmul.FP32_RESULTS:
        pytest.skip("this torch rounds results too")
    monkeypatch.setattr(matmul, "FP32_RESULTS", fp32_results)
    matmul.set_backend("auto", precision)
    with FakeTensorMode():
        x, weight, bias = (torch.empty(*size, device="cuda") for size in ((96, 400), (80, 400), (80,)))
        with MatmulTypes() as seen:
            result = matmul.linear(x, weight, bias, keep_fp32=keep_fp32)
    assert (result.shape, result.dtype) == ((96, 80), torch.float32)
    assert seen.products == [kind]


class MatmulTypes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Record the types of the inputs of matrix products."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.products: list[torch.dtype] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if function.overloadpacket.__name__ in ("mm", "addmm", "linear"):
            self.products.append([value for value in args if isinstance(value, torch.Tensor)][-1].dtype)
        return function(*args, **(kwargs or {}))


needs_int8 = pytest.mark.skipif(not matmul.supports_int8(4), reason="this processor does not multiply int8")


@needs_int8
@pytest.mark.parametrize("rows", [1, 32, 101])
def test_int8_weight_gives_the_product_of_the_rounded_numbers(rows: int) -> None:
    x = torch.tanh(X.repeat(2, 1)[:rows])
    scale = WEIGHT.double().abs().amax(1, keepdim=True) / 127
    rounded, steps = (x.double() * 127).round(), (WEIGHT.double() / scale).round()
    expected = (rounded @ steps.t()) * scale.t() / 127 + BIAS.double()
    result = matmul.PackedWeight.quantize(WEIGHT, BIAS).apply(x, len(WEIGHT))
    assert result.shape == (rows, 400)
    torch.testing.assert_close(result.double(), expected, rtol=1e-5, atol=2e-3)  # a half may be rounded either way
    assert float((result - (x @ WEIGHT.t() + BIAS)).abs().max()) < 0.6


@needs_int8
def test_int8_weight_gives_a_row_the_same_bits_whatever_the_other_rows() -> None:
    packed, x = matmul.PackedWeight.quantize(WEIGHT, BIAS), torch.tanh(X)
    together = packed.apply(x, len(WEIGHT))
    assert all(torch.equal(packed.apply(x[row : row + 1], len(WEIGHT))[0], together[row]) for row in (0, 31, 95))


@needs_int8
def test_backend_torch_multiplies_floats_where_weights_are_int8() -> None:
    matmul.set_backend("torch")
    try:
        assert not matmul.supports_int8(4)
    finally:
        matmul.set_backend()
    assert matmul.supports_int8(4)
