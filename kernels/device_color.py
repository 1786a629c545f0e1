"""The colour steps of pictures on a CUDA device, in place, with the bits of color.py.

CONTRAST needs the mean gray of the whole picture as it then is. So the steps of a picture are taken
in runs, each but the first of which CONTRAST begins, and there is a launch for each run. What a
launch leaves of a picture whose next run waits for a mean is added up as it is written: by shuffles
in a warp, whose threads have 16 pixels each at most, and atomically for the picture.
"""

from __future__ import annotations

import numpy as np
from numba import cuda, njit, types

from gpuio.kernels.color import gray_of, hls_moved, luma, mean_level, moved, scaled
from gpuio.kernels.device import DeviceKernel
from gpuio.kernels.device_pixels import field_offsets
from gpuio.kernels.native import (
    device_function,
    fetch_add,
    load8,
    load32,
    load64,
    load_float,
    mul_rn,
    store8,
    store32,
)
from gpuio.kernels.steps import COLOR_STEP, STEP, ColorKind, StepKind

_F32, _I32, _I64, _U32, _U64 = np.float32, np.int32, np.int64, np.uint32, np.uint64
_INT, _FLOAT, _ADDRESS = types.int32, types.float32, types.uint64
_PIXEL = types.UniTuple(types.int32, 3)
_FOUR_PIXELS = types.UniTuple(_PIXEL, 4)
_STEP_BYTES, _COLOR_BYTES = STEP.itemsize, COLOR_STEP.itemsize
_WORD, _TWO_WORDS = np.uint64(4), np.uint64(8)
_WARP, _ALL_LANES = 32, np.uint32(0xFFFFFFFF)
_RGB = 3
_THREADS = 256
_TURNS = 4
"""How often a thread takes four pixels; of pictures that are not RGB, four levels."""

_DST, _COLOR, _KIND, _ROWS, _COLS, _COUNT = field_offsets(
    STEP, "dst color kind rows cols color_count"
)
_COLOR_KIND, _A, _B, _C = field_offsets(COLOR_STEP, "kind a b c")


@device_function(_INT(_ADDRESS, _INT))
def _load_word(at, count):
    """The first `count` bytes at an address, at most four, as the lowest of a word."""
    if count >= 4 and at & _U64(3) == _U64(0):
        return load32(at)
    word = _I32(0)
    for k in range(min(count, 4)):
        word = _I32(word | _I32(_I32(load8(at + _U64(k))) << _I32(8 * k)))
    return word


@device_function(types.void(_ADDRESS, _INT, _INT))
def _store_word(at, word, count):
    """Write the lowest `count` bytes of a word, at most four."""
    if count >= 4 and at & _U64(3) == _U64(0):
        store32(at, word)
    else:
        for k in range(min(count, 4)):
            store8(at + _U64(k), word >> _I32(8 * k))


@njit(inline="always")
def _byte(word, number):
    return (word >> _I32(8 * number)) & _I32(255)


@njit(inline="always")
def _word_of(a, b, c, d):
    """The word of four levels, `a` the lowest."""
    return _I32(a | _I32(b << _I32(8)) | _I32(c << _I32(16)) | _I32(d << _I32(24)))


@device_function(_PIXEL(_PIXEL, _FLOAT, _FLOAT))
def _scaled(pixel, factor, rest):
    red, green, blue = pixel
    return scaled(red, factor, rest), scaled(green, factor, rest), scaled(blue, factor, rest)


@device_function(_PIXEL(_PIXEL, _FLOAT))
def _saturated(pixel, factor):
    red, green, blue = pixel
    rest = mul_rn(_F32(gray_of(red, green, blue)), _F32(1) - factor)
    return scaled(red, factor, rest), scaled(green, factor, rest), scaled(blue, factor, rest)


@device_function(_PIXEL(_PIXEL))
def _grayed(pixel):
    red, green, blue = pixel
    value = luma(red, green, blue)
    return value, value, value


@device_function(_PIXEL(_PIXEL, *[_FLOAT] * 3))
def _moved(pixel, a, b, c):
    red, green, blue = pixel
    return moved(red, a), moved(green, b), moved(blue, c)


@device_function(_PIXEL(_PIXEL, *[_INT] * 3))
def _hls_moved(pixel, hue, lightness, saturation):
    red, green, blue = pixel
    return hls_moved(red, green, blue, hue, lightness, saturation)


@device_function(_INT(_PIXEL))
def _gray(pixel):
    red, green, blue = pixel
    return gray_of(red, green, blue)


