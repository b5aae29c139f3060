"""Matrix products: on a CPU in fp32 through whichever library is faster there, MKL or oneDNN.

torch's own fp32 product is MKL's, which picks AVX2 kernels on AMD processors; oneDNN, in the same wheel, picks AVX-512
and is up to 2.3 times faster there. On Intel the two are level for large products and MKL is ahead for small ones.
The choice follows the processor, not a timing, so that a run repeats bit for bit.
"""

from functools import cache
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Library = Literal["auto", "mkl", "onednn"]
_use_onednn = False


@cache
def onednn_is_faster() -> bool:
    """Whether this is an AMD processor with AVX-512 and this torch has the oneDNN product."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return "AuthenticAMD" in text and "avx512f" in text and available()


def available() -> bool:
    """Whether this torch has oneDNN's linear product (a private operator, hence the guard)."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    try:
        probe = torch.ops.mkldnn._linear_pointwise(torch.eye(2), torch.eye(2), None, "none", [], "")
    except (AttributeError, RuntimeError):
        return False
    return bool(torch.equal(probe, torch.eye(2)))


def choose(library: Library) -> None:
    """Sets the library for every later product of this process (and of the processes it forks)."""
    global _use_onednn  # noqa: PLW0603
    _use_onednn = available() if library == "onednn" else library == "auto" and onednn_is_faster()


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x weight^T + bias without autograd; x: (rows, in), weight: (out, in), bias: (out,) -> (rows, out)."""
    if _use_onednn and x.device.type == "cpu" and x.dtype == torch.float32:
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")  # type: ignore[no-any-return]
    return F.linear(x, weight, bias)


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
    if not _use_onednn:
        return F.linear(x, weight, bias)
    rows = x.reshape(-1, x.shape[-1])
    return _Linear.apply(rows, weight, bias).view(*x.shape[:-1], -1)  # type: ignore[no-untyped-call, no-any-return]
