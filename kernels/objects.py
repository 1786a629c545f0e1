"""Labels of objects in pictures: rows of numbers that move, and the crops that suit them.

A row is `[A, B, extra header..., object, object, ...]`: A is the width of the header with these
two, B that of an object `[class, xmin, ymin, xmax, ymax, extra...]`, with places relative to the
picture. All arithmetic is float32 and rounded after each operation, as MXNet's.

Source: MXNet 1.9.1, src/io/image_det_aug_default.cc.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from gpuio.kernels.arrays import array_at
from gpuio.kernels.cached import cached_njit
from gpuio.kernels.native import stack

SAMPLER = np.dtype(
    [
        ("scale", np.float32, 2),  # of the crop's sides, least and most
        ("ratio", np.float32, 2),  # width over height of the crop
        ("overlap", np.float32, 2),  # intersection over union, of the crop and an object
        ("sample_coverage", np.float32, 2),  # intersection over the crop's area
        ("object_coverage", np.float32, 2),  # intersection over the object's area
        ("trials", np.int32),
    ],
    align=True,
)

CENTER, OVERLAP = range(2)
"""Which objects a crop keeps: those whose centre is inside, or those that overlap it enough."""

LEFT, TOP, RIGHT, BOTTOM = range(1, 5)
"""Places of an object's edges."""

_F32 = np.float32
_ZERO, _ONE = np.float32(0), np.float32(1)
_U64 = np.uint64
_LOW = np.uint64(0xFFFFFFFF)


@njit(inline="always")
def _keep(row, at, to):
    """Move the object at `at` to `to`, which is not behind it; the place after it."""
    for k in range(int(row[1])):
        row[to + k] = row[at + k]
    return to + int(row[1])


@cached_njit(nogil=True, error_model="numpy")
def drop_empty(labels, widths):
    """Drop objects of no width or height.

    Args:
        labels: (N, W) float32 rows, changed in place.
        widths: (N,) int64, how much of each row is used, changed in place; 0 for no label.
    """
    for i in range(len(labels)):
        row = labels[i]
        if widths[i] == 0:
            continue
        to = int(row[0])
        for at in range(int(row[0]), widths[i], int(row[1])):
            if row[at + RIGHT] > row[at + LEFT] and row[at + BOTTOM] > row[at + TOP]:
                to = _keep(row, at, to)
        widths[i] = to


@cached_njit(nogil=True, error_model="numpy")
def mirror_objects(labels, widths, where):
    """Mirror the objects of the rows `where`, (N,) bool, left to right."""
    for i in range(len(labels)):
        if where[i] and widths[i] > 0:
            row = labels[i]
            for at in range(int(row[0]), widths[i], int(row[1])):
                left = row[at + LEFT]
                row[at + LEFT] = _ONE - row[at + RIGHT]
                row[at + RIGHT] = _ONE - left


@njit(inline="always")
def _project(row, at, x, y, width, height):
    row[at + LEFT] = max(_ZERO, (row[at + LEFT] - x) / width)
    row[at + TOP] = max(_ZERO, (row[at + TOP] - y) / height)
    row[at + RIGHT] = min(_ONE, (row[at + RIGHT] - x) / width)
    row[at + BOTTOM] = min(_ONE, (row[at + BOTTOM] - y) / height)


@cached_njit(nogil=True, error_model="numpy")
def project_objects(labels, widths, boxes):
    """Make places relative to boxes.

    Args:
        labels: (N, W) float32 rows, changed in place.
        widths: (N,) int64, how much of each row is used.
        boxes: (N, 4) float32 x, y, width, height, relative to the picture; width 0 for none.
    """
    for i in range(len(labels)):
        x, y, width, height = boxes[i]
        if width > 0 and widths[i] > 0:
            row = labels[i]
            for at in range(int(row[0]), widths[i], int(row[1])):
                _project(row, at, x, y, width, height)


@njit(inline="always")
def _shared(row, at, box):
    """The area that an object and a box have in common, and the area of the object."""
    left, top = row[at + LEFT], row[at + TOP]
    width, height = row[at + RIGHT] - left, row[at + BOTTOM] - top
    x, y = max(left, box[0]), max(top, box[1])
    wide = min(left + width, box[0] + box[2]) - x
    high = min(top + height, box[1] + box[3]) - y
    area = width * height
    if wide <= 0 or high <= 0:
        return _ZERO, area
    return wide * high, area


@njit(inline="always")
def _survives(row, at, box, mode, threshold):
    if mode == OVERLAP:
        shared, area = _shared(row, at, box)
        return shared / area > threshold
    x = (row[at + LEFT] + row[at + RIGHT]) * _F32(0.5)
    y = (row[at + TOP] + row[at + BOTTOM]) * _F32(0.5)
    return box[0] <= x and x < box[0] + box[2] and box[1] <= y and y < box[1] + box[3]


@cached_njit(nogil=True, error_model="numpy")
def crop_objects(labels, widths, boxes, mode, threshold):
    """Drop the objects that crops do not keep, and make the others relative to them.

    Args:
        labels: (N, W) float32 rows, changed in place.
        widths: (N,) int64, changed in place.
        boxes: (N, 4) float32 x, y, width, height, relative to the picture; width 0 for none.
        mode: CENTER or OVERLAP.
        threshold: OVERLAP keeps objects of whose area more than this is in the box, float32.
    """
    for i in range(len(labels)):
        box, row = boxes[i], labels[i]
        if box[2] > 0 and widths[i] > 0:
            to = int(row[0])
            for at in range(int(row[0]), widths[i], int(row[1])):
                if _survives(row, at, box, mode, threshold):
                    _project(row, at, box[0], box[1], box[2], box[3])
                    to = _keep(row, at, to)
            widths[i] = to


