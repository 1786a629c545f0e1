"""Machine words inside compiled code: memory by address, C functions by address, one counter.

Kernels get addresses, not arrays: the same call then serves host memory, device memory and C
libraries, and compiled code holds no pointer of its own, so it can be cached on disk.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

_INT64 = ir.IntType(64)


def _pointer(builder, address, pointee):
    return builder.inttoptr(address, pointee.as_pointer())


@intrinsic
def pointer(typingctx, address):
    """`address` (uint64) as the void pointer that `numba.carray` takes."""

    def codegen(context, builder, signature, args):
        return builder.inttoptr(args[0], cgutils.voidptr_t)

    return types.voidptr(address), codegen


@intrinsic
def address_of(typingctx, void):
    """A void pointer as uint64."""

    def codegen(context, builder, signature, args):
        return builder.ptrtoint(args[0], _INT64)

    return types.uint64(types.voidptr), codegen


@intrinsic
def fetch_add(typingctx, address, amount):
    """Add `amount` to the int64 at `address` as one atomic step; its value before."""

    def codegen(context, builder, signature, args):
        word = _pointer(builder, args[0], _INT64)
        return builder.atomic_rmw("add", word, args[1], "monotonic")

    return types.int64(types.uint64, types.int64), codegen


@intrinsic
def call(typingctx, function, arguments):
    """The int32 that the C function at address `function` returns.

    `arguments` is a tuple of 64-bit integers: pointers, sizes, and narrower integers, which the
    calling conventions of x86-64 and AArch64 pass in registers just the same.
    """

    def codegen(context, builder, signature, args):
        words = cgutils.unpack_tuple(builder, args[1], len(arguments))
        shape = ir.FunctionType(ir.IntType(32), [_INT64] * len(words))
        return builder.call(_pointer(builder, args[0], shape), words)

    return types.int32(types.uint64, arguments), codegen


@intrinsic
def call_long(typingctx, function, arguments):
    """As `call`, for a C function that returns 64 bits, such as `pread`."""

    def codegen(context, builder, signature, args):
        words = cgutils.unpack_tuple(builder, args[1], len(arguments))
        shape = ir.FunctionType(_INT64, [_INT64] * len(words))
        return builder.call(_pointer(builder, args[0], shape), words)

    return types.int64(types.uint64, arguments), codegen


@intrinsic
def load32(typingctx, address):
    """The int32 at `address`."""

    def codegen(context, builder, signature, args):
        return builder.load(_pointer(builder, args[0], ir.IntType(32)))

    return types.int32(types.uint64), codegen


@intrinsic
def load64(typingctx, address):
    """The uint64 at `address`."""

    def codegen(context, builder, signature, args):
        return builder.load(_pointer(builder, args[0], _INT64))

    return types.uint64(types.uint64), codegen


@intrinsic
def store32(typingctx, address, value):
    """Write the int32 `value` at `address`."""

    def codegen(context, builder, signature, args):
        builder.store(args[1], _pointer(builder, args[0], ir.IntType(32)))
        return context.get_dummy_value()

    return types.void(types.uint64, types.int32), codegen


@intrinsic
def store64(typingctx, address, value):
    """Write the uint64 `value` at `address`."""

    def codegen(context, builder, signature, args):
        builder.store(args[1], _pointer(builder, args[0], _INT64))
        return context.get_dummy_value()

    return types.void(types.uint64, types.uint64), codegen


@intrinsic
def bits(typingctx, value):
    """A float32's bits, as uint32."""

    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], ir.IntType(32))

    return types.uint32(types.float32), codegen


@njit(inline="always")
def address(array):
    """Where an array's memory starts. The array must be `held` to the end of the address's use."""
    return np.uint64(array.ctypes.data)


@njit
def hold(array):
    """Keep `array` alive up to here: numba frees it after the last line that names it."""
    return array.size
