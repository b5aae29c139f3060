"""Matrix products (GEMM), each by the fastest code for it, in the precision that was set.

- On a CPU, seqkd's own compiled loops (`seqkd.ops.cpu.gemm`): as fast as the processor multiplies and adds, from a
  dozen rows on, where a library needs hundreds. torch's library, as a rule MKL, chooses AVX2 kernels on AMD, up to 2.3
  times slower.
- bf16 on a CPU: inputs are rounded to bfloat16, sums and results are fp32. About twice as fast on Zen 5; Intel's matrix
  tiles (AMX) compute it where there are any (`seqkd.ops.cpu.gemm_tiles`); other processors compute it as fp32, from
  weights of half the size. Without tiles a product of odd depth stays in fp32. Any number of rows takes the same kind
  of product, so a row's bits depend on no other row. torch rounds results and changes kernels with the size, so it is
  used only for `matmul_backend: torch`.
- bf16 on a GPU: inputs are rounded, sums and results are fp32, as on a CPU (before torch 2.8 results are rounded too,
  except the logits, whose products are fp32).
- int8: for the search of a model that was exported so, on a processor that has it, up to twice as fast again. The
  inputs of a step are states, within (-1, 1).

The choice follows the processor and the sizes, never a timing, so that a run repeats bit for bit.
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from seqkd.ops.cpu import amx, gemm, gemm_tiles, packing, target

Backend = Literal["auto", "own", "torch"]
Precision = Literal["fp32", "bf16"]
FP32_RESULTS = hasattr(torch.ops.aten.mm, "dtype")  # on a GPU, torch can return products of bfloat16 in fp32
ROW_MULTIPLE = 32  # rows of a batch's logits are a multiple of this

_own = True
_bf16 = False


def bf16_is_faster() -> bool:
    """Return whether this CPU's products are faster in bfloat16 than in float32: by tiles, or by AMD's vectors."""
    return amx.usable("bf16") or target.MULTIPLIES_PAIRS


def supports_int8(hidden: int) -> bool:
    """Return whether the own loops multiply a network of this size in int8, as the processor does: four at a time."""
    return _own and hidden % 4 == 0 and (bool(target.HAS_INT8) or amx.usable("int8"))


def set_backend(backend: Backend = "auto", precision: Precision = "fp32") -> None:
    """Set backend and precision of all later products of this process and of those it forks."""
    global _own, _bf16
    _own, _bf16 = backend != "torch", precision == "bf16"


def uses_own_gemm() -> bool:
    """Return whether every float32 product on a CPU is computed by seqkd's own loops."""
    return _own


def uses_tiles() -> bool:
    """Return whether Intel's matrix tiles (AMX) compute the products of the compiled loops, in bfloat16."""
    return _bf16 and amx.usable("bf16")


def describe_backend() -> str:
    """Return in words what computes products on a CPU."""
    backend = "seqkd's own loops" if _own else "torch"
    if _own and uses_tiles():
        backend += " and matrix tiles (AMX)"
    described = f"matrix products by {backend}, {'bfloat16' if _bf16 else 'float32'}"
    return f"{described}; {cost}" if (cost := precision_cost("bf16" if _bf16 else "fp32")) else described


def precision_cost(precision: Precision) -> str:
    """Return in words what bf16 costs on this CPU; "" for fp32, and where bf16 is faster."""
    if precision == "fp32" or bf16_is_faster():
        return ""
    return "precision bf16 gains little on this processor, and small networks lose a tenth of their speed by it"


def matmul_nt(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, keep_fp32: bool = False) -> Tensor:
    """Return x weight^T + bias (rows, out), without autograd; x: (rows, in), weight: (out, in), bias: (out,).

    keep_fp32: never round the result to bfloat16. The logits need this: rounding would be 3 % of a probability.
    """
    if x.is_cuda:
        return _matmul_on_gpu(x, weight, bias, keep_fp32=keep_fp32)
    if x.dtype != torch.float32:
        return F.linear(x, weight, bias)
    if _own:
        return _matmul_by_own_gemm(x, weight, bias)
    return _matmul_by_torch(x, weight, bias, keep_fp32=keep_fp32)