@cached_njit(nogil=True, error_model="numpy")
def draw_crop(u, sampler, aspect, box):
    """A random crop.

    Args:
        u: (4,) float32 uniforms: scale, ratio, x and y.
        sampler: A SAMPLER row.
        aspect: Width over height of the picture, float32.
        box: (4,) float32, overwritten with x, y, width, height, relative to the picture.
    """
    low, high = sampler.scale[0], sampler.scale[1]
    scale = u[0] * (high - low) + low + _F32(1e-12)
    square = scale * scale
    least = max(sampler.ratio[0] / aspect, square)
    most = min(sampler.ratio[1] / aspect, _F32(1.0 / np.float64(square)))
    ratio = np.sqrt(u[1] * (most - least) + least)
    box[2], box[3] = min(_ONE, scale * ratio), min(_ONE, scale / ratio)
    box[0], box[1] = u[2] * (_ONE - box[2]), u[3] * (_ONE - box[3])


@njit(inline="always")
def _active(limits):
    return limits[0] > 0 or limits[1] < 1


@njit(inline="always")
def _within(value, limits):
    return limits[0] <= value and value <= limits[1]


@cached_njit(nogil=True, error_model="numpy")
def suits(row, width, box, sampler, mode, threshold):
    """Whether a crop is good for the objects of a picture, or there are none.

    One of them must meet all of the sampler's limits, and one must survive.

    Args:
        row: (W,) float32.
        width: How much of it is used.
        box: (4,) float32 x, y, width, height of the crop, relative to the picture.
        sampler: A SAMPLER row.
        mode: CENTER or OVERLAP.
        threshold: See `crop_objects`.
    """
    if width == 0 or width == int(row[0]):
        return True
    valid = survives = False
    overlap, of_sample = _active(sampler.overlap), _active(sampler.sample_coverage)
    of_object = _active(sampler.object_coverage)
    crop_area = box[2] * box[3]
    for at in range(int(row[0]), width, int(row[1])):
        shared, area = _shared(row, at, box)
        union = shared / (crop_area + area - shared) if shared > 0 else _ZERO
        valid = valid or (
            (not overlap or _within(union, sampler.overlap))
            and (not of_sample or _within(shared / crop_area, sampler.sample_coverage))
            and (not of_object or _within(shared / area, sampler.object_coverage))
        )
        survives = survives or _survives(row, at, box, mode, threshold)
    return valid and survives


@njit(inline="always")
def _philox(counter, key, out):
    """The four words of gpuio.transforms.random.philox4x32."""
    a, b, c, d = counter
    low, high = key
    for _ in range(10):
        p, q = _U64(0xD2511F53) * a, _U64(0xCD9E8D57) * c
        a, b, c, d = (q >> _U64(32)) ^ b ^ low, q & _LOW, (p >> _U64(32)) ^ d ^ high, p & _LOW
        low, high = (low + _U64(0x9E3779B9)) & _LOW, (high + _U64(0xBB67AE85)) & _LOW
    out[0], out[1], out[2], out[3] = a, b, c, d


@cached_njit(nogil=True, error_model="numpy")
def find_crops(
    labels, widths, aspects, where, ids, key, high, blocks, samplers, order, mode, threshold, boxes
):
    """Try random crops, sampler by sampler in random order, until one suits.

    Args:
        labels: (N, W) float32 rows.
        widths: (N,) int64, how much of each row is used.
        aspects: (N,) float32, width over height of the pictures.
        where: (N,) bool, those that are to be cropped.
        ids: (N,) uint64 record numbers.
        key: (2,) uint64, key of the random numbers.
        high: uint64, the fourth word of their counters.
        blocks: (2,) uint64, counter of the order, and of the first trial; others follow.
        samplers: (S,) SAMPLER.
        order: (S,) int64, overwritten.
        mode: CENTER or OVERLAP.
        threshold: See `crop_objects`.
        boxes: (N, 4) float32, overwritten with x, y, width, height; all 0 where no crop suits.
    """
    words, u = array_at(stack(32), 4, _U64), array_at(stack(16), 4, _F32)
    keys = (key[0], key[1])
    for i in range(len(labels)):
        boxes[i] = 0
        if not where[i]:
            continue
        low, up = ids[i] & _LOW, ids[i] >> _U64(32)
        for k in range(len(order)):
            order[k] = k
            if k % 4 == 0:
                _philox((low, up, blocks[0] + _U64(k // 4), high), keys, words)
            other = np.int64(words[k % 4] * _U64(k + 1) >> _U64(32))
            order[k], order[other] = order[other], order[k]
        trial, found = 0, False
        for which in order:
            for _ in range(samplers[which].trials):
                _philox((low, up, blocks[1] + _U64(trial), high), keys, words)
                for k in range(4):
                    u[k] = _F32(words[k] >> _U64(8)) * _F32(2.0**-24)
                draw_crop(u, samplers[which], aspects[i], boxes[i])
                trial += 1
                found = suits(labels[i], widths[i], boxes[i], samplers[which], mode, threshold)
                if found:
                    break
            if found:
                break
        if not found:
            boxes[i] = 0
