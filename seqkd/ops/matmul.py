"""Matrix products: each by what computes it fastest, in the precision that was chosen.

- On a CPU by the compiled loops of `tiles`: as fast as the processor multiplies and adds, from a dozen rows on, where
  a library needs hundreds. torch's own, MKL's as a rule, picks AVX2 kernels on AMD, up to 2.3 times slower.
- bf16 on a CPU that has it: inputs are rounded to bfloat16, sums and results are fp32, about twice as fast on Zen 5.
  There is one kind of product for every size, so a row's bits depend on no other row. torch's, with its matrix tiles
  (AMX), rounds results and changes kernels with the size, so it is used only for `matmul_backend: torch`.
- bf16 on a GPU: inputs are rounded, sums and results are fp32, as on a CPU (before torch 2.8 results are rounded too,
  but for the logits, which are not rounded at all).
- int8: for the search of a model that was exported so, where the processor has it, up to twice as fast again. The
  inputs of a step are states, within (-1, 1).
What is chosen follows the processor and the sizes, never a timing, so that a run repeats bit for bit.
"""

from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from seqkd.ops.cpu import gemm

Backend = Literal["auto", "own", "torch"]
Precision = Literal["fp32", "bf16"]
FP32_RESULTS = hasattr(torch.ops.aten.mm, "dtype")  # torch gives products of bfloat16 in fp32, on a GPU
ROW_MULTIPLE = 32  # rows of a batch's logits are a multiple of this

_own = True
_bf16 = False


@cache
def cpuinfo() -> str:
    """What Linux says of the processor, flags and all; elsewhere nothing."""
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return ""


def has_bf16() -> bool:
    """Whether the processor multiplies bfloat16 itself."""
    return bool(gemm.HAS_BF16)


def set_backend(library: Backend = "auto", precision: Precision = "fp32") -> None:
    """Settles every later product of this process and of the processes it forks."""
    global _own, _bf16
    _own, _bf16 = library != "torch", precision == "bf16"


def uses_own_gemm() -> bool:
    """Whether choose has settled that on a CPU every product is the compiled loops', whatever its size."""
    return _own


def describe_backend() -> str:
    """What choose has settled for a CPU, in words."""
    library = "seqkd's own loops" if _own else "torch"
    return f"matrix products by {library}, {'bfloat16' if _bf16 and has_bf16() else 'float32'}"