def _matmul_on_gpu(x: Tensor, weight: Tensor, bias: Tensor | None, *, keep_fp32: bool) -> Tensor:
    rounds = x.dtype == torch.bfloat16 or (_bf16 and x.dtype == torch.float32)
    if not rounds or (keep_fp32 and not FP32_RESULTS):
        return F.linear(x, weight, bias)
    out = x.new_empty(len(x), len(weight), dtype=torch.float32)
    matmul_out(out, x.bfloat16(), weight.bfloat16())
    return out if bias is None else out.add_(bias)


def _matmul_by_own_gemm(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    packed, out = PackedWeight.pack(weight, bias), torch.empty(len(x), len(weight))
    if packed.panels.ndim == 4:  # of tiles, for which `gemm` packs x of any strides
        gemm.gemm_call(x.detach().numpy(), *packed, out.numpy())
        return out
    gemm.gemm_packed(_pack_rows(x.detach().numpy(), like=packed.panels), packed.panels, packed.bias, out.numpy())
    return out


def _matmul_by_torch(x: Tensor, weight: Tensor, bias: Tensor | None, *, keep_fp32: bool) -> Tensor:
    if keep_fp32 or not _bf16:
        return F.linear(x, weight, bias)
    if not target.HAS_BF16:  # torch would take many times as long
        return F.linear(x.bfloat16().float(), weight.bfloat16().float(), bias)
    # torch compiles a kernel for each number of rows
    padded = F.pad(x, (0, 0, 0, -len(x) % ROW_MULTIPLE)) if len(x) % ROW_MULTIPLE else x
    out = F.linear(padded.bfloat16(), weight.bfloat16())[: len(x)].float()
    return out if bias is None else out.add_(bias)


def cast_weight(weight: Tensor) -> Tensor:
    """Return a weight as the loops on a GPU multiply with it: rounded to bfloat16 if that precision is set."""
    return weight.detach().bfloat16() if _bf16 and weight.is_cuda and weight.dtype == torch.float32 else weight.detach()


def matmul_out(out: Tensor, x: Tensor, weight: Tensor) -> None:
    """Write x weight^T to out, by torch; x and weight have the same type, that of out or bfloat16."""
    if x.dtype == out.dtype:
        torch.mm(x, weight.t(), out=out)
    elif FP32_RESULTS:
        torch.mm(x, weight.t(), out_dtype=out.dtype, out=out)
    else:
        out.copy_(torch.mm(x, weight.t()))


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, keep_fp32: bool = False) -> Tensor:
    """Return `matmul_nt` (..., out) with autograd; x: (..., in)."""
    rows = x.reshape(-1, x.shape[-1])
    out: Tensor = _Linear.apply(rows, weight, bias, keep_fp32)  # type: ignore[no-untyped-call]
    return out.view(*x.shape[:-1], -1)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx, x: Tensor, weight: Tensor, bias: Tensor | None, keep_fp32: bool
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        return matmul_nt(x, weight, bias, keep_fp32=keep_fp32)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (x, weight), gradient = ctx.saved_tensors, gradients[0]  # type: ignore[attr-defined]
        needs_x, needs_weight, needs_bias, _ = ctx.needs_input_grad  # type: ignore[attr-defined]
        return (
            matmul_nt(gradient, weight.t()) if needs_x else None,
            matmul_nt(gradient.t(), x.t()) if needs_weight else None,
            gradient.sum(0) if needs_bias else None,
            None,
        )


