# mypy: disable-error-code="no-untyped-def, no-untyped-call, call-arg, var-annotated"
"""GEMM inside compiled loops: out = x matrix + bias, by a micro-kernel whose sums stay in vector registers.

The micro-kernel computes up to 8 rows and PANEL_COLUMNS columns of out. For each step along the depth it loads one line
of the matrix and broadcasts one number of each row of x: so it is as fast as the processor multiplies and adds, for a
dozen rows as for a thousand, where a library needs many rows to make up for the cost of a call. A row of out depends on
no other row of x, to the last bit. Sizes: M rows, N columns, K depth, W = PANEL_COLUMNS, P = N / W rounded up.

- The matrix (K, N) is packed into *panels* of W columns each: (P, K, W) float32, (P, K / 2, W) int32 or (P, K / 4, W)
  uint32. x (M, K) has the same type, or float32 where panels are int32, and any strides.
- int32 holds a pair of bfloat16 that are adjacent along the depth: inputs are rounded, sums and out are not. Where the
  processor is quick at it (MULTIPLIES_PAIRS), x is packed so too, and one instruction multiplies and adds a pair.
  Elsewhere x is float32, rounded, and the micro-kernel *expands* each pair of a panel to two float32 numbers: as quick
  as float32, quicker where the matrix comes from far caches, as it has half the size. It adds the second number's
  product first, so the bits are those of Intel's instruction, but for numbers below 1e-38, which that takes for 0.
- uint32 holds four numbers quantized to 8 bits, unsigned in x and signed in the panels, whose sums are int32 and exact.
"""

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload

from seqkd.ops.cpu.gemm_tiles import multiply
from seqkd.ops.cpu.packing import PANEL_COLUMNS, VECTORS, dequantize, pack_bf16, quantize_u8, round_bf16
from seqkd.ops.cpu.target import FAST, FLAGS, LANES, MULTIPLIES_PAIRS
from seqkd.utils.jit import compiler

jit = compiler(__name__, **FLAGS)

MAX_ROWS = 8 if LANES == 16 else 4  # of a micro-kernel: 32 vector registers hold the sums of 8 rows, 16 those of 4
BLOCK_ROWS = 96  # rows of x that are multiplied with a panel while it is in a near cache

_BYTES = ir.IntType(8).as_pointer()
_FLOAT, _INT, _INDEX = ir.FloatType(), ir.IntType(32), ir.IntType(64)
_FLOATS, _INTS = ir.VectorType(_FLOAT, LANES), ir.VectorType(_INT, LANES)


class _Operands(NamedTuple):
    """What a micro-kernel reads and writes, as LLVM values; indices and strides count numbers."""

    expands: bool  # the panel's pairs of bfloat16 to float32, as x is
    vector: ir.VectorType  # of the panel
    total: ir.VectorType  # of the sums
    x: ir.Value
    row_stride: ir.Value
    depth_stride: ir.Value
    panel: ir.Value
    depth: ir.Value
    bias: ir.Value
    out: ir.Value
    out_stride: ir.Value
    prefetch: ir.Value  # lines for the cache to fetch, one for each step along the depth


@intrinsic
def _micro_kernel(
    _,
    rows,
    x,
    x_at,
    row_stride,
    depth_stride,
    panels,
    panel_at,
    depth,
    bias,
    bias_at,
    out,
    out_at,
    out_stride,
    prefetch_at,
):
    """Compute rows x PANEL_COLUMNS numbers of out, 1 <= rows <= MAX_ROWS.

    Indices and strides count numbers of 4 bytes: row r of x begins at x_at + r row_stride, its next number stands
    depth_stride further. prefetch_at: the index in panels of the lines that the cache is to fetch meanwhile.
    """

    def generate(context, builder, signature, arguments):
        def pointer(array, index):
            data = context.make_array(signature.args[array])(context, builder, arguments[array]).data
            return builder.gep(data, [arguments[index]])

        operands = _Operands(
            expands=panels.dtype == types.int32 and x.dtype == types.float32,
            vector=_FLOATS if panels.dtype == types.float32 else _INTS,
            total=_INTS if x.dtype == types.uint32 else _FLOATS,
            x=pointer(1, 2),
            row_stride=arguments[3],
            depth_stride=arguments[4],
            panel=pointer(5, 6),
            depth=arguments[7],
            bias=pointer(8, 9),
            out=pointer(10, 11),
            out_stride=arguments[12],
            prefetch=pointer(5, 13),
        )
        end = builder.append_basic_block("micro_kernel.end")
        switch = builder.switch(arguments[0], end)
        for count in range(1, MAX_ROWS + 1):
            block = builder.append_basic_block(f"micro_kernel.{count}")
            switch.add_case(_INDEX(count), block)
            builder.position_at_end(block)
            _emit_micro_kernel(builder, operands, count)
            builder.branch(end)
        builder.position_at_end(end)
        return context.get_dummy_value()

    i = types.intp
    return types.void(i, x, i, i, i, panels, i, i, bias, i, out, i, i, i), generate


