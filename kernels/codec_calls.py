"""Calls into nvImageCodec for a whole batch, without the GIL.

The functions come as a table of addresses in the order of `FUNCTIONS` of the decoder, the
structures as templates to copy, so that this file knows their offsets and nothing else.
"""

from __future__ import annotations

import numpy as np
from numba import carray, njit

from gpuio.kernels.native import address, call, hold, load32, pointer, store32, store64
from gpuio.kernels.parallel import Task, arguments

_FUNCTIONS = 10
CREATE, INFO, VIEW, DESTROY, IMAGE, IMAGE_END, DECODE, WAIT, STATUS, FUTURE_END = range(10)

IMAGE_JOB = np.dtype(
    [
        ("data", np.uint64),  # address of the encoded image
        ("nbytes", np.int64),
        ("stream", np.uint64),  # code stream, 0 where it could not be made
        ("dst", np.uint64),  # address of the first pixel wanted, from the worker's memory on
        ("pitch", np.int64),  # bytes between its rows
        ("height", np.int32),  # of the picture as it is looked at, EXIF orientation applied
        ("width", np.int32),
        ("channels", np.int32),  # stored in the file
        ("turned", np.int32),  # EXIF orientation: 0 upright, 2 where it swaps the sides, else 1
        ("y", np.int32),  # window to decode
        ("x", np.int32),
        ("rows", np.int32),  # 0: do not decode
        ("cols", np.int32),
        ("status", np.int32),  # 1 is success, as in nvimgcodecProcessingStatus_t
        ("head", np.int32),  # its first four bytes
    ],
    align=True,
)

# Offsets in nvimgcodecImageInfo_t, _Region_t within _CodeStreamView_t: nvimgcodec.h of 0.9.
_SPEC, _FORMAT, _TURN, _PLANES, _PLANE = 280, 288, 320, 336, 344
_BUFFER, _KIND = 2136, 2144
_VIEW_REGION = 32
INFO_SIZE, VIEW_SIZE = 2160, 152
_UINT8 = 0x0802


@njit(inline="always")
def _copy(template, size):
    """A private copy of a structure, with room to spare for alignment."""
    mine = np.empty(size, np.uint8)
    for k in range(size):
        mine[k] = template[k]
    return mine


@njit(inline="always")
def _close(functions, row):
    if row.stream != 0:
        call(functions[DESTROY], (row.stream, np.uint64(0)))
        row.stream = np.uint64(0)


@Task
def probe(words, item, worker, base):
    """Open the image of a row of an IMAGE_JOB table and read its header.

    Words: address of the table, functions, instance, ImageInfo template.
    """
    given = arguments(words, 4)
    row = carray(pointer(given[0]), item + 1, IMAGE_JOB)[item]
    if row.nbytes < 4:
        return
    row.head = load32(row.data)
    functions = carray(pointer(given[1]), _FUNCTIONS, np.uint64)
    zero = np.uint64(0)
    handle = np.zeros(1, np.uint64)  # a handle that is not null would be used again
    nbytes = np.uint64(row.nbytes)
    if call(functions[CREATE], (given[2], address(handle), row.data, nbytes, zero)) != 0:
        return
    info = _copy(carray(pointer(given[3]), INFO_SIZE, np.uint8), INFO_SIZE)
    at = address(info)
    if call(functions[INFO], (handle[0], at)) == 0:
        plane = at + np.uint64(_PLANE)
        width, height = load32(plane + np.uint64(24)), load32(plane + np.uint64(28))
        turned = load32(at + np.uint64(_TURN))
        flips = load32(at + np.uint64(_TURN + 4)) | load32(at + np.uint64(_TURN + 8))
        row.stream = handle[0]
        row.turned = 1 if turned != 0 or flips != 0 else 0
        row.height, row.width = height, width
        if turned == 90 or turned == 270:
            row.turned = 2
            row.height, row.width = width, height
        planes = load32(at + np.uint64(_PLANES))
        row.channels = planes if planes > 1 else load32(plane + np.uint64(40))
    else:
        call(functions[DESTROY], (handle[0], zero))
    hold(info)
    hold(handle)


