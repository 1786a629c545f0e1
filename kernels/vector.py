"""Vector code for sixteen pixels at a time, where the compiler makes none.

A resize reads scattered bytes, and a compiler cannot know that they do not overlap with what is
written, so it works byte by byte. Here sixteen reads are one vector operation; processors without
a gather instruction get single loads from the same code.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

LANES = 16

_I16, _I32, _I64 = ir.IntType(16), ir.IntType(32), ir.IntType(64)
_V8, _V16, _V32, _V64 = (ir.VectorType(word, LANES) for word in (ir.IntType(8), _I16, _I32, _I64))
_MASK = ir.VectorType(ir.IntType(1), LANES)
_POINTERS = ir.VectorType(_I32.as_pointer(), LANES)
_UNALIGNED = ir.Constant(_I32, 1)


def _constant(kind, value):
    return ir.Constant(kind, [value] * LANES)


def _spread(builder, value):
    """A vector of sixteen times the same int32."""
    nothing = ir.Constant(_V32, ir.Undefined)
    first = builder.insert_element(nothing, value, ir.Constant(_I32, 0))
    return builder.shuffle_vector(first, nothing, _constant(_V32, 0))


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
        source: Address of the source row; one byte behind each pixel is read.
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


@intrinsic
def warp_pixels(typingctx, source, pitch, first, xs, ys, planes, plane):
    """Sixteen RGB pixels of a bilinear warp, all of whose taps lie in the picture, to three planes.

    All arguments are uint64.

    Args:
        source: Address of the source pixel (0, 0); one byte behind each pixel is read.
        pitch: Bytes between its rows.
        first: Bytes from there to the topmost of the rows that are read.
        xs: Address of sixteen int32, places in 1/1024 pixels.
        ys: Address of sixteen int32.
        planes: Address of sixteen uint8, the reds.
        plane: Bytes from there to the greens, and on to the blues.
    """

    def codegen(context, builder, signature, args):
        source, pitch, first_row, x_table, y_table, out, step = args
        # Places are 32 bits from the topmost row on: from row 0 on they might take more.
        start = builder.add(source, first_row)
        x, y = _load(builder, x_table), _load(builder, y_table)

        def fraction(place):
            low = builder.lshr(place, _constant(_V32, 5))
            return builder.and_(low, _constant(_V32, 31))

        def whole(place):
            return builder.ashr(place, _constant(_V32, 10))

        right, below = fraction(x), fraction(y)
        left = builder.sub(_constant(_V32, 32), right)
        above = builder.sub(_constant(_V32, 32), below)
        pitches, skipped = (_spread(builder, builder.trunc(n, _I32)) for n in (pitch, first_row))
        column = builder.mul(whole(x), _constant(_V32, 3))
        lines = builder.sub(builder.mul(whole(y), pitches), skipped)
        near = builder.add(lines, column)
        next_pixel = builder.add(near, _constant(_V32, 3))
        taps = []
        for offsets, across in ((near, left), (next_pixel, right)):
            lower = builder.add(offsets, pitches)
            taps.append((_gather(builder, start, offsets), builder.mul(across, above)))
            taps.append((_gather(builder, start, lower), builder.mul(across, below)))
        for channel in range(3):
            total = _constant(_V32, 512)
            for pixels, weight in taps:
                shifted = builder.lshr(pixels, _constant(_V32, 8 * channel))
                value = builder.and_(shifted, _constant(_V32, 255))
                total = builder.add(total, builder.mul(value, weight))
            levels = builder.trunc(builder.lshr(total, _constant(_V32, 10)), _V8)
            builder.store(levels, builder.inttoptr(out, _V8.as_pointer())).align = 1
            out = builder.add(out, step)
        return context.get_dummy_value()

    return types.void(*[types.uint64] * 7), codegen