def _emit_micro_kernel(builder: Any, operands: _Operands, rows: int) -> None:
    """Emit a loop along the depth that sums up so many rows of out, and their storing."""
    vector, total, columns = operands.vector, operands.total, range(VECTORS)
    bias = [_load(builder, operands.bias, _INDEX(v * LANES), total) for v in columns]
    before, loop = builder.block, builder.append_basic_block("depth")
    after = builder.append_basic_block("depth.end")
    builder.branch(loop)
    builder.position_at_end(loop)
    k = builder.phi(_INDEX)
    sums = [[builder.phi(total) for _ in columns] for _ in range(rows)]
    line = builder.mul(k, _INDEX(PANEL_COLUMNS))
    lines = [_load(builder, operands.panel, builder.add(line, _INDEX(v * LANES)), vector) for v in columns]
    _prefetch(builder, builder.gep(operands.prefetch, [builder.mul(k, _INDEX(LANES))]))
    new_sums = sums
    for x_k, lines_k in _expand(builder, k, lines) if operands.expands else [(k, lines)]:
        column, before_k = builder.gep(operands.x, [builder.mul(x_k, operands.depth_stride)]), new_sums
        new_sums = []
        for r in range(rows):
            number = builder.load(builder.gep(column, [builder.mul(operands.row_stride, _INDEX(r))]))
            numbers = _broadcast(builder, number, lines_k[0].type)
            new_sums.append([_multiply_add(builder, before_k[r][v], numbers, lines_k[v]) for v in columns])
    next_k = builder.add(k, _INDEX(1))
    k.add_incoming(_INDEX(0), before)
    k.add_incoming(next_k, loop)
    for r in range(rows):
        for v in columns:
            sums[r][v].add_incoming(bias[v], before)
            sums[r][v].add_incoming(new_sums[r][v], loop)
    builder.cbranch(builder.icmp_signed("<", next_k, operands.depth), loop, after)
    builder.position_at_end(after)
    for r in range(rows):
        for v in columns:
            index = builder.add(builder.mul(operands.out_stride, _INDEX(r)), _INDEX(v * LANES))
            address = builder.bitcast(builder.gep(operands.out, [index]), total.as_pointer())
            builder.store(new_sums[r][v], address).align = 4


def _expand(builder: Any, k: Any, pairs: list[Any]) -> list[tuple[Any, list[Any]]]:
    """Return step and float32 vectors of the second numbers of pairs, then of the first; k: the pairs' step."""
    first_k = builder.shl(k, _INDEX(1))
    high, sixteen = ir.Constant(_INTS, [-65536] * LANES), ir.Constant(_INTS, [16] * LANES)
    second = [builder.bitcast(builder.and_(pair, high), _FLOATS) for pair in pairs]
    first = [builder.bitcast(builder.shl(pair, sixteen), _FLOATS) for pair in pairs]
    return [(builder.add(first_k, _INDEX(1)), second), (first_k, first)]


def _load(builder: Any, base: Any, index: Any, vector: Any) -> Any:
    loaded = builder.load(builder.bitcast(builder.gep(base, [index]), vector.as_pointer()))
    loaded.align = 4
    return loaded


def _broadcast(builder: Any, number: Any, vector: Any) -> Any:
    undefined = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(undefined, number, _INT(0))
    return builder.shuffle_vector(first, undefined, ir.Constant(_INTS, [0] * LANES))


def _prefetch(builder: Any, address: Any) -> None:
    kind = ir.FunctionType(ir.VoidType(), [_BYTES, _INT, _INT, _INT])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    builder.call(function, [builder.bitcast(address, _BYTES), _INT(0), _INT(2), _INT(1)])


def _multiply_add(builder: Any, total: Any, x: Any, line: Any) -> Any:
    """Add the products of two vectors to a total: of float32 numbers, of pairs of bfloat16, or of 4 x 8 bits."""
    if x.type == _FLOATS:
        return builder.fadd(total, builder.fmul(x, line, ("contract",)), ("contract",))
    name = "llvm.x86.avx512.vpdpbusd.512" if total.type == _INTS else "llvm.x86.avx512bf16.dpbf16ps.512"
    kind = ir.FunctionType(total.type, [total.type, _INTS, _INTS])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [total, x, line])


@jit
def _panel(x, x_at, row_stride, depth_stride, rows, panels, panel_at, depth, bias, bias_at, out, out_at, out_stride):
    """Compute a panel's columns of so many rows of out.

    Micro-kernels of less than four rows wait for their own sums, so the rows are split to need few of those. The first
    two micro-kernels prefetch the next panel, half of it each, from beyond the near caches.
    """
    m = 0
    while m < rows:
        left_over, prefetch_at = rows - m, panel_at + depth * (PANEL_COLUMNS + LANES if m else PANEL_COLUMNS)
        if MAX_ROWS == 8:
            count = left_over if left_over <= 8 else 8 if left_over >= 12 else 5
        else:
            count = left_over if left_over <= 4 else 4 if left_over >= 7 else 3
        _micro_kernel(
            count,
            x,
            x_at + m * row_stride,
            row_stride,
            depth_stride,
            panels,
            panel_at,
            depth,
            bias,
            bias_at,
            out,
            out_at + m * out_stride,
            out_stride,
            prefetch_at,
        )
        m += count


