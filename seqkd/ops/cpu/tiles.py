# mypy: disable-error-code="no-untyped-def, no-untyped-call, call-arg, var-annotated"
"""The matrix tiles of Intel's AMX as primitives of compiled code, and a plain twin of each.

A tile is a register of at most 16 rows of 64 bytes; there are eight. The first argument of each primitive, `tiles`,
says by its type what computes: None is the processor's tiles, an array of `memory` is the twin, which runs anywhere. So
the code of `gemm_tiles` is compiled for either, and its tests need no AMX. The twin raises ValueError where the
processor would stop the process, and where a tile reaches beyond its array.

Arrays have numbers of 4 bytes; indices and strides count those from the array's first one. Tile numbers are constants.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, register_jitable
from numpy.typing import NDArray

from seqkd.ops.cpu.packing import float_bits, float_of_bits
from seqkd.utils.jit import compiler

exact = compiler(__name__)  # without fastmath: the twin's sums have one order, as the processor's have

ROWS = 16  # of a tile, at most
WIDTH = 16  # numbers of 4 bytes in a tile's row
_COUNT = 8
_BYTE, _INDEX, _INT = ir.IntType(8), ir.IntType(64), ir.IntType(32)
_BYTES = _BYTE.as_pointer()


def memory() -> NDArray[np.int32]:
    """Return the twin's tiles (9, 16, 16); the last one holds how many rows each of the eight has."""
    return np.zeros((_COUNT + 1, ROWS, WIDTH), np.int32)


def _either(instruction, twin):
    """Return the code generator of a primitive: an instruction of the processor, or a call of the twin's function."""

    def generate(context, builder, signature, arguments):
        if signature.args[0] == types.none:
            instruction(context, builder, signature, arguments)
        else:
            kinds = types.void(*map(types.unliteral, signature.args))
            context.compile_internal(builder, twin, kinds, arguments)
        return context.get_dummy_value()

    return generate


def _call(builder, name, *arguments):
    kind = ir.FunctionType(ir.VoidType(), [argument.type for argument in arguments])
    builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.{name}"), arguments)


def _number(kind):
    """Return a tile's number as the constant that an instruction holds."""
    return _BYTE(kind.literal_value)


def _place(context, builder, signature, arguments):
    """Return the address and the stride in bytes that arguments 2 to 4 name: array, index, stride."""
    data = context.make_array(signature.args[2])(context, builder, arguments[2]).data
    address = builder.gep(builder.bitcast(data, _INT.as_pointer()), [arguments[3]])
    return builder.bitcast(address, _BYTES), builder.mul(arguments[4], _INDEX(4))


@intrinsic
def configure(_, tiles, shape):
    """Set the rows and bytes of every tile as the 64 bytes of shape say, and fill the tiles with zeros."""

    def instruction(context, builder, signature, arguments):
        data = context.make_array(signature.args[1])(context, builder, arguments[1]).data
        _call(builder, "ldtilecfg", builder.bitcast(data, _BYTES))

    return types.void(tiles, shape), _either(instruction, _configure)


@intrinsic
def release(_, tiles):
    """Give the tiles back: until the next `configure` they hold nothing that the system must save."""

    def instruction(context, builder, signature, arguments):
        _call(builder, "tilerelease")

    return types.void(tiles), _either(instruction, _release)


@intrinsic(prefer_literal=True)
def load(_, tiles, tile, array, at, stride):
    """Load a tile: its row r are the 16 numbers of array from at + r stride on. With stride 0 all rows are the same."""

    def instruction(context, builder, signature, arguments):
        place = _place(context, builder, signature, arguments)
        _call(builder, "tileloadd64", _number(signature.args[1]), *place)

    return types.void(tiles, tile, array, types.intp, types.intp), _either(instruction, _load)


@intrinsic(prefer_literal=True)
def store(_, tiles, tile, array, at, stride):
    """Store a tile's rows where `load` would load them from."""

    def instruction(context, builder, signature, arguments):
        place = _place(context, builder, signature, arguments)
        _call(builder, "tilestored64", _number(signature.args[1]), *place)

    return types.void(tiles, tile, array, types.intp, types.intp), _either(instruction, _store)


