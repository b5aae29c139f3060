# mypy: disable-error-code="no-untyped-def, no-untyped-call, call-arg, var-annotated"
"""Matrix products inside compiled loops: out = left x right + start, by one tile that stays in vector registers.

A tile is up to 8 rows and WIDE columns of out. For each step along the depth it reads one line of right and spreads one
number of each row of left over a vector: so it computes as fast as the processor multiplies and adds, for a dozen rows
as for a thousand, where a library needs many rows to earn its call. A row of out depends on no other row of left, to
the last bit. Sizes: M rows, N columns, K depth, P = N / WIDE rounded up.

- right (K, N) is read from *panels*, WIDE columns each: (P, K, WIDE) float32, (P, K / 2, WIDE) int32 or
  (P, K / 4, WIDE) uint32; left (M, K) accordingly, of any strides.
- int32 holds a pair of bfloat16 that follow each other along the depth, which the processor multiplies and adds to
  float32 in one instruction: inputs are rounded, sums and out are not.
- uint32 holds four numbers of 8 bits, of left unsigned and of right signed, whose sums are int32 and exact.
"""

from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload

from seqkd.utils.jit import compiler

FAST = {"reassoc", "contract", "nsz", "arcp"}  # sums may be reordered (always in the same way), NaN stays NaN
FLAGS: dict[str, Any] = {"fastmath": FAST, "error_model": "numpy", "nogil": True}
# For a function with sums that compiled code calls. LLVM always copies it into the caller, so it has one compiled form.
# Otherwise the process that compiles calls the function's own copy and one that loads the cache calls the copy inside
# the caller's object code; LLVM orders the sums of the two differently on some processors.
FORCE_INLINE = FLAGS | {"forceinline": True}
INLINE: dict[str, Any] = {"fastmath": FAST, "error_model": "numpy", "inline": "always"}
jit, jit_inline = compiler(__name__, **FLAGS), compiler(__name__, **INLINE)

_FEATURES = binding.get_host_cpu_features()
HAS_BF16 = _FEATURES.get("avx512bf16", False)
HAS_INT8 = _FEATURES.get("avx512vnni", False)
INT8_MAX = 127  # of a number of 8 bits on either side of zero
LANES = 16 if _FEATURES.get("avx512f", False) else 8  # float32 numbers of a vector
VECTORS = 2  # of a tile's row
PANEL_COLUMNS = LANES * VECTORS
BLOCK_ROWS = 96  # rows of left that pass over a panel while it is near the processor

_BYTES = ir.IntType(8).as_pointer()
_FLOAT, _INT, _PLACE = ir.FloatType(), ir.IntType(32), ir.IntType(64)
_FLOATS, _INTS = ir.VectorType(_FLOAT, LANES), ir.VectorType(_INT, LANES)