class PackedWeight(NamedTuple):
    """A weight (out, in) packed for `gemm.gemm`; W = PANEL_COLUMNS, P x W >= out."""

    panels: NDArray[Any]  # (P, in, W), or half or a quarter of in; those of `gemm_tiles` have an axis more
    bias: NDArray[Any]  # (P x W,); for int8 the correction for the zero of its inputs
    scale: NDArray[np.float32]  # (2, P x W), for int8 alone: the factors and biases of the results

    @classmethod
    def pack(cls, weight: Tensor, bias: Tensor | None = None) -> Self:
        """Pack a weight in the precision that is set."""
        panels = pack_panels(weight)
        padded_bias = np.zeros(len(panels) * packing.PANEL_COLUMNS, np.float32)
        if bias is not None:
            padded_bias[: len(bias)] = bias.detach().numpy()
        return cls(panels, padded_bias, np.empty((2, 0), np.float32))

    @classmethod
    def quantize(cls, weight: Tensor, bias: Tensor | None = None) -> Self:
        """Quantize a weight to int8 and pack it: each row has its own scale, x within (-1, 1) the scale 1 / INT8_MAX.

        Sums are exact.
        """
        out, depth = weight.shape
        row_scale = (weight.detach().abs().amax(1) / packing.INT8_MAX).clamp(min=1e-30)
        shape = (-(-out // packing.PANEL_COLUMNS), depth // 4, packing.PANEL_COLUMNS)
        columns = np.zeros((shape[0] * packing.PANEL_COLUMNS, depth), np.int8)
        columns[:out] = (weight.detach() / row_scale[:, None]).round().to(torch.int8).numpy()
        quads = columns.view(np.uint32)  # four numbers that are adjacent along the depth
        panels = np.ascontiguousarray(quads.reshape(shape[0], packing.PANEL_COLUMNS, shape[1]).transpose(0, 2, 1))
        panels = gemm_tiles.in_steps(panels) if amx.usable("int8") else panels
        scale = np.zeros((2, len(columns)), np.float32)
        scale[0, :out] = (row_scale / packing.INT8_MAX).numpy()
        if bias is not None:
            scale[1, :out] = bias.detach().numpy()
        return cls(panels, -(packing.INT8_MAX + 1) * columns.sum(1, dtype=np.int32), scale)

    @classmethod
    def stack(cls, weights: Sequence[Self]) -> Self:
        """Stack the fields of packed weights of one size."""
        return cls(*map(np.stack, zip(*weights, strict=True)))

    def apply(self, x: Tensor, columns: int) -> Tensor:
        """Return x weight^T + bias (rows, columns); x: (rows, in), each row contiguous; columns: out."""
        out = torch.empty(len(x), columns)
        gemm.gemm_call(x.detach().numpy(), *self, out.numpy())
        return out


def pack_panels(weight: Tensor) -> NDArray[Any]:
    """Return the panels of weight (out, in), any strides, for products x weight^T in the precision that is set."""
    tiles = uses_tiles()
    if tiles and weight.shape[1] % 2:
        weight = F.pad(weight, (0, 1))
    depth, columns = weight.shape[1], weight.shape[0]
    pairs = _bf16 and depth % 2 == 0
    shape = (-(-columns // packing.PANEL_COLUMNS), depth // 2 if pairs else depth, packing.PANEL_COLUMNS)
    panels = (np.zeros if columns % packing.PANEL_COLUMNS else np.empty)(shape, np.int32 if pairs else np.float32)
    packing.pack(weight.detach().numpy().T, panels)
    return gemm_tiles.in_steps(panels) if tiles else panels


def _pack_rows(x: NDArray[np.float32], *, like: NDArray[Any]) -> NDArray[Any]:
    """Return x (rows, in), any strides, packed for a product with these panels."""
    if like.dtype == np.float32 or not target.MULTIPLIES_PAIRS:
        return x
    rows, depth = x.shape
    if x.strides[0] < x.strides[1]:
        packed = np.empty((depth // 2, rows), np.int32)
        packing.pack_bf16_rows(x.T, packed)
        return packed.T
    packed = np.empty((rows, depth // 2), np.int32)
    packing.pack_bf16(x, packed)
    return packed
