"""Matrix products: each by what computes it fastest, in the precision that was chosen.

- On a CPU by the compiled loops of `tiles`: as fast as the processor multiplies and adds, from a dozen rows on, where
  a library needs hundreds. torch's own, MKL's as a rule, picks AVX2 kernels on AMD, up to 2.3 times slower.
- bf16 on a CPU that has it: inputs are rounded to bfloat16, sums and results are fp32, about twice as fast. Where there
  are matrix tiles (AMX), large products go through torch, which uses them, and round their result too.
- bf16 on a GPU: every product but the logits rounds its inputs and its result; the bias is added in fp32.
- int8: for the search of a model that was exported so. The inputs of a step are states, within (-1, 1).
What is chosen follows the processor and the sizes, never a timing, so that a run repeats bit for bit.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from seqkd import tiles

Library = Literal["auto", "own", "torch"]
Precision = Literal["fp32", "bf16"]
LARGE = 6_000_000  # multiplications from which AMX is the faster
STEPS = 127  # of an int8 number on either side of zero
EVEN = 32  # rows of an int8 product, and of a batch's logits, are a multiple of this

_own = True
_bf16 = False


@cache
def _processor() -> str:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return ""


def has_bf16() -> bool:
    """Whether the processor multiplies bfloat16 itself."""
    return bool(tiles.HAS_PAIRS)


def _has_amx() -> bool:
    return "amx_bf16" in _processor()


def choose(library: Library = "auto", precision: Precision = "fp32") -> None:
    """Settles every later product of this process and of the processes it forks."""
    global _own, _bf16
    _own, _bf16 = library != "torch", precision == "bf16"


def chosen() -> str:
    """What choose has settled for a CPU, in words."""
    library = "seqkd's own loops" if _own else "torch"
    return f"matrix products by {library}, {'bfloat16' if _bf16 and has_bf16() else 'float32'}"


def panels(weight: Tensor) -> NDArray[Any]:
    """weight (out, in), any strides, as the right side x weight^T of tiles.times, in the precision that was chosen."""
    depth, columns = weight.shape[1], weight.shape[0]
    pairs = _bf16 and has_bf16() and depth % 2 == 0
    form = (-(-columns // tiles.WIDE), depth // 2 if pairs else depth, tiles.WIDE)
    found = np.zeros(form, np.int32 if pairs else np.float32)
    tiles.fill(weight.detach().numpy().T, found)
    return found


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, whole: bool = False) -> Tensor:
    """x weight^T + bias without autograd; x: (rows, in), weight: (out, in), bias: (out,) -> (rows, out).

    whole: the result is not rounded to bfloat16, as the logits need it: that would be 3 % of a probability.
    """
    if x.dtype != torch.float32:
        return F.linear(x, weight, bias)
    on_cpu = x.device.type == "cpu"
    rounded = _bf16 and not whole
    if on_cpu:
        rounded = rounded and has_bf16() and (not _own or _has_amx()) and len(x) * weight.numel() >= LARGE
    if rounded:
        filled = F.pad(x, (0, 0, 0, -len(x) % EVEN)) if len(x) % EVEN else x  # a kernel is compiled for each number
        found = F.linear(filled.bfloat16(), weight.bfloat16())[: len(x)].float()
        return found if bias is None else found.add_(bias)
    return fixed(weight, bias)(x) if on_cpu and _own else F.linear(x, weight, bias)


def fixed(weight: Tensor, bias: Tensor | None = None) -> Callable[[Tensor], Tensor]:
    """x weight^T + bias as a function of x (rows, in), float32 on a CPU, with the weight made ready for many x."""
    right, start = panels(weight), np.zeros(-(-len(weight) // tiles.WIDE) * tiles.WIDE, np.float32)
    if bias is not None:
        start[: len(bias)] = bias.detach().numpy()

    def times(x: Tensor) -> Tensor:
        out = torch.empty(len(x), len(weight))
        tiles.times(_left(x.detach().numpy(), like=right), right, start, out.numpy())
        return out

    return times


def _left(x: NDArray[np.float32], *, like: NDArray[Any]) -> NDArray[Any]:
    """x (rows, in) as the left side of tiles.times with these panels."""
    if like.dtype == np.float32:
        return x
    rows, depth = x.shape
    if x.strides[0] < x.strides[1]:
        down = np.empty((depth // 2, rows), np.int32)
        tiles.paired_down(x.T, down)
        return down.T
    out = np.empty((rows, depth // 2), np.int32)
    tiles.paired(x, out)
    return out


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
        return product(x, weight, bias, whole=whole)

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
    """product with autograd; x: (..., in) -> (..., out)."""
    rows = x.reshape(-1, x.shape[-1])
    found: Tensor = _Linear.apply(rows, weight, bias, whole)  # type: ignore[no-untyped-call]
    return found.view(*x.shape[:-1], -1)
