# mypy: disable-error-code="no-untyped-def, no-untyped-call, call-arg"
"""GEMM by the matrix tiles of Intel's AMX: out = x matrix + bias, in bfloat16 or int8, as `seqkd.ops.cpu.gemm` has it.

A kernel computes 32 rows and PANEL_COLUMNS columns of out, whose sums stay in tiles 0 to 3. For each step along the
depth it loads two tiles of x, 4 and 5, and two of the panel, 6 and 7. Sizes: M rows, N columns, D steps of 16 lines,
P = N / 32 rounded up.

- The panels have an axis more than those of `gemm`, by which compiled code tells them apart: (P, D, 16, 32). Their
  lines are those of `gemm`, pairs of bfloat16 or four of 8 bits, followed by zeros up to a whole step.
- x (M, 16 D) is packed likewise; a row's numbers are adjacent.
- Rows come in groups of one size, of at most 32; the last group begins where it ends with the last row. So no row is
  padded, and some are computed twice.
- An element is the bias, to which each step adds the sum of its 16 even products plus that of its 16 odd ones, in
  float32: so Intel's manual describes the instruction. Where the depth is split for the caches, the sums between are
  kept as they are. So a row's bits depend on no other row, and on no size but the depth.

The sizes of blocks follow from the caches of these processors, 48 KB and 2 MB a core; they were not measured.
"""

from typing import Any

import numpy as np
from numba import types
from numba.extending import overload
from numpy.typing import NDArray

from seqkd.ops.cpu import tiles
from seqkd.ops.cpu.packing import PANEL_COLUMNS, pack_bf16, pack_bf16_rows, quantize_u8
from seqkd.ops.cpu.target import FAST, FLAGS
from seqkd.utils.jit import compiler

jit = compiler(__name__, **FLAGS)

LINES = 16  # of a panel, in a step along the depth
GROUP = 2 * tiles.ROWS  # rows of x
FAR_BLOCK = 1 << 17  # numbers of x, 512 KB, that stay in the far cache while all panels pass by
NEAR_STEPS = 8  # of a panel and of a group, 16 KB each, that stay in the near cache together
FEW_GROUPS = 4  # of fewer the panel is not read often enough to be worth splitting the depth
PACKED_ROWS = 64  # of x that are transposed at once


def in_steps(panels: NDArray[Any]) -> NDArray[Any]:
    """Return panels (P, K, 32) of `gemm` as those of tiles: (P, D, 16, 32), with lines of zeros after the last one."""
    count, lines, width = panels.shape
    padded = np.pad(panels, ((0, 0), (0, -lines % LINES), (0, 0))) if lines % LINES else np.ascontiguousarray(panels)
    return padded.reshape(count, -1, LINES, width)


