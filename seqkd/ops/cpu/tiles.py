# mypy: disable-error-code="no-untyped-def, no-untyped-call, call-arg"
"""The instructions of Intel's matrix tiles (AMX) as primitives of compiled code.

A tile is a register of at most 16 rows of 64 bytes; there are eight. Arrays have numbers of 4 bytes; indices and
strides count those from the array's first one. Tile numbers are constants.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

ROWS = 16  # of a tile, at most
WIDTH = 16  # numbers of 4 bytes in a tile's row
_BYTE, _INDEX, _INT = ir.IntType(8), ir.IntType(64), ir.IntType(32)
_BYTES = _BYTE.as_pointer()


def _call(context, builder, name, *arguments):
    kind = ir.FunctionType(ir.VoidType(), [argument.type for argument in arguments])
    builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.{name}"), arguments)
    return context.get_dummy_value()


def _number(kind):
    """Return a tile's number as the constant that an instruction holds."""
    return _BYTE(kind.literal_value)


def _place(context, builder, signature, arguments):
    """Return the address and the stride in bytes that arguments 1 to 3 name: array, index, stride."""
    data = context.make_array(signature.args[1])(context, builder, arguments[1]).data
    address = builder.gep(builder.bitcast(data, _INT.as_pointer()), [arguments[2]])
    return builder.bitcast(address, _BYTES), builder.mul(arguments[3], _INDEX(4))


@intrinsic
def configure(_, shape):
    """Set the rows and bytes of every tile as the 64 bytes of shape say, and fill the tiles with zeros."""

    def generate(context, builder, signature, arguments):
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        return _call(context, builder, "ldtilecfg", builder.bitcast(data, _BYTES))

    return types.void(shape), generate


@intrinsic
def release(_):
    """Give the tiles back: until the next `configure` they hold nothing that the system must save."""

    def generate(context, builder, signature, arguments):
        return _call(context, builder, "tilerelease")

    return types.void(), generate


@intrinsic(prefer_literal=True)
def load(_, tile, array, at, stride):
    """Load a tile: its row r are the 16 numbers of array from at + r stride on. With stride 0 all rows are the same."""

    def generate(context, builder, signature, arguments):
        place = _place(context, builder, signature, arguments)
        return _call(context, builder, "tileloadd64", _number(signature.args[0]), *place)

    return types.void(tile, array, types.intp, types.intp), generate


@intrinsic(prefer_literal=True)
def store(_, tile, array, at, stride):
    """Store a tile's rows where `load` would load them from."""

    def generate(context, builder, signature, arguments):
        place = _place(context, builder, signature, arguments)
        return _call(context, builder, "tilestored64", _number(signature.args[0]), *place)

    return types.void(tile, array, types.intp, types.intp), generate


@intrinsic(prefer_literal=True)
def multiply(_, total, left, right, x):
    """Add the product of two tiles to a third. x: the array that left was loaded from; its type is that of the numbers.

    int32: pairs of bfloat16; the even numbers' products are summed up, and the odd ones', in float32; then their sum is
    added to the total. uint32: four of 8 bits, unsigned in left and signed in right; sums are int32 and exact.
    """
    name = "tdpbusd" if x.dtype == types.uint32 else "tdpbf16ps"

    def generate(context, builder, signature, arguments):
        return _call(context, builder, name, *map(_number, signature.args[:3]))

    return types.void(total, left, right, x), generate
