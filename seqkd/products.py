"""Matrix products: each through the library, the layout and the precision that are fastest there.

- fp32 on AMD with AVX-512 goes through oneDNN; torch's own product is MKL's, which picks AVX2 kernels there and is up
  to 2.3 times slower. On Intel the two are level for large products and MKL is ahead for small ones.
- A product with few rows is up to 1.7 times faster when the weight is transposed in memory, once for many steps; in
  bfloat16 up to 2.5 times when it is converted and packed once.
- bf16: large products round their inputs and their result to bfloat16 and sum in fp32, up to twice as fast where the
  processor has instructions for it; small ones stay in fp32, where they are faster, and logits always do.
- oneDNN compiles a kernel for each new number of rows, which costs several times the product and half a megabyte: so
  the rows are filled up to few different numbers.
- bf16 on a GPU: every product but the logits rounds its inputs and its result; the bias is added in fp32.
- int8: for the search of a model that was exported so. The inputs of a step are states, within (-1, 1).
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
STEPS = 127  # of an int8 number on either side of zero
EVEN = 32  # rows of a bfloat16 or int8 product are a multiple of this

_onednn = False
_bf16 = False  # on a CPU that has it
_bf16_elsewhere = False


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
    global _onednn, _bf16, _bf16_elsewhere  # noqa: PLW0603
    fitting = "AuthenticAMD" in _processor() and "avx512f" in _processor()
    _onednn = library in ("onednn", "auto") and (library == "onednn" or fitting) and has_onednn()
    _bf16 = precision == "bf16" and has_bf16()
    _bf16_elsewhere = precision == "bf16"


def chosen() -> str:
    """What choose has settled for a CPU, in words."""
    library = "oneDNN," if _onednn else "torch's default (MKL in most wheels),"
    return f"matrix products by {library} {'with' if has_bf16() else 'without'} bfloat16 in the processor"


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x weight^T + bias without autograd; x: (rows, in), weight: (out, in), bias: (out,) -> (rows, out)."""
    rows = x.shape[0]
    on_cpu = x.device.type == "cpu"
    large = rows * weight.numel() >= LARGE if on_cpu else True
    if x.dtype != torch.float32 or not large or not (_bf16 if on_cpu else _bf16_elsewhere):
        return exact(x, weight, bias)
    filled = F.pad(x, (0, 0, 0, -rows % EVEN)) if rows % EVEN else x
    rounded = F.linear(filled.bfloat16(), weight.bfloat16())[:rows].float()
    return rounded if bias is None else rounded.add_(bias)


def exact(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """product without any rounding to bfloat16, as the logits need it: theirs would be 3 % of a probability."""
    if _onednn and x.device.type == "cpu" and x.dtype == torch.float32:
        rows = x.shape[0]
        more = -rows % (1 << max(0, rows.bit_length() - 4))  # eight numbers of rows from one power of 2 to the next
        return _pointwise(F.pad(x, (0, 0, 0, more)) if more else x, weight, bias)[:rows]
    return F.linear(x, weight, bias)


def repeated(weight: Tensor, rows: int) -> Callable[[Tensor, Tensor], Any]:
    """A function of (x, out) that writes x weight^T to out, made ready for many x of so many rows; no autograd."""
    if _bf16 and rows * weight.numel() >= LARGE:
        if has_onednn():
            packed = _packed(weight.bfloat16(), rows)
            return lambda x, out: out.copy_(_pointwise(x.bfloat16(), packed))
        half = weight.t().bfloat16().contiguous()
        return lambda x, out: out.copy_(torch.mm(x.bfloat16(), half))
    turned = weight.t().contiguous()
    if _onednn:
        straight = weight.contiguous()
        return lambda x, out: out.copy_(product(x, straight))
    return lambda x, out: torch.mm(x, turned, out=out)


@cache
def has_int8() -> bool:
    """Whether the processor multiplies int8 itself and this torch has oneDNN's product of it (private, as above)."""
    if "vnni" not in _processor():
        return False
    try:
        return bool((quantised(torch.eye(2))(torch.eye(2)) - torch.eye(2)).abs().max() < 0.01)
    except (AttributeError, RuntimeError):
        return False


def quantised(weight: Tensor, bias: Tensor | None = None) -> Callable[[Tensor], Tensor]:
    """A function of x (rows, in) that gives x weight^T + bias in int8, every |x| <= 1; no autograd.

    A row of weight has its own scale, x the scale 1 / STEPS: so a row's product depends on no other row of x, and the
    sums are of integers, exact in any order.
    """
    scale = (weight.abs().amax(1) / STEPS).clamp(min=1e-30)
    steps = (weight / scale[:, None]).round().to(torch.int8)
    packed = torch.ops.onednn.qlinear_prepack(steps, [EVEN, weight.shape[1]])
    even = torch.zeros(len(weight), dtype=torch.int32)

    def times(x: Tensor) -> Tensor:
        rows = len(x)
        rounded = (x * STEPS).add_(STEPS + 1.5).to(torch.uint8)  # cut off, hence the half; the zero is STEPS + 1
        filled = F.pad(rounded, (0, 0, 0, -rows % EVEN)) if rows % EVEN else rounded
        form: tuple[Any, ...] = (scale, even, bias, 1.0, 0, torch.float32, "none", [], "")
        out: Tensor = torch.ops.onednn.qlinear_pointwise(filled, 1.0 / STEPS, STEPS + 1, packed, *form)
        return out[:rows]

    return times


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx, x: Tensor, weight: Tensor, bias: Tensor | None, whole: bool
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        return exact(x, weight, bias) if whole else product(x, weight, bias)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (x, weight), gradient = ctx.saved_tensors, gradients[0]  # type: ignore[attr-defined]
        to_x, to_weight, to_bias, _ = ctx.needs_input_grad  # type: ignore[attr-defined]
        return (
            product(gradient, weight.t()) if to_x else None,
            product(gradient.t(), x.t()) if to_weight else None,
            gradient.sum(0) if to_bias else None,
            None,
        )


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, whole: bool = False) -> Tensor:
    """x weight^T + bias with autograd; x: (..., in), weight: (out, in), bias: (out,) -> (..., out).

    whole: the product itself is not rounded to bfloat16, only those of its gradients.
    """
    if not (_onednn or _bf16_elsewhere):
        return F.linear(x, weight, bias)
    rows = x.reshape(-1, x.shape[-1])
    found: Tensor = _Linear.apply(rows, weight, bias, whole)  # type: ignore[no-untyped-call]
    return found.view(*x.shape[:-1], -1)
