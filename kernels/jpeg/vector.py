"""Vector code of the JPEG decoder: what is written here in LLVM's terms, and nowhere else.

Each function is an intrinsic that kernels call with addresses (int64). Vectors have a fixed number
of lanes, and LLVM cuts them into what the processor has.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from gpuio.kernels.jpeg.idct import (
    COLUMN_SHIFT,
    PASS1_BITS,
    ROW_SHIFT,
    inverse_dct_pass,
    pass_to_2,
    pass_to_4,
)

BLOCKS = 8
"""Blocks of coefficients that lie side by side, one in each lane."""
STRIP = 32
"""Samples of a row that are made of full chroma at a time, or of which chroma is made."""

_LARGEST = 0x8000 >> PASS1_BITS  # from -_LARGEST to _LARGEST - 1 nothing overflows in pass 1
_I8, _I16, _I32, _I64 = (ir.IntType(size) for size in (8, 16, 32, 64))


class Lanes:
    """A vector of integers in code that is being built, with the operators of Python.

    Sums and products wrap around, as in NumPy. An operand may be a plain number.

    Args:
        builder: LLVM's builder.
        value: The vector.
    """

    def __init__(self, builder, value):
        self.builder, self.value = builder, value

    def _other(self, other):
        if isinstance(other, Lanes):
            return other.value
        return ir.Constant(self.value.type, [other] * self.value.type.count)

    def _apply(self, name, other):
        return Lanes(self.builder, getattr(self.builder, name)(self.value, self._other(other)))

    def __add__(self, other):
        return self._apply("add", other)

    def __sub__(self, other):
        return self._apply("sub", other)

    def __mul__(self, other):
        return self._apply("mul", other)

    def __lshift__(self, bits):
        return self._apply("shl", bits)

    def __rshift__(self, bits):
        """Shift to the right; signs stay."""
        return self._apply("ashr", bits)

    def _as(self, name, word):
        kind = ir.VectorType(word, self.value.type.count)
        return Lanes(self.builder, getattr(self.builder, name)(self.value, kind))

    def __or__(self, other):
        return self._apply("or_", other)

    def __and__(self, other):
        return self._apply("and_", other)

    def is_any(self):
        """1 if any lane is not 0, else 0: an int64."""
        kind = self.value.type
        whole = self.builder.bitcast(self.value, ir.IntType(kind.count * kind.element.width))
        found = self.builder.icmp_unsigned("!=", whole, ir.Constant(whole.type, 0))
        return self.builder.zext(found, _I64)

    def clip(self, low, high):
        """Values below `low` or above `high` become these."""
        value = self.value
        for sign, bound in (("<", low), (">", high)):
            limit = self._other(bound)
            outside = self.builder.icmp_signed(sign, value, limit)
            value = self.builder.select(outside, limit, value)
        return Lanes(self.builder, value)

    def as_int32(self):
        """Signed values of 32 bits."""
        return self._as("sext", _I32)

    def as_int16(self):
        """Signed values of 16 bits: the lower bits."""
        return self._as("trunc", _I16)

    def saturated(self):
        """Signed values of 16 bits; what does not fit becomes the nearest that does."""
        return self.clip(-0x8000, 0x7FFF).as_int16()

    def shuffle(self, places, other=None):
        """Lanes at `places`, of these and then of `other`."""
        second = ir.Constant(self.value.type, ir.Undefined) if other is None else other.value
        mask = ir.Constant(ir.VectorType(_I32, len(places)), [int(place) for place in places])
        return Lanes(self.builder, self.builder.shuffle_vector(self.value, second, mask))

    def zipped(self, other):
        """Twice as many lanes: one of these, one of the other vector, and so on."""
        count = self.value.type.count
        return self.shuffle([k // 2 + count * (k % 2) for k in range(2 * count)], other)

    def high_product(self, factor):
        """The upper 16 bits of the products of values of 16 bits and a number of 16 bits."""
        return (self.as_int32() * factor >> 16).as_int16()

    def as_levels(self):
        """Unsigned values of 8 bits: the lower bits."""
        return self._as("trunc", _I8)


def _at(builder, address, offset, kind):
    return builder.inttoptr(builder.add(address, ir.Constant(_I64, offset)), kind.as_pointer())


def _load(builder, address, word, count, offset=0):
    loaded = builder.load(_at(builder, address, offset, ir.VectorType(word, count)))
    loaded.align = 1
    return Lanes(builder, loaded)


def _load_levels(builder, address, count, offset=0):
    """`count` levels (uint8), as values of 16 bits."""
    return _load(builder, address, _I8, count, offset)._as("zext", _I16)


def _store(lanes, address, offset=0):
    builder = lanes.builder
    builder.store(lanes.value, _at(builder, address, offset, lanes.value.type)).align = 1


def _spread(builder, value, word, count):
    """A vector of `count` times the lower bits of an int64."""
    kind = ir.VectorType(word, count)
    nothing = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(nothing, builder.trunc(value, word), ir.Constant(_I32, 0))
    return Lanes(builder, first).shuffle([0] * count)


def _dequantised(builder, coefficients, quantisation, place):
    """Coefficients of `BLOCKS` blocks at a place, 8 * row + column, with their scale."""
    value = _load(builder, coefficients, _I16, BLOCKS, 2 * BLOCKS * place)
    factor = builder.load(_at(builder, quantisation, 2 * place, _I16))
    factor.align = 2
    return value * _spread(builder, builder.zext(factor, _I64), _I16, BLOCKS)


def _interleaved(lanes):
    """The first lane of each vector, then the second of each, and so on."""
    if len(lanes) == 1:
        return lanes[0]
    return _interleaved(lanes[::2]).zipped(_interleaved(lanes[1::2]))


def _is_outside(values):
    """1 if any of these, `_LARGEST` more than coefficients, belongs to one that is too large."""
    return (values & ~(2 * _LARGEST - 1)).is_any()


_PASSES = {
    8: (inverse_dct_pass, range(8)),
    4: (pass_to_4, (0, 1, 2, 3, 5, 6, 7)),
    2: (pass_to_2, (0, 1, 3, 5, 7)),
}
"""By samples along an axis, how they are made, and of which coefficients."""


def _in_columns(kept, size=8):
    """An intrinsic as `samples_of_8`, for blocks with few coefficients or for few samples of them.

    Args:
        kept: All coefficients but those in so many rows and columns, the first ones, are 0.
        size: Samples of a block along each axis.
    """
    make, used = _PASSES[size]

    def samples(typingctx, coefficients, quantisation, out, pitch):
        def codegen(context, builder, signature, args):
            coefficients, quantisation, out, pitch = args
            zero = Lanes(builder, ir.Constant(ir.VectorType(_I16, BLOCKS), None))

            def coefficient(row, column):
                if row in used and row < kept:
                    return _dequantised(builder, coefficients, quantisation, 8 * row + column)
                return zero

            columns, above = [], zero
            for x in range(8):
                if x in used and x < kept:
                    c = [coefficient(y, x) for y in range(8)]
                    columns.append(make(c, COLUMN_SHIFT))
                    above |= c[0] + _LARGEST
                else:
                    columns.append([zero] * size)
            for y in range(size):
                row = make([column[y] for column in columns], ROW_SHIFT)
                _store(_interleaved([(v.clip(-128, 127) + 128).as_levels() for v in row]), out)
                out = builder.add(out, pitch)
            return _is_outside(above)

        return types.int64(*[types.int64] * 4), codegen

    samples.__name__ = f"samples_of_{kept}" if size == 8 else f"square_{size}_of_{kept}"
    return intrinsic(samples)


samples_of_8 = _in_columns(8)
"""The samples of `BLOCKS` blocks, side by side.

