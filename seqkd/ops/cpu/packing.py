# mypy: disable-error-code="no-untyped-def, no-untyped-call, call-arg, var-annotated"
"""Packing for the GEMM: a matrix to panels, x to the numbers that one instruction multiplies; and quantization.

Sizes: M rows, N columns, K depth, P = N / PANEL_COLUMNS rounded up.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

from seqkd.ops.cpu.target import FLAGS, INLINE, LANES
from seqkd.utils.jit import compiler

jit, jit_inline = compiler(__name__, **FLAGS), compiler(__name__, **INLINE)

INT8_MAX = 127  # of a number quantized to 8 bits, on either side of zero
VECTORS = 2  # of a micro-kernel's row
PANEL_COLUMNS = LANES * VECTORS


@intrinsic
def float_bits(_, value):
    """Return the bits of a float32 as int32."""

    def generate(__, builder, ___, arguments):
        return builder.bitcast(arguments[0], ir.IntType(32))

    return types.int32(types.float32), generate


@intrinsic
def float_of_bits(_, bits):
    """Return the float32 that has the bits of an int32."""

    def generate(__, builder, ___, arguments):
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.int32), generate


@jit_inline
def _round_bf16(bits):
    """Return the bits of a float32 with the upper half rounded to the nearest bfloat16, ties to even.

    Infinity is kept, and NaN as x86 makes it. The lower half is left.
    """
    return bits + np.int32(0x7FFF) + ((bits >> np.int32(16)) & np.int32(1))


@jit_inline
def _bf16_pair(low, high):
    """Return two float32 numbers rounded to bfloat16."""
    low_bits = np.int32(0xFFFF)
    first, second = _round_bf16(float_bits(low)), _round_bf16(float_bits(high))
    return ((first >> np.int32(16)) & low_bits) | (second & ~low_bits)


@jit
def pack_bf16(matrix, out):
    """Pack x: matrix (M, K), K even, to pairs in out (M, K / 2) int32."""
    for m in range(out.shape[0]):
        for k in range(out.shape[1]):
            out[m, k] = _bf16_pair(matrix[m, 2 * k], matrix[m, 2 * k + 1])


@jit
def round_bf16(matrix, out):
    """Round x: matrix (M, K), any strides, to the nearest bfloat16 in out (M, K) float32."""
    for m in range(out.shape[0]):
        for k in range(out.shape[1]):
            out[m, k] = float_of_bits(_round_bf16(float_bits(matrix[m, k])) & ~np.int32(0xFFFF))


@jit
def pack_bf16_rows(matrix, out):
    """Pack a transposed x: matrix (K, M), K even, to pairs of adjacent rows in out (K / 2, M) int32."""
    for k in range(out.shape[0]):
        for m in range(out.shape[1]):
            out[k, m] = _bf16_pair(matrix[2 * k, m], matrix[2 * k + 1, m])


def _packed_element(matrix, k, n, panels):
    """Return what panels hold for step k and column n of matrix (K, N): a number, or for int32 panels a pair."""


@overload(_packed_element, inline="always")
def _packed_element_by_type(matrix, k, n, panels):
    if panels.dtype == types.float32:
        return lambda matrix, k, n, panels: matrix[k, n]
    return lambda matrix, k, n, panels: _bf16_pair(matrix[2 * k, n], matrix[2 * k + 1, n])


@jit
def pack(matrix, panels):
    """Pack matrix (K, N), of any strides, K even for pairs, into panels; their columns beyond N keep their values."""
    depth, transposed = panels.shape[1], matrix.strides[0] < matrix.strides[1]
    odd = ((depth + 15) // 16 | 1) * 16  # an odd number of cache lines, so that W lines do not share cache sets
    lines = np.empty((PANEL_COLUMNS, odd if transposed else 0), panels.dtype)
    for p in range(panels.shape[0]):
        width = min(PANEL_COLUMNS, matrix.shape[1] - p * PANEL_COLUMNS)
        if transposed:  # read in the order of memory, then transpose what is in the near cache
            for c in range(width):
                for k in range(depth):
                    lines[c, k] = _packed_element(matrix, k, p * PANEL_COLUMNS + c, panels)
            for k in range(depth):
                for c in range(width):
                    panels[p, k, c] = lines[c, k]
        else:
            for k in range(depth):
                for c in range(width):
                    panels[p, k, c] = _packed_element(matrix, k, p * PANEL_COLUMNS + c, panels)


@jit
def quantize_u8(matrix, out):
    """Quantize x: matrix (M, K) within (-1, 1), K a multiple of 4, to out (M, K / 4) uint32; 0 becomes INT8_MAX + 1."""
    scale, zero = np.float32(INT8_MAX), np.float32(INT8_MAX + 1.5)  # half more, as conversion to int rounds down
    for m in range(out.shape[0]):
        for k in range(out.shape[1]):
            one = np.uint32(np.int32(matrix[m, 4 * k] * scale + zero))
            two = np.uint32(np.int32(matrix[m, 4 * k + 1] * scale + zero))
            three = np.uint32(np.int32(matrix[m, 4 * k + 2] * scale + zero))
            four = np.uint32(np.int32(matrix[m, 4 * k + 3] * scale + zero))
            out[m, k] = one | (two << np.uint32(8)) | (three << np.uint32(16)) | (four << np.uint32(24))


@jit
def dequantize(out, scale, bias):
    """Convert out (M, N) in place from the bits of int32 sums to numbers: sum * scale + bias, both (N or more,)."""
    for m in range(out.shape[0]):
        line = out[m]
        for n in range(line.size):
            line[n] = np.float32(float_bits(line[n])) * scale[n] + bias[n]
