"""Sixteen pixels at a time, where the compiler would not see that it can.

What a resize reads lies scattered, and a compiler cannot know that it does not overlap with what
is written, so it takes byte by byte. Here the sixteen reads are one vector operation; a processor
without a gather instruction gets single loads from the same code.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

LANES = 16

_I16, _I32, _I64 = ir.IntType(16), ir.IntType(32), ir.IntType(64)
_V16, _V32, _V64 = (ir.VectorType(word, LANES) for word in (_I16, _I32, _I64))
_MASK = ir.VectorType(ir.IntType(1), LANES)
_POINTERS = ir.VectorType(_I32.as_pointer(), LANES)
_UNALIGNED = ir.Constant(_I32, 1)


def _constant(kind, value):
    return ir.Constant(kind, [value] * LANES)


def _load(builder, address):
    value = builder.load(builder.inttoptr(address, _V32.as_pointer()))
    value.align = 4
    return value


def _gather(builder, start, offsets):
    """The 32 bits at each of sixteen offsets from an address."""
    module = builder.module
    name = f"llvm.masked.gather.v{LANES}i32.v{LANES}p0"
    shape = ir.FunctionType(_V32, [_POINTERS, _I32, _MASK, _V32])
    function = module.globals.get(name) or ir.Function(module, shape, name)
    nothing = ir.Constant(_V64, ir.Undefined)
    first = builder.insert_element(nothing, start, ir.Constant(_I32, 0))
    starts = builder.shuffle_vector(first, nothing, _constant(_V32, 0))
    places = builder.inttoptr(builder.add(starts, builder.zext(offsets, _V64)), _POINTERS)
    rest = ir.Constant(_V32, ir.Undefined)
    return builder.call(function, [places, _UNALIGNED, _constant(_MASK, 1), rest])


@intrinsic
def blend_pixels(typingctx, source, left, right, left_weight, right_weight, planes, plane):
    """Sixteen RGB pixels of a row, resized along x, to three planes.

    Each is `(left * left_weight + right * right_weight) >> 4`. All arguments are uint64.

    Args:
        source: Address of the source row; up to one byte behind a pixel is read.
        left: Address of sixteen int32, bytes from `source` to the left pixel.
        right: Address of sixteen int32, to the right pixel.
        left_weight: Address of sixteen int32 in 1/2048.
        right_weight: Address of sixteen int32.
        planes: Address of sixteen int16, the reds.
        plane: Bytes from there to the greens, and on to the blues.
    """

    def codegen(context, builder, signature, args):
        start, *tables, out, step = args
        lefts, rights, u, v = (_load(builder, table) for table in tables)
        near, far = _gather(builder, start, lefts), _gather(builder, start, rights)
        for channel in range(3):
            shift = _constant(_V32, 8 * channel)
            a, b = (
                builder.and_(builder.lshr(pixels, shift), _constant(_V32, 255))
                for pixels in (near, far)
            )
            total = builder.add(builder.mul(a, u), builder.mul(b, v))
            value = builder.trunc(builder.lshr(total, _constant(_V32, 4)), _V16)
            builder.store(value, builder.inttoptr(out, _V16.as_pointer())).align = 2
            out = builder.add(out, step)
        return context.get_dummy_value()

    return types.void(*[types.uint64] * 7), codegen