@intrinsic(prefer_literal=True)
def multiply(_, tiles, total, left, right, x):
    """Add the product of two tiles to a third. x: the array that left was loaded from; its type is that of the numbers.

    int32: pairs of bfloat16; the even numbers' products are summed up, and the odd ones', in float32; then their sum is
    added to the total. uint32: four of 8 bits, unsigned in left and signed in right; sums are int32 and exact.
    """
    name, twin = ("tdpbusd", _multiply_int8) if x.dtype == types.uint32 else ("tdpbf16ps", _multiply_bf16)

    def instruction(context, builder, signature, arguments):
        _call(builder, name, *map(_number, signature.args[1:4]))

    return types.void(tiles, total, left, right, x), _either(instruction, twin)


# The twin.


@intrinsic
def _read(_, array, at):
    """Return the bits of the number at an index of an array."""

    def generate(context, builder, signature, arguments):
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        return builder.load(builder.gep(builder.bitcast(data, _INT.as_pointer()), [arguments[1]]))

    return types.int32(array, types.intp), generate


@intrinsic
def _write(_, array, at, bits):
    """Write the bits of the number at an index of an array."""

    def generate(context, builder, signature, arguments):
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        builder.store(arguments[2], builder.gep(builder.bitcast(data, _INT.as_pointer()), [arguments[1]]))
        return context.get_dummy_value()

    return types.void(array, types.intp, types.int32), generate


@register_jitable
def _rows(tiles, tile):
    rows = tiles[_COUNT, 0, tile]
    if rows == 0:
        raise ValueError("a tile is used that was not configured")
    return rows


@register_jitable
def _check(array, at, last):
    """Raise ValueError where a row of a tile, the first or the last one, is not within an array."""
    end = 1
    for n in range(array.ndim):
        end += (array.shape[n] - 1) * (array.strides[n] // 4)
    if min(at, last) < 0 or max(at, last) + WIDTH > end:
        raise ValueError("a tile reaches beyond its array")


def _configure(tiles, shape):
    tiles[:] = 0
    if shape.size != 64 or shape[0] != 1 or shape[1:16].any() or shape[32:48].any() or shape[56:].any():
        raise ValueError("no shape of tiles")
    for tile in range(_COUNT):
        rows, width = shape[48 + tile], shape[16 + 2 * tile] + 256 * shape[17 + 2 * tile]
        if width != 4 * WIDTH or rows < 1 or rows > ROWS:
            raise ValueError("a tile has a shape that gemm_tiles does not use")
        tiles[_COUNT, 0, tile] = rows


def _release(tiles):
    tiles[:] = 0


def _load(tiles, tile, array, at, stride):
    rows = _rows(tiles, tile)
    _check(array, at, at + (rows - 1) * stride)
    for r in range(rows):
        for n in range(WIDTH):
            tiles[tile, r, n] = _read(array, at + r * stride + n)


def _store(tiles, tile, array, at, stride):
    rows = _rows(tiles, tile)
    _check(array, at, at + (rows - 1) * stride)
    for r in range(rows):
        for n in range(WIDTH):
            _write(array, at + r * stride + n, tiles[tile, r, n])


@register_jitable
def _product_rows(tiles, total, left, right):
    """Return the rows of a product. Raises ValueError where the tiles do not fit each other."""
    rows = _rows(tiles, total)
    if rows != _rows(tiles, left) or _rows(tiles, right) != WIDTH:
        raise ValueError("the shapes of two tiles do not fit")
    return rows


@exact
def _add_products_bf16(rows, total, left, right):
    high = np.int32(-65536)  # the bits of a pair's second number
    for r in range(rows):
        for n in range(WIDTH):
            even, odd = np.float32(0.0), np.float32(0.0)
            for k in range(WIDTH):
                one, other = left[r, k], right[k, n]
                even += float_of_bits(one << np.int32(16)) * float_of_bits(other << np.int32(16))
                odd += float_of_bits(one & high) * float_of_bits(other & high)
            total[r, n] = float_bits(float_of_bits(total[r, n]) + (even + odd))


def _multiply_bf16(tiles, total, left, right, x):
    _add_products_bf16(_product_rows(tiles, total, left, right), tiles[total], tiles[left], tiles[right])


def _multiply_int8(tiles, total, left, right, x):
    for r in range(_product_rows(tiles, total, left, right)):
        for n in range(WIDTH):
            for k in range(WIDTH):
                for shift in (0, 8, 16, 24):
                    unsigned = (tiles[left, r, k] >> shift) & 255
                    signed = (((tiles[right, k, n] >> shift) & 255) ^ 128) - 128
                    tiles[total, r, n] += unsigned * signed