def pack_panels(weight: Tensor) -> NDArray[Any]:
    """weight (out, in), any strides, as the right side x weight^T of tiles.times, in the precision that was chosen."""
    depth, columns = weight.shape[1], weight.shape[0]
    pairs = _bf16 and has_bf16() and depth % 2 == 0
    form = (-(-columns // gemm.PANEL_COLUMNS), depth // 2 if pairs else depth, gemm.PANEL_COLUMNS)
    found = (np.zeros if columns % gemm.PANEL_COLUMNS else np.empty)(form, np.int32 if pairs else np.float32)
    gemm.pack(weight.detach().numpy().T, found)
    return found


class PackedWeight(NamedTuple):
    """A weight (out, in) as compiled code multiplies with it: what tiles.product takes. P x W >= out."""

    panels: NDArray[Any]  # (P, in or half or a quarter of it, W)
    start: NDArray[Any]  # (P x W,), the bias, or for int8 what undoes the zero of its inputs
    scale: NDArray[np.float32]  # (2, P x W): for int8 the value of a step, and the bias

    @classmethod
    def pack(cls, weight: Tensor, bias: Tensor | None = None) -> Self:
        """In the precision that was chosen."""
        right = pack_panels(weight)
        start = np.zeros(len(right) * gemm.PANEL_COLUMNS, np.float32)
        if bias is not None:
            start[: len(bias)] = bias.detach().numpy()
        return cls(right, start, np.empty((2, 0), np.float32))

    @classmethod
    def quantize(cls, weight: Tensor, bias: Tensor | None = None) -> Self:
        """In int8: a row has its own scale, x, which is within (-1, 1), the scale 1 / STEPS. Sums are exact."""
        out, depth = weight.shape
        step = (weight.detach().abs().amax(1) / gemm.INT8_MAX).clamp(min=1e-30)
        steps = (weight.detach() / step[:, None]).round().to(torch.int8).numpy()
        form = (-(-out // gemm.PANEL_COLUMNS), depth // 4, gemm.PANEL_COLUMNS)
        columns = np.zeros((form[0] * gemm.PANEL_COLUMNS, depth), np.int8)
        columns[:out] = steps
        four = columns.view(np.uint32)  # four numbers that follow each other along the depth
        right = np.ascontiguousarray(four.reshape(form[0], gemm.PANEL_COLUMNS, form[1]).transpose(0, 2, 1))
        scale = np.zeros((2, len(columns)), np.float32)
        scale[0, :out] = (step / gemm.INT8_MAX).numpy()
        if bias is not None:
            scale[1, :out] = bias.detach().numpy()
        return cls(right, -(gemm.INT8_MAX + 1) * columns.sum(1, dtype=np.int32), scale)

    def apply(self, x: Tensor, columns: int) -> Tensor:
        """x (rows, in), whose rows are contiguous, -> (rows, columns)"""
        out = torch.empty(len(x), columns)
        gemm.gemm_call(x.detach().numpy(), *self, out.numpy())
        return out


def supports_int8(hidden: int) -> bool:
    """Whether the processor multiplies int8 itself, and a network of this size in it: four numbers at once."""
    return bool(gemm.HAS_INT8) and hidden % 4 == 0


def matmul_nt(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, whole: bool = False) -> Tensor:
    """x weight^T + bias without autograd; x: (rows, in), weight: (out, in), bias: (out,) -> (rows, out).

    whole: the result is not rounded to bfloat16, as the logits need it: that would be 3 % of a probability.
    """
    if x.is_cuda and (x.dtype == torch.bfloat16 or (_bf16 and x.dtype == torch.float32)):
        if whole and not FP32_RESULTS:
            return F.linear(x, weight, bias)
        matmul_out(out := x.new_empty(len(x), len(weight), dtype=torch.float32), x.bfloat16(), weight.bfloat16())
        return out if bias is None else out.add_(bias)
    if x.is_cuda or x.dtype != torch.float32:
        return F.linear(x, weight, bias)
    if not _own and _bf16 and not whole and has_bf16():
        filled = (
            F.pad(x, (0, 0, 0, -len(x) % ROW_MULTIPLE)) if len(x) % ROW_MULTIPLE else x
        )  # a kernel is compiled for each number
        found = F.linear(filled.bfloat16(), weight.bfloat16())[: len(x)].float()
        return found if bias is None else found.add_(bias)
    if not _own:
        return F.linear(x, weight, bias)
    right, out = PackedWeight.pack(weight, bias), torch.empty(len(x), len(weight))
    gemm.gemm_packed(_pack_left(x.detach().numpy(), like=right.panels), right.panels, right.start, out.numpy())
    return out


def cast_weight(weight: Tensor) -> Tensor:
    """A weight as the loops on a GPU multiply with it: rounded to bfloat16 where that was chosen."""
    return weight.detach().bfloat16() if _bf16 and weight.is_cuda and weight.dtype == torch.float32 else weight.detach()


def matmul_out(out: Tensor, x: Tensor, weight: Tensor) -> None:
    """x weight^T by torch, x and weight both rounded or neither, to out, which is not."""
    if x.dtype == out.dtype:
        torch.mm(x, weight.t(), out=out)
    elif FP32_RESULTS:
        torch.mm(x, weight.t(), out_dtype=out.dtype, out=out)
    else:
        out.copy_(torch.mm(x, weight.t()))


def _pack_left(x: NDArray[np.float32], *, like: NDArray[Any]) -> NDArray[Any]:
    """x (rows, in) as the left side of tiles.times with these panels."""
    if like.dtype == np.float32:
        return x
    rows, depth = x.shape
    if x.strides[0] < x.strides[1]:
        down = np.empty((depth // 2, rows), np.int32)
        gemm.pack_bf16_rows(x.T, down)
        return down.T
    out = np.empty((rows, depth // 2), np.int32)
    gemm.pack_bf16(x, out)
    return out


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx, x: Tensor, weight: Tensor, bias: Tensor | None, whole: bool
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        return matmul_nt(x, weight, bias, whole=whole)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (x, weight), gradient = ctx.saved_tensors, gradients[0]  # type: ignore[attr-defined]
        to_x, to_weight, to_bias, _ = ctx.needs_input_grad  # type: ignore[attr-defined]
        return (
            matmul_nt(gradient, weight.t()) if to_x else None,
            matmul_nt(gradient.t(), x.t()) if to_weight else None,
            gradient.sum(0) if to_bias else None,
            None,
        )


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, whole: bool = False) -> Tensor:
    """product with autograd; x: (..., in) -> (..., out)."""
    rows = x.reshape(-1, x.shape[-1])
    found: Tensor = _Linear.apply(rows, weight, bias, whole)  # type: ignore[no-untyped-call]
    return found.view(*x.shape[:-1], -1)