@device_function(_FLOAT(_ADDRESS, _ADDRESS))
def _mean_level(total, count):
    return mean_level(total, count)


@device_function(_FOUR_PIXELS(_ADDRESS, _FLOAT, *[_PIXEL] * 4))
def _colored(step, rest, p, q, r, s):
    """Four pixels after the colour step at an address; `rest` is what CONTRAST adds."""
    kind, a = load32(step + _COLOR_KIND), load_float(step + _A)
    if kind == ColorKind.BRIGHTNESS or kind == ColorKind.CONTRAST:
        rest = rest if kind == ColorKind.CONTRAST else _F32(0)
        p, q = _scaled(p, a, rest), _scaled(q, a, rest)
        r, s = _scaled(r, a, rest), _scaled(s, a, rest)
    elif kind == ColorKind.SATURATION:
        p, q, r, s = _saturated(p, a), _saturated(q, a), _saturated(r, a), _saturated(s, a)
    elif kind == ColorKind.GRAY:
        p, q, r, s = _grayed(p), _grayed(q), _grayed(r), _grayed(s)
    elif kind != ColorKind.NONE:
        b, c = load_float(step + _B), load_float(step + _C)
        if kind == ColorKind.SHIFT:
            p, q = _moved(p, a, b, c), _moved(q, a, b, c)
            r, s = _moved(r, a, b, c), _moved(s, a, b, c)
        else:
            hue, light, satur = _I32(a), _I32(b), _I32(c)
            p, q = _hls_moved(p, hue, light, satur), _hls_moved(q, hue, light, satur)
            r, s = _hls_moved(r, hue, light, satur), _hls_moved(s, hue, light, satur)
    return p, q, r, s


@device_function(_INT(_ADDRESS, _INT, *[_ADDRESS] * 2, _FLOAT, types.boolean))
def _color_pixels(at, count, step, end, rest, sums):
    """Take up to four pixels at an address through colour steps; the sum of their grays, or 0.

    Args:
        at: Address of the first pixel.
        count: Pixels from there to the end of the picture.
        step: Address of the first COLOR_STEP row that applies.
        end: Address behind the last one.
        rest: float32 that CONTRAST adds.
        sums: Whether the sum is wanted.
    """
    nbytes = _I32(3 * min(count, 4))
    u = _load_word(at, nbytes)
    v = _load_word(at + _WORD, nbytes - 4)
    w = _load_word(at + _TWO_WORDS, nbytes - 8)
    p = _byte(u, 0), _byte(u, 1), _byte(u, 2)
    q = _byte(u, 3), _byte(v, 0), _byte(v, 1)
    r = _byte(v, 2), _byte(v, 3), _byte(w, 0)
    s = _byte(w, 1), _byte(w, 2), _byte(w, 3)
    if step != end:
        while step != end:
            p, q, r, s = _colored(step, rest, p, q, r, s)
            step += _U64(_COLOR_BYTES)
        _store_word(at, _word_of(p[0], p[1], p[2], q[0]), nbytes)
        _store_word(at + _WORD, _word_of(q[1], q[2], r[0], r[1]), nbytes - 4)
        _store_word(at + _TWO_WORDS, _word_of(r[2], s[0], s[1], s[2]), nbytes - 8)
    total = _I32(0)
    if sums:
        total = _gray(p)
        if count > 1:
            total += _gray(q)
        if count > 2:
            total += _gray(r)
        if count > 3:
            total += _gray(s)
    return total


@device_function(types.UniTuple(_INT, 2)(_ADDRESS, _INT, _INT))
def _run_of(steps, count, run):
    """The first colour step of a run, and the one behind its last; `count` if there is none.

    Args:
        steps: Address of `count` COLOR_STEP rows.
        count: int32.
        run: int32, from 0.
    """
    begin, end, contrasts = (_I32(0) if run == 0 else count), count, _I32(0)
    for k in range(count):
        if load32(steps + _U64(k * _COLOR_BYTES) + _COLOR_KIND) == ColorKind.CONTRAST:
            contrasts = _I32(contrasts + 1)
            if contrasts == run:
                begin = _I32(k)
            elif contrasts == run + 1:
                end = _I32(k)
    return begin, end


@device_function(_INT(_INT))
def _warp_sum(value):
    """In the first thread of a warp, the sum of the values of all its threads."""
    for distance in (16, 8, 4, 2, 1):
        value = _I32(value + cuda.shfl_down_sync(_ALL_LANES, value, distance))
    return value