@jit
def block_size(groups, rows):
    """Return how many groups, of so many rows each, to process at once: blocks of equal size, of at most BLOCK_ROWS."""
    groups = max(1, groups)
    return -(-groups // -(-groups // max(1, BLOCK_ROWS // rows)))


def _round_for(panels, x):
    """Return x as it is multiplied, and its two strides: float32 is rounded for panels of pairs, all else is as it is.

    x is a block of rows, so a copy stays in a near cache.
    """


@overload(_round_for)
def _round_for_by_type(panels, x):
    def rounded(panels, x):
        rows, depth = x.shape
        if x.strides[0] < x.strides[1]:
            copy = np.empty((depth, rows), np.float32)
            round_bf16(x.T, copy)
            return copy, 1, rows
        copy = np.empty((rows, depth), np.float32)
        round_bf16(x, copy)
        return copy, depth, 1

    if panels.dtype == types.int32 and x.dtype == types.float32:
        return rounded
    return lambda panels, x: (x, x.strides[0] // 4, x.strides[1] // 4)


@jit
def gemm_packed(x, panels, bias, out):
    """Compute out (M, N) = x matrix + bias, with x packed as the panels are, or float32 for int32 panels, then rounded.

    bias: (P x W,); out: a row's numbers are adjacent. Where x and panels are uint32, bias is int32 and so are the bits
    that are written to out, a float32 array.
    """
    rows, columns = out.shape
    depth, out_stride, tail = panels.shape[1], out.strides[0] // 4, columns % PANEL_COLUMNS
    last = columns - tail
    spare = np.empty((BLOCK_ROWS if tail else 0, PANEL_COLUMNS), np.float32)  # a panel's columns are never fewer than W
    block = 8 * block_size(-(-rows // 8), 8)  # a multiple of the micro-kernel's rows
    for m in range(0, rows, block):
        count = min(block, rows - m)
        part, row_stride, depth_stride = _round_for(panels, x[m : m + count])
        for c in range(0, last, PANEL_COLUMNS):
            out_at = m * out_stride + c
            _panel(part, 0, row_stride, depth_stride, count, panels, c * depth, depth, bias, c, out, out_at, out_stride)
        if tail:
            at = last * depth
            _panel(part, 0, row_stride, depth_stride, count, panels, at, depth, bias, last, spare, 0, PANEL_COLUMNS)
            for r in range(count):
                for c in range(tail):
                    out[m + r, last + c] = spare[r, c]


def gemm(x, panels, bias, scale, out):
    """Compute out (M, N) = x matrix + bias; x: (M, K) float32, whatever type the panels have; bias: (P x W,).

    For uint32 panels bias is int32 and corrects for the zero of quantized x, and scale (2, P x W) holds the factors and
    biases of `dequantize`; for others scale is unused. Panels with an axis more are those of `gemm_tiles`.
    """


@overload(gemm, jit_options={"fastmath": FAST, "error_model": "numpy"})
def _gemm_by_type(x, panels, bias, scale, out):
    def gemm_pairs(x, panels, bias, scale, out):
        packed = np.empty((x.shape[0], x.shape[1] // 2), np.int32)
        pack_bf16(x, packed)
        gemm_packed(packed, panels, bias, out)

    def gemm_int8(x, panels, bias, scale, out):
        packed = np.empty((x.shape[0], x.shape[1] // 4), np.uint32)
        quantize_u8(x, packed)
        block = 8 * block_size(-(-out.shape[0] // 8), 8)
        for m in range(0, out.shape[0], block):  # sums are dequantized while they are in a near cache
            part = out[m : m + block]
            gemm_packed(packed[m : m + block], panels, bias, part)
            dequantize(part, scale[0], scale[1])

    def gemm_tiles_bf16(x, panels, bias, scale, out):
        multiply(x, panels, bias, out)

    def gemm_tiles_int8(x, panels, bias, scale, out):
        block = 8 * block_size(-(-out.shape[0] // 8), 8)
        for m in range(0, out.shape[0], block):
            part = out[m : m + block]
            multiply(x[m : m + block], panels, bias, part)
            dequantize(part, scale[0], scale[1])

    if panels.ndim == 4:
        return gemm_tiles_bf16 if panels.dtype == types.int32 else gemm_tiles_int8
    if panels.dtype == types.uint32:
        return gemm_int8
    if panels.dtype == types.int32 and MULTIPLIES_PAIRS:
        return gemm_pairs
    return lambda x, panels, bias, scale, out: gemm_packed(x, panels, bias, out)


@jit
def gemm_call(x, panels, bias, scale, out):
    """Run `gemm` for callers outside compiled code."""
    gemm(x, panels, bias, scale, out)
