"""Single words in memory, by addresses that are int64: loads and stores of any alignment.

Addresses of processes fit, and unlike uint64 they can be added to counts without a conversion.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

_I64 = ir.IntType(64)


def _load(name, bits):
    """An intrinsic: the unsigned value of some bits at an address, as int64."""

    def load(typingctx, address):
        def codegen(context, builder, signature, args):
            word = ir.IntType(bits)
            value = builder.load(builder.inttoptr(args[0], word.as_pointer()))
            value.align = 1
            return value if bits == 64 else builder.zext(value, _I64)

        return types.int64(types.int64), codegen

    load.__name__ = name
    return intrinsic(load)


def _store(name, bits):
    """An intrinsic: write the lower bits of an int64 at an address."""

    def store(typingctx, address, value):
        def codegen(context, builder, signature, args):
            word = ir.IntType(bits)
            at, value = args
            value = value if bits == 64 else builder.trunc(value, word)
            builder.store(value, builder.inttoptr(at, word.as_pointer())).align = 1
            return context.get_dummy_value()

        return types.void(types.int64, types.int64), codegen

    store.__name__ = name
    return intrinsic(store)


load_u8, load_u16, load_u32 = (_load(f"load_u{bits}", bits) for bits in (8, 16, 32))
load_i64 = _load("load_i64", 64)
store_8, store_16, store_32, store_64 = (_store(f"store_{bits}", bits) for bits in (8, 16, 32, 64))


@intrinsic
def load_big_endian(typingctx, address):
    """The 64 bits at an address, the first byte the highest, as uint64."""

    def codegen(context, builder, signature, args):
        value = builder.load(builder.inttoptr(args[0], _I64.as_pointer()))
        value.align = 1
        return builder.bswap(value)

    return types.uint64(types.int64), codegen