def _microkernel(rows: int) -> Any:
    """The tile of so many rows, as a function for compiled code."""

    @intrinsic
    def tile(_, left, at, row, step, right, right_at, depth, start, start_at, out, out_at, out_row, ahead):
        """Places and strides count numbers: left's row r begins at + r row, its next number stands step further.

        ahead: where in right the lines begin, one for each number of the depth, that the cache is to fetch meanwhile.
        """
        vector = _FLOATS if left.dtype == types.float32 else _INTS
        total = _INTS if left.dtype == types.uint32 else _FLOATS

        def generate(context, builder, signature, given):
            def pointer(index, place):
                data = context.make_array(signature.args[index])(context, builder, given[index]).data
                return builder.gep(data, [place])

            def load(base, place, kind):
                found = builder.load(builder.bitcast(builder.gep(base, [place]), kind.as_pointer()))
                found.align = 4
                return found

            def spread(number):
                none = ir.Constant(vector, ir.Undefined)
                first = builder.insert_element(none, number, _INT(0))
                return builder.shuffle_vector(first, none, ir.Constant(ir.VectorType(_INT, LANES), [0] * LANES))

            def added(before, one, other):
                if vector is _FLOATS:
                    return builder.fadd(before, builder.fmul(one, other, ("contract",)), ("contract",))
                name = ".vpdpbusd.512" if total is _INTS else "bf16.dpbf16ps.512"
                form, name = ir.FunctionType(total, [total, _INTS, _INTS]), f"llvm.x86.avx512{name}"
                dot = cgutils.get_or_insert_function(builder.module, form, name)
                return builder.call(dot, [before, one, other])

            lefts, rights = pointer(0, given[1]), pointer(4, given[5])
            starts, outs = pointer(7, given[8]), pointer(9, given[10])
            row, step, depth, out_row = given[2], given[3], given[6], given[11]
            fetched = pointer(4, given[12])
            form = ir.FunctionType(ir.VoidType(), [_BYTES, _INT, _INT, _INT])
            fetch = cgutils.get_or_insert_function(builder.module, form, "llvm.prefetch.p0")
            first = [load(starts, _PLACE(v * LANES), total) for v in range(VECTORS)]
            before, loop = builder.block, builder.append_basic_block("tile")
            after = builder.append_basic_block("tile.end")
            builder.branch(loop)
            builder.position_at_end(loop)
            k = builder.phi(_PLACE)
            sums = [[builder.phi(total) for _ in range(VECTORS)] for _ in range(rows)]
            line = builder.mul(k, _PLACE(PANEL_COLUMNS))
            across = [load(rights, builder.add(line, _PLACE(v * LANES)), vector) for v in range(VECTORS)]
            line = builder.gep(fetched, [builder.mul(k, _PLACE(LANES))])
            builder.call(fetch, [builder.bitcast(line, _BYTES), _INT(0), _INT(2), _INT(1)])
            here, later = builder.gep(lefts, [builder.mul(k, step)]), []
            for r in range(rows):
                number = spread(builder.load(builder.gep(here, [builder.mul(row, _PLACE(r))])))
                later.append([added(sums[r][v], number, across[v]) for v in range(VECTORS)])
            following = builder.add(k, _PLACE(1))
            k.add_incoming(_PLACE(0), before)
            k.add_incoming(following, loop)
            for r in range(rows):
                for v in range(VECTORS):
                    sums[r][v].add_incoming(first[v], before)
                    sums[r][v].add_incoming(later[r][v], loop)
            builder.cbranch(builder.icmp_signed("<", following, depth), loop, after)
            builder.position_at_end(after)
            for r in range(rows):
                for v in range(VECTORS):
                    place = builder.gep(outs, [builder.add(builder.mul(out_row, _PLACE(r)), _PLACE(v * LANES))])
                    builder.store(later[r][v], builder.bitcast(place, total.as_pointer())).align = 4
            return context.get_dummy_value()

        place = types.intp
        given = (left, place, place, place, right, place, place, start, place, out, place, place, place)
        return types.void(*given), generate

    return tile


_one, _two, _three, _four, _five, _six, _seven, _eight = (_microkernel(rows) for rows in range(1, 9))
EIGHT_ROWS = LANES == 16  # 32 registers hold 8 rows, 16 hold 4


@jit
def _tile(count, left, at, row, step, right, right_at, depth, start, start_at, out, out_at, out_row, ahead):
    """A tile of so many rows."""
    if EIGHT_ROWS and count == 8:
        _eight(left, at, row, step, right, right_at, depth, start, start_at, out, out_at, out_row, ahead)
    elif EIGHT_ROWS and count == 7:
        _seven(left, at, row, step, right, right_at, depth, start, start_at, out, out_at, out_row, ahead)
    elif EIGHT_ROWS and count == 6:
        _six(left, at, row, step, right, right_at, depth, start, start_at, out, out_at, out_row, ahead)
    elif EIGHT_ROWS and count == 5:
        _five(left, at, row, step, right, right_at, depth, start, start_at, out, out_at, out_row, ahead)
    elif count == 4:
        _four(left, at, row, step, right, right_at, depth, start, start_at, out, out_at, out_row, ahead)
    elif count == 3:
        _three(left, at, row, step, right, right_at, depth, start, start_at, out, out_at, out_row, ahead)
    elif count == 2:
        _two(left, at, row, step, right, right_at, depth, start, start_at, out, out_at, out_row, ahead)
    else:
        _one(left, at, row, step, right, right_at, depth, start, start_at, out, out_at, out_row, ahead)