def _color(table, totals, run):
    """What one thread of COLOR does.

    Args:
        table: uint64, address of the (N,) STEP table.
        totals: uint64, address of (runs - 1, N) int64, 0 before the first launch: the sum of the
            grays that each picture has after each run.
        run: int32, the run of colour steps that this launch takes.
    """
    step = table + _U64(cuda.blockIdx.z) * _U64(_STEP_BYTES)
    steps, count = load64(step + _COLOR), load32(step + _COUNT)
    if steps == _U64(0) or load32(step + _KIND) == StepKind.SKIP:
        return
    begin, end = _run_of(steps, count, run)
    if begin == count:
        return
    first, behind = steps + _U64(begin * _COLOR_BYTES), steps + _U64(end * _COLOR_BYTES)
    picture, pixels = load64(step + _DST), _I32(load32(step + _ROWS) * load32(step + _COLS))
    apart = _U64(8) * _U64(cuda.gridDim.z)  # from a picture's sum after a run to the next one's
    after = totals + _U64(8) * _U64(cuda.blockIdx.z) + apart * _U64(run)
    rest = _F32(0)
    if run > 0:
        mean = _mean_level(load64(after - apart), _U64(pixels))
        rest = mul_rn(_F32(1) - load_float(first + _A), mean)
    total, place = _I32(0), _I32(cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x)
    for _ in range(_TURNS):
        left = _I32(pixels - 4 * place)
        if left > 0:
            total += _color_pixels(
                picture + _U64(12 * place), left, first, behind, rest, end < count
            )
        place = _I32(place + cuda.gridDim.x * cuda.blockDim.x)
    if end < count:  # the same for all threads of a picture
        total = _warp_sum(total)
        if cuda.threadIdx.x % _WARP == 0:
            fetch_add(after, _I64(total))


def _brighten(table, channels):
    """What one thread of BRIGHTEN does.

    Args:
        table: uint64, address of the (N,) STEP table.
        channels: int32, 1 or 4.
    """
    item = table + _U64(cuda.blockIdx.z) * _U64(_STEP_BYTES)
    steps = load64(item + _COLOR)
    if steps == _U64(0) or load32(item + _KIND) == StepKind.SKIP:
        return
    end = steps + _U64(load32(item + _COUNT) * _COLOR_BYTES)
    picture = load64(item + _DST)
    levels = _I32(load32(item + _ROWS) * load32(item + _COLS) * channels)
    place = _I32(cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x)
    for _ in range(_TURNS):
        left = _I32(levels - 4 * place)
        if left > 0:
            at, step = picture + _U64(4 * place), steps
            word = _load_word(at, left)
            a, b, c, d = _byte(word, 0), _byte(word, 1), _byte(word, 2), _byte(word, 3)
            while step != end:
                if load32(step + _COLOR_KIND) == ColorKind.BRIGHTNESS:
                    factor, rest = load_float(step + _A), _F32(0)
                    a, b = scaled(a, factor, rest), scaled(b, factor, rest)
                    c, d = scaled(c, factor, rest), scaled(d, factor, rest)
                step += _U64(_COLOR_BYTES)
            _store_word(at, _word_of(a, b, c, d), left)
        place = _I32(place + cuda.gridDim.x * cuda.blockDim.x)


def color_grid(kernel, table, channels):
    """Blocks along x, y and z of a launch that serves all of a table.

    Args:
        kernel: COLOR or BRIGHTEN.
        table: (N,) STEP, on the host; N is at least 1, and at most 65535.
        channels: 1, 3 or 4.
    """
    used = table[(table["color"] != 0) & (table["kind"] != StepKind.SKIP.value)]
    pixels = int((used["rows"].astype(np.int64) * used["cols"]).max(initial=1))
    words = -(-pixels // 4) if channels == _RGB else -(-pixels * channels // 4)
    return -(-words // (kernel.block[0] * _TURNS)), 1, len(table)


COLOR = DeviceKernel(
    "color", _color, types.void(_ADDRESS, _ADDRESS, _INT), (_THREADS, 1, 1), synchronises=True
)
"""`(table, totals, run)`: of each row with a `color` that is not SKIP, the RGB picture at `dst`, in
place: a run of its colour steps in their order. Its pixels follow each other without a gap."""

BRIGHTEN = DeviceKernel("brighten", _brighten, types.void(_ADDRESS, _INT), (_THREADS, 1, 1))
"""`(table, channels)`: as COLOR for pictures of 1 or 4 channels, all of whose steps are BRIGHTNESS;
in one launch."""
