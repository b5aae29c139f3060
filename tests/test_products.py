"""Every way of taking a product gives the same product."""

from collections.abc import Iterator

import pytest
import torch

from seqkd import products

X = torch.randn(96, 300, generator=torch.Generator().manual_seed(1))
WEIGHT = torch.randn(400, 300, generator=torch.Generator().manual_seed(2))
BIAS = torch.randn(400, generator=torch.Generator().manual_seed(3))


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    products.choose("mkl", "fp32")


def close(one: torch.Tensor, other: torch.Tensor, precision: str) -> None:
    """In fp32 to its last digits; in bfloat16 to 2^-8 of the norms multiplied."""
    torch.testing.assert_close(one, other, rtol=1e-5, atol=2e-4 if precision == "fp32" else 0.6)


@pytest.mark.parametrize("library", ["mkl", "onednn"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_linear_layer_and_its_gradients(library: products.Library, precision: products.Precision) -> None:
    if library == "onednn" and not products.has_onednn():
        pytest.skip("this torch has no oneDNN product")
    wanted = [it.double().requires_grad_() for it in (X, WEIGHT, BIAS)]
    expected = torch.nn.functional.linear(*wanted)
    products.choose(library, precision)
    given = [it.clone().requires_grad_() for it in (X, WEIGHT, BIAS)]
    found = products.linear(*given)
    assert found.shape == (96, 400)
    close(found.double(), expected, precision)
    ours = torch.autograd.grad(found.sum() * 0.1, given)
    theirs = torch.autograd.grad(expected.sum() * 0.1, wanted)
    for one, other in zip(ours, theirs, strict=True):
        close(one.double(), other, precision)


@pytest.mark.parametrize("library", ["mkl", "onednn"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_repeated_product_writes_what_the_single_one_returns(
    library: products.Library, precision: products.Precision
) -> None:
    products.choose(library, precision)
    out = torch.empty(96, 400)
    products.repeated(WEIGHT, 96)(X, out)
    close(out.double(), X.double() @ WEIGHT.double().t(), precision)


def test_a_number_of_rows_that_is_filled_up_stays_what_it_was() -> None:
    products.choose("mkl", "bf16")
    for rows in (products.EVEN + 50, 1):
        found = products.product(X[:rows], WEIGHT.repeat(products.LARGE // WEIGHT.numel(), 1))
        assert found.shape[0] == rows
        close(found[:, :400], X[:rows] @ WEIGHT.t(), "bf16")


def test_rounding_is_left_to_large_products() -> None:
    products.choose("mkl", "bf16")
    small = products.product(X[:2], WEIGHT[:5])
    torch.testing.assert_close(small, X[:2] @ WEIGHT[:5].t())
    assert torch.get_float32_matmul_precision() == "highest"