Args:
    coefficients: Address of (64, BLOCKS) int16, coefficients in rows of growing frequency, not yet
        multiplied by their quantisation.
    quantisation: Address of (64,) int16.
    out: Address of 8 rows of 8 * BLOCKS uint8.
    pitch: Bytes between these rows.

Returns:
    1 if a coefficient of the first row, multiplied, is so large that libjpeg's samples may be
    others, else 0. Where the other rows are 0, its vector code takes a short cut in the first pass,
    in which such values wrap around and do not saturate.
"""
samples_of_4 = _in_columns(4)
"""As `samples_of_8`, where all but the first four rows and columns of coefficients are 0."""
samples_of_1 = _in_columns(1)
"""As `samples_of_8`, where all but the first coefficient are 0."""
square_4_of_8, square_4_of_4, square_4_of_1 = (_in_columns(kept, 4) for kept in (8, 4, 1))
"""As `samples_of_8`, `samples_of_4` and `samples_of_1`, to squares of 4 x 4 samples of each block:
4 rows of 4 * BLOCKS uint8."""
square_2_of_8 = _in_columns(8, 2)
"""As `samples_of_8`, to squares of 2 x 2 samples of each block: 2 rows of 2 * BLOCKS uint8."""


@intrinsic
def mean_samples(typingctx, coefficients, quantisation, out):
    """The mean of each of `BLOCKS` blocks.

    Args:
        coefficients: As for `samples_of_8`.
        quantisation: As for `samples_of_8`.
        out: Address of BLOCKS uint8.

    Returns:
        1 if a mean is so far from any level that libjpeg's table of levels wraps around, else 0.

    Source: libjpeg-turbo 3, jidctred.c (jpeg_idct_1x1), jdmaster.c (prepare_range_limit_table).
    """

    def codegen(context, builder, signature, args):
        coefficients, quantisation, out = args
        first = _load(builder, coefficients, _I16, BLOCKS).as_int32()
        factor = builder.load(_at(builder, quantisation, 0, _I16))
        factor.align = 2
        first *= _spread(builder, builder.sext(factor, _I64), _I32, BLOCKS)
        mean = (first + 4) >> 3
        _store((mean.clip(-128, 127) + 128).as_levels(), out)
        return ((mean + 512) & ~1023).is_any()

    return types.int64(*[types.int64] * 3), codegen


@intrinsic
def smooth_across(typingctx, source, out):
    """Twice as many samples along x: each lies at a quarter between two, nearer to one of them.

    Args:
        source: Address of STRIP uint8; those before and behind are read, too.
        out: Address of 2 * STRIP uint8.

    Source: libjpeg-turbo 3, jdsample.c (h2v1_fancy_upsample).
    """

    def codegen(context, builder, signature, args):
        before, this, behind = (_load_levels(builder, args[0], STRIP, k) for k in (-1, 0, 1))
        left = (this * 3 + before + 1) >> 2
        right = (this * 3 + behind + 2) >> 2
        _store(left.as_levels().zipped(right.as_levels()), args[1])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 2), codegen


@intrinsic
def smooth_down(typingctx, near, far, rounding, out):
    """Samples of a row that lies at a quarter between two rows.

    Args:
        near: Address of STRIP uint8 of the nearer row.
        far: Address of STRIP uint8 of the other row.
        rounding: 1 or 2 quarters.
        out: Address of STRIP uint8.

    Source: libjpeg-turbo 3, jdsample.c (h1v2_fancy_upsample).
    """

    def codegen(context, builder, signature, args):
        near, far = (_load_levels(builder, row, STRIP) for row in args[:2])
        total = near * 3 + far + _spread(builder, args[2], _I16, STRIP)
        _store((total >> 2).as_levels(), args[3])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4), codegen


@intrinsic
def smooth_both(typingctx, near, far, out):
    """As `smooth_across`, of a row that lies at a quarter between two; all is rounded once.

    Args:
        near: Address of STRIP uint8 of the nearer row; those before and behind are read, too.
        far: The same of the other row.
        out: Address of 2 * STRIP uint8.

    Source: libjpeg-turbo 3, jdsample.c (h2v2_fancy_upsample).
    """

    def codegen(context, builder, signature, args):
        before, this, behind = (
            _load_levels(builder, args[0], STRIP, k) * 3 + _load_levels(builder, args[1], STRIP, k)
            for k in (-1, 0, 1)
        )
        left = (this * 3 + before + 8) >> 4
        right = (this * 3 + behind + 7) >> 4
        _store(left.as_levels().zipped(right.as_levels()), args[2])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 3), codegen


@intrinsic
def repeat_across(typingctx, source, out):
    """Each of STRIP samples twice.

    Args:
        source: Address of STRIP uint8.
        out: Address of 2 * STRIP uint8.
    """

    def codegen(context, builder, signature, args):
        row = _load(builder, args[0], _I8, STRIP)
        _store(row.zipped(row), args[1])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 2), codegen


def _store_pixels(builder, first, second, third, out):
    """Interleave three vectors of STRIP levels."""
    pair = first.shuffle(range(2 * STRIP), second)
    rest = third.shuffle([min(k, STRIP) for k in range(2 * STRIP)], third)
    _store(pair.shuffle([k // 3 + STRIP * (k % 3) for k in range(3 * STRIP)], rest), out)


@intrinsic
def store_planes(typingctx, first, second, third, out):
    """Interleave STRIP levels of three planes, given by their addresses, to 3 * STRIP bytes."""

    def codegen(context, builder, signature, args):
        _store_pixels(builder, *(_load(builder, row, _I8, STRIP) for row in args[:3]), args[3])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4), codegen


@intrinsic
def store_colors(typingctx, luma, blue, red, reverse, out):
    """STRIP pixels of luma and chroma as red, green and blue.

        R = Y + 1.40200 Cr
        G = Y - 0.34414 Cb - 0.71414 Cr
        B = Y + 1.77200 Cb

    Chroma is less 128, factors are rounded to 16 bits, and what they add is rounded to levels.
    The factors 1.402 and 1.772 are 1 + 0.402 and 2 - 0.228, as products are of 16 bits.

    Args:
        luma: Address of STRIP uint8.
        blue: The same of Cb.
        red: The same of Cr.
        reverse: 1 for blue, green, red; else 0.
        out: Address of 3 * STRIP uint8.

    Source: JFIF 1.02; libjpeg-turbo 3, jdcolor.c (ycc_rgb_convert).
    """

    def codegen(context, builder, signature, args):
        y = _load_levels(builder, args[0], STRIP)
        cb, cr = (_load_levels(builder, row, STRIP) - 128 for row in args[1:3])
        red = y + cr + ((cr * 2).high_product(_fixed(0.402)) + 1 >> 1)
        blue = y + cb * 2 + ((cb * 2).high_product(-_fixed(0.228)) + 1 >> 1)
        parts = cb.as_int32() * -_fixed(0.34414) + cr.as_int32() * _fixed(1 - 0.71414)
        green = y - cr + (parts + (1 << 15) >> 16).as_int16()
        red, green, blue = (color.clip(0, 255).as_levels() for color in (red, green, blue))
        swap = builder.icmp_signed("!=", args[3], ir.Constant(_I64, 0))
        first = Lanes(builder, builder.select(swap, blue.value, red.value))
        third = Lanes(builder, builder.select(swap, red.value, blue.value))
        _store_pixels(builder, first, green, third, args[4])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 5), codegen


def _fixed(value):
    """A factor in units of 1/65536."""
    return round(value * 65536)


@intrinsic
def clear(typingctx, address, count):
    """Write `count` times 64 zero bytes."""

    def codegen(context, builder, signature, args):
        at, count = args
        memset = builder.module.declare_intrinsic("llvm.memset", [_I8.as_pointer(), _I64])
        size = builder.mul(count, ir.Constant(_I64, 64))
        zero, plain = ir.Constant(_I8, 0), ir.Constant(ir.IntType(1), 0)
        builder.call(memset, [builder.inttoptr(at, _I8.as_pointer()), zero, size, plain])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 2), codegen


@intrinsic
def copy(typingctx, source, to, nbytes):
    """Copy bytes from one address to another; the two do not overlap."""

    def codegen(context, builder, signature, args):
        source, to, nbytes = args
        kind = _I8.as_pointer()
        memcpy = builder.module.declare_intrinsic("llvm.memcpy", [kind, kind, _I64])
        places = builder.inttoptr(to, kind), builder.inttoptr(source, kind)
        builder.call(memcpy, [*places, nbytes, ir.Constant(ir.IntType(1), 0)])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 3), codegen