@jit
def new_rows(rows, steps):
    """Return an array (M, 16 D) int32 for packed x, at a cache line, rows an odd number of lines apart.

    So a tile's row lies in one line, and the rows of a tile do not share cache sets.
    """
    stride = (steps | 1) * LINES
    memory = np.empty(rows * stride + LINES, np.int32)
    first = (-(memory.ctypes.data // 4)) % LINES
    return memory[first : first + rows * stride].reshape(rows, stride)[:, : steps * LINES]


@jit
def pack_rows_bf16(matrix, out):
    """Pack x: matrix (M, K), any strides, to pairs in out (M, 16 D) int32, zeros beyond them."""
    rows, depth = matrix.shape
    pairs = depth // 2
    if matrix.strides[0] < matrix.strides[1]:
        _pack_transposed(matrix.T, out)
    else:
        pack_bf16(matrix, out[:, :pairs])
    out[:, pairs:] = 0
    if depth % 2:
        last = np.zeros((rows, 2), np.float32)
        last[:, 0] = matrix[:, depth - 1]
        pack_bf16(last, out[:, pairs : pairs + 1])


@jit
def _pack_transposed(matrix, out):
    """Pack matrix (K, M) to pairs in out (M, K / 2 or more): read in the order of memory, turned in a near cache."""
    pairs, rows = matrix.shape[0] // 2, matrix.shape[1]
    lines = np.empty((LINES, PACKED_ROWS), np.int32)
    for k in range(0, pairs, LINES):
        depth = min(LINES, pairs - k)
        for m in range(0, rows, PACKED_ROWS):
            count = min(PACKED_ROWS, rows - m)
            pack_bf16_rows(matrix[2 * k : 2 * (k + depth), m : m + count], lines[:depth, :count])
            for r in range(count):
                for line in range(depth):
                    out[m + r, k + line] = lines[line, r]


@jit
def pack_rows_int8(matrix, out):
    """Quantize x: matrix (M, K), K a multiple of 4, to out (M, 16 D) uint32, zeros beyond it."""
    quads = matrix.shape[1] // 4
    quantize_u8(matrix, out[:, :quads])
    out[:, quads:] = 0


@jit
def _load_sums(tall, array, at, stride):
    tiles.load(0, array, at, stride)
    tiles.load(1, array, at + tiles.WIDTH, stride)
    if tall:
        tiles.load(2, array, at + tiles.ROWS * stride, stride)
        tiles.load(3, array, at + tiles.ROWS * stride + tiles.WIDTH, stride)


@jit
def _store_sums(tall, array, at, stride):
    tiles.store(0, array, at, stride)
    tiles.store(1, array, at + tiles.WIDTH, stride)
    if tall:
        tiles.store(2, array, at + tiles.ROWS * stride, stride)
        tiles.store(3, array, at + tiles.ROWS * stride + tiles.WIDTH, stride)


@jit
def _group(tall, x, x_at, x_stride, panels, panel_at, steps, bias, bias_at, sums, sums_at, out, out_at, stride):
    """Compute a group over some steps; tall: of more than 16 rows. bias_at -1: sums go on; out_at -1: they stay."""
    if bias_at >= 0:
        _load_sums(tall, bias, bias_at, 0)
    else:
        _load_sums(tall, sums, sums_at, PANEL_COLUMNS)
    for step in range(steps):
        at, line = x_at + step * LINES, panel_at + step * LINES * PANEL_COLUMNS
        tiles.load(4, x, at, x_stride)
        tiles.load(6, panels, line, PANEL_COLUMNS)
        tiles.multiply(0, 4, 6, x)
        tiles.load(7, panels, line + tiles.WIDTH, PANEL_COLUMNS)
        tiles.multiply(1, 4, 7, x)
        if tall:
            tiles.load(5, x, at + tiles.ROWS * x_stride, x_stride)
            tiles.multiply(2, 5, 6, x)
            tiles.multiply(3, 5, 7, x)
    if out_at >= 0:
        _store_sums(tall, out, out_at, stride)
    else:
        _store_sums(tall, sums, sums_at, PANEL_COLUMNS)


@jit
def tile_shape(size):
    """Return the 64 bytes that give each tile its rows and its 64 bytes a row, for groups of so many rows."""
    shape = np.zeros(64, np.uint8)
    shape[0] = 1  # the palette
    shape[16:32:2] = 4 * tiles.WIDTH
    shape[48:56] = tiles.ROWS  # right sides
    for top in (48, 49, 52):
        shape[top] = min(size, tiles.ROWS)
    for low in (50, 51, 53):
        shape[low] = max(1, size - tiles.ROWS)  # 1 where nothing uses them: none may be empty
    return shape


@jit
def gemm_tiles(x, panels, bias, out):
    """Compute out (M, N) = x matrix + bias, with x packed as the panels are; M may be 0.

    bias: (32 P,); out: a row's numbers are adjacent. Where x and panels are uint32, bias is int32 and so are the bits
    that are written to out, a float32 array.
    """
    rows, columns = out.shape
    if not rows:
        return
    count, steps, x_stride, out_stride = panels.shape[0], panels.shape[1], x.strides[0] // 4, out.strides[0] // 4
    groups = -(-rows // GROUP)
    size = -(-rows // groups)
    block = min(groups, max(1, FAR_BLOCK // (steps * LINES * size)))
    near = steps if block < FEW_GROUPS else NEAR_STEPS
    sums = np.empty((block * GROUP, PANEL_COLUMNS), np.float32)
    tiles.configure(tile_shape(size))
    for first in range(0, groups, block):
        last = min(groups, first + block)
        for p in range(count):
            whole = (p + 1) * PANEL_COLUMNS <= columns
            for step in range(0, steps, near):
                here = min(near, steps - step)
                panel_at = (p * steps + step) * LINES * PANEL_COLUMNS
                bias_at = -1 if step else p * PANEL_COLUMNS
                ends = whole and step + here == steps
                for group in range(first, last):
                    row = min(group * size, rows - size)
                    _group(
                        size > tiles.ROWS,
                        x,
                        row * x_stride + step * LINES,
                        x_stride,
                        panels,
                        panel_at,
                        here,
                        bias,
                        bias_at,
                        sums,
                        (group - first) * GROUP * PANEL_COLUMNS,
                        out,
                        row * out_stride + p * PANEL_COLUMNS if ends else -1,
                        out_stride,
                    )
            if not whole:
                for group in range(first, last):
                    row = min(group * size, rows - size)
                    for r in range(size):
                        for c in range(columns - p * PANEL_COLUMNS):
                            out[row + r, p * PANEL_COLUMNS + c] = sums[(group - first) * GROUP + r, c]
    tiles.release()


def multiply(x, panels, bias, out):
    """Compute `gemm_tiles` of x (M, K) float32, any strides, with int32 panels; for uint32 ones within (-1, 1)."""


@overload(multiply, jit_options={"fastmath": FAST, "error_model": "numpy"})
def _multiply_by_type(x, panels, bias, out):
    def multiply_bf16(x, panels, bias, out):
        packed = new_rows(x.shape[0], panels.shape[1])
        pack_rows_bf16(x, packed)
        gemm_tiles(packed, panels, bias, out)

    def multiply_int8(x, panels, bias, out):
        packed = new_rows(x.shape[0], panels.shape[1]).view(np.uint32)
        pack_rows_int8(x, packed)
        gemm_tiles(packed, panels, bias, out)

    return multiply_bf16 if panels.dtype == types.int32 else multiply_int8


@jit
def multiply_call(x, panels, bias, out):
    """Run `multiply` for callers outside compiled code."""
    multiply(x, panels, bias, out)
