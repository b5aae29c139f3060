"""Matrix products on a CPU: each through the library, the layout and the precision that are fastest there.

- fp32 on AMD with AVX-512 goes through oneDNN; torch's own product is MKL's, which picks AVX2 kernels there and is up
  to 2.3 times slower. On Intel the two are level for large products and MKL is ahead for small ones.
- A product with few rows is up to 1.7 times faster when the weight is transposed in memory, once for many steps; in
  bfloat16 up to 2.5 times when it is converted and packed once. The product is then rounded to bfloat16 as well.
- bf16: large products round their inputs to bfloat16 and sum in fp32, four times faster where the processor has
  instructions for it; small ones stay in fp32, where they are faster. oneDNN compiles a kernel for each new number of
  rows, which costs several times the product: so the rows are filled up to few different numbers.
What is chosen follows the processor and the sizes, never a timing, so that a run repeats bit for bit.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Library = Literal["auto", "mkl", "onednn"]
Precision = Literal["fp32", "bf16"]
LARGE = 6_000_000  # multiplications from which bfloat16 is the faster
EVEN = 32  # rows of a bfloat16 product are a multiple of this

_onednn = False
_bf16 = False


@cache
def _processor() -> str:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return ""


@cache
def has_onednn() -> bool:
    """Whether this torch has oneDNN's linear product (private operators, hence the guard)."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    one = torch.eye(2)
    try:
        return torch.equal(_pointwise(one, one), one) and torch.equal(_pointwise(one, _packed(one, 2)), one)
    except (AttributeError, RuntimeError):
        return False


def _pointwise(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x weight^T + bias by oneDNN, in the type of x; weight: as it is or packed."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")  # type: ignore[no-any-return]


def _packed(weight: Tensor, rows: int) -> Tensor:
    """weight in the order in which oneDNN reads it for products of about so many rows."""
    return torch.ops.mkldnn._reorder_linear_weight(weight, rows)  # type: ignore[no-any-return]


def has_bf16() -> bool:
    """Whether the processor multiplies bfloat16 itself."""
    return "avx512_bf16" in _processor() or "amx_bf16" in _processor()


def choose(library: Library = "auto", precision: Precision = "fp32") -> None:
    """Settles every later product of this process and of the processes it forks."""
    global _onednn, _bf16  # noqa: PLW0603
    fitting = "AuthenticAMD" in _processor() and "avx512f" in _processor()
    _onednn = library in ("onednn", "auto") and (library == "onednn" or fitting) and has_onednn()
    _bf16 = precision == "bf16" and has_bf16()


def _rounded(multiply: Callable[..., Tensor], *arguments: Any, **named: Any) -> Tensor:
    """A product of torch with its inputs rounded to bfloat16."""
    torch.set_float32_matmul_precision("medium")
    try:
        return multiply(*arguments, **named)
    finally:
        torch.set_float32_matmul_precision("highest")


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x weight^T + bias without autograd; x: (rows, in), weight: (out, in), bias: (out,) -> (rows, out)."""
    if x.device.type == "cpu" and x.dtype == torch.float32:
        rows = x.shape[0]
        if _bf16 and rows * weight.numel() >= LARGE:
            return _rounded(F.linear, F.pad(x, (0, 0, 0, -rows % EVEN)) if rows % EVEN else x, weight, bias)[:rows]
        if _onednn:
            return _pointwise(x, weight, bias)
    return F.linear(x, weight, bias)


def repeated(weight: Tensor, rows: int) -> Callable[[Tensor, Tensor], Any]:
    """A function of (x, out) that writes x weight^T to out, made ready for many x of so many rows; no autograd."""
    if _bf16 and rows * weight.numel() >= LARGE:
        if has_onednn():
            packed = _packed(weight.bfloat16(), rows)
            return lambda x, out: out.copy_(_pointwise(x.bfloat16(), packed))
        turned = weight.t().contiguous()
        return lambda x, out: _rounded(torch.mm, x, turned, out=out)
    turned = weight.t().contiguous()
    if _onednn:
        straight = weight.contiguous()
        return lambda x, out: out.copy_(product(x, straight))
    return lambda x, out: torch.mm(x, turned, out=out)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return product(x, weight, bias)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (x, weight), gradient = ctx.saved_tensors, gradients[0]  # type: ignore[attr-defined]
        to_x, to_weight, to_bias = ctx.needs_input_grad  # type: ignore[attr-defined]
        return (
            product(gradient, weight.t()) if to_x else None,
            product(gradient.t(), x.t()) if to_weight else None,
            gradient.sum(0) if to_bias else None,
        )


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x weight^T + bias with autograd; x: (..., in), weight: (out, in), bias: (out,) -> (..., out)."""
    if not (_onednn or _bf16):
        return F.linear(x, weight, bias)
    rows = x.reshape(-1, x.shape[-1])
    return _Linear.apply(rows, weight, bias).view(*x.shape[:-1], -1)  # type: ignore[no-untyped-call, no-any-return]