@Task
def decode(words, item, worker, base):
    """Decode the window of a row of an IMAGE_JOB table, and close its code stream.

    Each worker has its own decoder.

    Words: address of the table, functions, instance, ImageInfo template, CodeStreamView template,
    DecodeParams, address of the decoders, channels, sample format, colour spec, buffer kind.
    """
    given = arguments(words, 11)
    row = carray(pointer(given[0]), item + 1, IMAGE_JOB)[item]
    if row.stream == 0 or row.rows == 0:
        return
    functions = carray(pointer(given[1]), _FUNCTIONS, np.uint64)
    info = _copy(carray(pointer(given[3]), INFO_SIZE, np.uint8), INFO_SIZE)
    decoder = carray(pointer(given[6]), worker + 1, np.uint64)[worker]
    # Code stream, image, future, status, count; a handle that is not null would be used again.
    handles = np.zeros(5, np.uint64)
    for_stream = address(handles)
    for_image, for_future = for_stream + np.uint64(8), for_stream + np.uint64(16)
    zero = np.uint64(0)
    row.status = 3
    part = row.rows != row.height or row.cols != row.width
    if part:
        view = _copy(carray(pointer(given[4]), VIEW_SIZE, np.uint8), VIEW_SIZE)
        region = address(view) + np.uint64(_VIEW_REGION)
        store32(region + np.uint64(24), np.int32(2))
        store32(region + np.uint64(28), row.y)
        store32(region + np.uint64(32), row.x)
        store32(region + np.uint64(48), np.int32(row.y + row.rows))
        store32(region + np.uint64(52), np.int32(row.x + row.cols))
        failed = call(functions[VIEW], (row.stream, for_stream, address(view)))
        hold(view)
        if failed != 0:
            return
    else:
        handles[0] = row.stream
    at = address(info)
    plane = at + np.uint64(_PLANE)
    store32(at + np.uint64(_SPEC), np.int32(given[9]))
    store32(at + np.uint64(_FORMAT), np.int32(given[8]))
    store32(at + np.uint64(_PLANES), np.int32(1))
    store32(plane + np.uint64(24), row.cols)
    store32(plane + np.uint64(28), row.rows)
    store64(plane + np.uint64(32), np.uint64(row.pitch))
    store32(plane + np.uint64(40), np.int32(given[7]))
    store32(plane + np.uint64(44), np.int32(_UINT8))
    store64(at + np.uint64(_BUFFER), row.dst + base)
    store32(at + np.uint64(_KIND), np.int32(given[10]))
    if call(functions[IMAGE], (given[2], for_image, at)) == 0:
        wanted = (decoder, for_stream, for_image, np.uint64(1), given[5], for_future)
        if call(functions[DECODE], wanted) == 0:
            call(functions[WAIT], (handles[2], zero))
            results = for_stream + np.uint64(24), for_stream + np.uint64(32)
            call(functions[STATUS], (handles[2], results[0], results[1]))
            row.status = np.int32(handles[3] & np.uint64(0xFFFFFFFF))
            call(functions[FUTURE_END], (handles[2], zero))
        call(functions[IMAGE_END], (handles[1], zero))
    if part:
        call(functions[DESTROY], (handles[0], zero))
    hold(info)
    hold(handles)
    _close(functions, row)


@Task
def release(words, item, worker, base):
    """Close the code stream of a row of an IMAGE_JOB table.

    Words: address of the table, functions.
    """
    given = arguments(words, 2)
    row = carray(pointer(given[0]), item + 1, IMAGE_JOB)[item]
    _close(carray(pointer(given[1]), _FUNCTIONS, np.uint64), row)