@jit
def _panel(left, at, row, step, count, right, right_at, depth, start, start_at, out, out_at, out_row):
    """A panel's columns of so many rows. Tiles of less than four rows wait for their own sums, so few are left to them.

    Meanwhile the first two tiles fetch the next panel, a half each, from beyond the near caches.
    """
    m = 0
    while m < count:
        left_over, ahead = count - m, right_at + depth * (PANEL_COLUMNS + LANES if m else PANEL_COLUMNS)
        if EIGHT_ROWS:
            rows = left_over if left_over <= 8 else 8 if left_over >= 12 else 5
        else:
            rows = left_over if left_over <= 4 else 4 if left_over >= 7 else 3
        here, there = at + m * row, out_at + m * out_row
        _tile(rows, left, here, row, step, right, right_at, depth, start, start_at, out, there, out_row, ahead)
        m += rows


@jit
def block_size(groups, rows):
    """How many groups, of so many rows each, are worked on at once: of at most MANY rows, and never few at last."""
    groups = max(1, groups)
    return -(-groups // -(-groups // max(1, BLOCK_ROWS // rows)))


@jit
def gemm_packed(left, right, start, out):
    """out (M, N) = left x right + start; start: (P x WIDE,); the numbers of a row of out stand side by side.

    Where left and right are uint32, start is int32 and so are the bits that come to stand in out, float32.
    """
    rows, columns = out.shape
    row, step, out_row = left.strides[0] // 4, left.strides[1] // 4, out.strides[0] // 4
    depth, tail = right.shape[1], columns % PANEL_COLUMNS
    spare = np.empty((BLOCK_ROWS if tail else 0, PANEL_COLUMNS), np.float32)  # a tile is never narrower than WIDE
    most = 8 * block_size(-(-rows // 8), 8)  # whole tiles
    for m in range(0, rows, most):
        count = min(most, rows - m)
        for p in range(columns // PANEL_COLUMNS):
            at, out_at, start_at = p * depth * PANEL_COLUMNS, m * out_row + p * PANEL_COLUMNS, p * PANEL_COLUMNS
            _panel(left, m * row, row, step, count, right, at, depth, start, start_at, out, out_at, out_row)
        if tail:
            p = columns // PANEL_COLUMNS
            _panel(
                left,
                m * row,
                row,
                step,
                count,
                right,
                p * depth * PANEL_COLUMNS,
                depth,
                start,
                p * PANEL_COLUMNS,
                spare,
                0,
                PANEL_COLUMNS,
            )
            for r in range(count):
                for c in range(tail):
                    out[m + r, p * PANEL_COLUMNS + c] = spare[r, c]


@intrinsic
def float_bits(_, value):
    def generate(__, builder, ___, given):
        return builder.bitcast(given[0], _INT)

    return types.int32(types.float32), generate


@jit_inline
def _pair(low, high):
    """Two float32 numbers rounded to the nearest bfloat16, ties to even; NaN and infinity stay what they are."""
    half, one, all_low = np.int32(0x7FFF), np.int32(1), np.int32(0xFFFF)
    first, second = float_bits(low), float_bits(high)
    first += half + ((first >> np.int32(16)) & one)
    second += half + ((second >> np.int32(16)) & one)
    return ((first >> np.int32(16)) & all_low) | (second & ~all_low)


@jit
def pack_bf16(matrix, out):
    """matrix (M, K), K even, as left reads it: out (M, K / 2) int32."""
    for m in range(out.shape[0]):
        for k in range(out.shape[1]):
            out[m, k] = _pair(matrix[m, 2 * k], matrix[m, 2 * k + 1])


@jit
def pack_bf16_rows(matrix, out):
    """matrix (K, M), K even, whose pairs stand one above the other: out (K / 2, M) int32."""
    for k in range(out.shape[0]):
        for m in range(out.shape[1]):
            out[k, m] = _pair(matrix[2 * k, m], matrix[2 * k + 1, m])


def _take(matrix, k, n, out): ...


@overload(_take, inline="always")
def _take_into(matrix, k, n, out):
    """What stands in out for step k and column n of matrix (K, N): a number, or where out is int32 a pair."""
    if out.dtype == types.float32:
        return lambda matrix, k, n, out: matrix[k, n]
    return lambda matrix, k, n, out: _pair(matrix[2 * k, n], matrix[2 * k + 1, n])


@jit
def pack(matrix, panels):
    """matrix (K, N) of any strides, K even for pairs, into panels; what lies beyond N keeps its zeros."""
    depth, turned = panels.shape[1], matrix.strides[0] < matrix.strides[1]
    odd = ((depth + 15) // 16 | 1) * 16  # of cache lines, so that WIDE lines find room in the cache beside each other
    lines = np.empty((PANEL_COLUMNS, odd if turned else 0), panels.dtype)
    for p in range(panels.shape[0]):
        width = min(PANEL_COLUMNS, matrix.shape[1] - p * PANEL_COLUMNS)
        if turned:  # read as it lies, then turn what is near
            for c in range(width):
                for k in range(depth):
                    lines[c, k] = _take(matrix, k, p * PANEL_COLUMNS + c, panels)
            for k in range(depth):
                for c in range(width):
                    panels[p, k, c] = lines[c, k]
        else:
            for k in range(depth):
                for c in range(width):
                    panels[p, k, c] = _take(matrix, k, p * PANEL_COLUMNS + c, panels)


@jit
def quantize_u8(matrix, out):
    """matrix (M, K) within (-1, 1), K a multiple of 4, as left reads it: out (M, K / 4) uint32; 0 is STEPS + 1."""
    steps, zero = np.float32(INT8_MAX), np.float32(INT8_MAX + 1.5)  # cut off, hence the half
    for m in range(out.shape[0]):
        for k in range(out.shape[1]):
            one = np.uint32(np.int32(matrix[m, 4 * k] * steps + zero))
            two = np.uint32(np.int32(matrix[m, 4 * k + 1] * steps + zero))
            three = np.uint32(np.int32(matrix[m, 4 * k + 2] * steps + zero))
            four = np.uint32(np.int32(matrix[m, 4 * k + 3] * steps + zero))
            out[m, k] = one | (two << np.uint32(8)) | (three << np.uint32(16)) | (four << np.uint32(24))


@jit
def dequantize(out, scale, bias):
    """out (M, N), the bits of int32, become numbers: times scale plus bias, (N or more,) each."""
    for m in range(out.shape[0]):
        line = out[m]
        for n in range(line.size):
            line[n] = np.float32(float_bits(line[n])) * scale[n] + bias[n]


def gemm(left, right, start, scale, out):
    """out (M, N) = left x right + start; left: (M, K) in float32 whatever the panels hold; start: (P x WIDE,).

    scale: (2, P x WIDE), what scaled takes, for panels of uint32 alone, whose start is int32 and undoes left's zero.
    """


@overload(gemm, jit_options={"fastmath": FAST, "error_model": "numpy"})
def _product(left, right, start, scale, out):
    if right.dtype == types.float32:
        return lambda left, right, start, scale, out: gemm_packed(left, right, start, out)

    def of_pairs(left, right, start, scale, out):
        ready = np.empty((left.shape[0], left.shape[1] // 2), np.int32)
        pack_bf16(left, ready)
        gemm_packed(ready, right, start, out)

    def of_quads(left, right, start, scale, out):
        ready = np.empty((left.shape[0], left.shape[1] // 4), np.uint32)
        quantize_u8(left, ready)
        most = 8 * block_size(-(-out.shape[0] // 8), 8)
        for first in range(0, out.shape[0], most):  # what is scaled is near
            part = out[first : first + most]
            gemm_packed(ready[first : first + most], right, start, part)
            dequantize(part, scale[0], scale[1])

    return of_pairs if right.dtype == types.int32 else of_quads


@jit
def gemm_call(left, right, start, scale, out):
    """product, to be called from outside."""
    gemm(left, right, start, scale, out)
