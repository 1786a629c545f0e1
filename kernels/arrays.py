"""Arrays over memory that kernels are given by its address.

`numba.carray` does the same, but is a function that Numba compiles anew for each type; these are a
few instructions each.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import make_array, populate_array

_INT64 = ir.IntType(64)
_ALIGNMENT = 64  # bytes
BYTES, SHORTS, INTS, LONGS, FLOATS, DOUBLES = (
    types.Array(kind, 1, "C")
    for kind in (types.uint8, types.int16, types.int32, types.int64, types.float32, types.float64)
)
"""Numba's types of contiguous arrays with one axis, for signatures."""
_WORDS = types.Array(types.uint64, 1, "C")


def _array_type(shape, dtype):
    """Numba's type of a C-contiguous array."""
    return types.Array(dtype.dtype, shape.count if isinstance(shape, types.BaseTuple) else 1, "C")


def _make(context, builder, kind, address, shape, sizes):
    """An array of type `kind` over the memory at an address, and its length in bytes.

    Args:
        context: Numba's target context.
        builder: Where code is added.
        kind: Numba's type of the array.
        address: A 64-bit integer.
        shape: A whole number, or a tuple of them.
        sizes: Numba's type of `shape`.
    """
    flat = kind.ndim == 1 and not isinstance(sizes, types.BaseTuple)
    each, of = ([shape], [sizes]) if flat else (cgutils.unpack_tuple(builder, shape), sizes)
    lengths = [context.cast(builder, n, t, types.intp) for n, t in zip(each, of, strict=True)]
    itemsize = context.get_abi_sizeof(context.get_data_type(kind.dtype))
    nbytes = [context.get_constant(types.intp, itemsize)]
    for length in reversed(lengths):
        nbytes.append(builder.mul(nbytes[-1], length))
    array = make_array(kind)(context, builder)
    data = builder.inttoptr(address, array.data.type)
    populate_array(array, data, lengths, nbytes[-2::-1], itemsize, None)
    return array._getvalue(), nbytes[-1]


@intrinsic
def array_at(typingctx, at, shape, dtype):
    """A C-contiguous array over the memory at an address.

    Args:
        at: The address (uint64).
        shape: A whole number, or a tuple of them.
        dtype: Type of the values; it may be structured.
    """
    kind = _array_type(shape, dtype)

    def codegen(context, builder, signature, args):
        return _make(context, builder, kind, *args[:2], signature.args[1])[0]

    return kind(types.uint64, shape, dtype), codegen


@intrinsic
def arguments(typingctx, args, size):
    """(size,) uint64 at address `args`: what a `Task` was called with."""

    def codegen(context, builder, signature, args):
        return _make(context, builder, _WORDS, *args, signature.args[1])[0]

    return _WORDS(types.uint64, size), codegen


@intrinsic
def cut(typingctx, at, shape, dtype):
    """As `array_at`, and the address behind the array, a multiple of 64 bytes on."""
    kind = _array_type(shape, dtype)
    both = types.Tuple((kind, types.uint64))

    def codegen(context, builder, signature, args):
        array, nbytes = _make(context, builder, kind, *args[:2], signature.args[1])
        padded = builder.add(nbytes, ir.Constant(_INT64, _ALIGNMENT - 1))
        padded = builder.and_(padded, ir.Constant(_INT64, -_ALIGNMENT))
        return context.make_tuple(builder, both, (array, builder.add(args[0], padded)))

    return both(types.uint64, shape, dtype), codegen


@intrinsic
def address(typingctx, array):
    """Where the memory of an array starts (uint64)."""

    def codegen(context, builder, signature, args):
        return builder.ptrtoint(make_array(array)(context, builder, args[0]).data, _INT64)

    return types.uint64(array), codegen
