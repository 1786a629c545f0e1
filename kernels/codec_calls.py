"""Calls into nvImageCodec for a whole batch, without the GIL.

The functions come as a table of addresses in the order of `FUNCTIONS` of the decoder, the
structures as templates to copy, so that this file knows their offsets and nothing else.
"""

from __future__ import annotations

import numpy as np
from numba import carray, njit

from gpuio.kernels.native import address, call, hold, load32, pointer, store32, store64
from gpuio.kernels.parallel import Task, job_words, job_worker, next_item

CREATE, INFO, VIEW, DESTROY, IMAGE, IMAGE_END, DECODE, WAIT, STATUS, FUTURE_END = range(10)

IMAGE_JOB = np.dtype(
    [
        ("data", np.uint64),  # address of the encoded image
        ("nbytes", np.int64),
        ("stream", np.uint64),  # code stream, 0 where it could not be made
        ("dst", np.uint64),  # address of the first pixel wanted
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


@njit(inline="always")
def _copy(template, size):
    """A private copy of a structure, with room to spare for alignment."""
    mine = np.empty(size, np.uint8)
    for k in range(size):
        mine[k] = template[k]
    return mine


@Task
def probe(job):
    """Open every image of an IMAGE_JOB table and read its header.

    Words: address of the table, its length, functions, instance, ImageInfo template.
    """
    words = job_words(job, 5)
    table = carray(pointer(words[0]), words[1], IMAGE_JOB)
    functions = carray(pointer(words[2]), 10, np.uint64)
    template = carray(pointer(words[4]), INFO_SIZE, np.uint8)
    info = _copy(template, INFO_SIZE)
    at = address(info)
    handle = np.zeros(1, np.uint64)
    zero = np.uint64(0)
    while True:
        i = next_item(job)
        if i < 0:
            break
        row = table[i]
        if row.nbytes < 4:
            continue
        row.head = load32(row.data)
        handle[0] = 0  # a handle that is not null would be used again
        made = call(
            functions[CREATE], (words[3], address(handle), row.data, np.uint64(row.nbytes), zero)
        )
        if made != 0:
            continue
        row.stream = handle[0]
        if call(functions[INFO], (row.stream, at)) != 0:
            call(functions[DESTROY], (row.stream, zero))
            row.stream = zero
            continue
        plane = at + np.uint64(_PLANE)
        width, height = load32(plane + np.uint64(24)), load32(plane + np.uint64(28))
        turned = load32(at + np.uint64(_TURN))
        flips = load32(at + np.uint64(_TURN + 4)) | load32(at + np.uint64(_TURN + 8))
        row.turned = 1 if turned != 0 or flips != 0 else 0
        row.height, row.width = height, width
        if turned == 90 or turned == 270:
            row.turned = 2
            row.height, row.width = width, height
        planes = load32(at + np.uint64(_PLANES))
        row.channels = planes if planes > 1 else load32(plane + np.uint64(40))
    hold(info)
    hold(handle)


@Task
def decode(job):
    """Decode the windows of an IMAGE_JOB table into memory; one decoder for each worker.

    Words: address of the table, its length, functions, instance, ImageInfo template,
    CodeStreamView template, DecodeParams, address of the decoders, channels, sample format,
    colour spec, buffer kind.
    """
    words = job_words(job, 12)
    table = carray(pointer(words[0]), words[1], IMAGE_JOB)
    functions = carray(pointer(words[2]), 10, np.uint64)
    info = _copy(carray(pointer(words[4]), INFO_SIZE, np.uint8), INFO_SIZE)
    view = _copy(carray(pointer(words[5]), VIEW_SIZE, np.uint8), VIEW_SIZE)
    decoder = carray(pointer(words[7]), job_worker(job) + 1, np.uint64)[job_worker(job)]
    at = address(info)
    plane, region = at + np.uint64(_PLANE), address(view) + np.uint64(_VIEW_REGION)
    store32(at + np.uint64(_SPEC), np.int32(words[10]))
    store32(at + np.uint64(_FORMAT), np.int32(words[9]))
    store32(at + np.uint64(_PLANES), np.int32(1))
    store32(plane + np.uint64(40), np.int32(words[8]))
    store32(plane + np.uint64(44), np.int32(0x0802))
    store32(at + np.uint64(_KIND), np.int32(words[11]))
    handles = np.zeros(5, np.uint64)  # code stream, image, future, status, count
    zero = np.uint64(0)
    for_stream = address(handles)
    for_image, for_future = for_stream + np.uint64(8), for_stream + np.uint64(16)
    for_status, for_count = for_stream + np.uint64(24), for_stream + np.uint64(32)
    while True:
        i = next_item(job)
        if i < 0:
            break
        row = table[i]
        if row.stream == 0 or row.rows == 0:
            continue
        row.status = 3
        part = row.rows != row.height or row.cols != row.width
        handles[:3] = 0  # a handle that is not null would be used again
        handles[0] = row.stream
        if part:
            store32(region + np.uint64(24), np.int32(2))
            store32(region + np.uint64(28), row.y)
            store32(region + np.uint64(32), row.x)
            store32(region + np.uint64(48), np.int32(row.y + row.rows))
            store32(region + np.uint64(52), np.int32(row.x + row.cols))
            handles[0] = 0
            if call(functions[VIEW], (row.stream, for_stream, address(view))) != 0:
                continue
        store32(plane + np.uint64(24), row.cols)
        store32(plane + np.uint64(28), row.rows)
        store64(plane + np.uint64(32), np.uint64(row.pitch))
        store64(at + np.uint64(_BUFFER), row.dst)
        if call(functions[IMAGE], (words[3], for_image, at)) == 0:
            arguments = (decoder, for_stream, for_image, np.uint64(1), words[6], for_future)
            if call(functions[DECODE], arguments) == 0:
                call(functions[WAIT], (handles[2], zero))
                call(functions[STATUS], (handles[2], for_status, for_count))
                row.status = load32(for_status)
                call(functions[FUTURE_END], (handles[2], zero))
            call(functions[IMAGE_END], (handles[1], zero))
        if part:
            call(functions[DESTROY], (handles[0], zero))
    hold(info)
    hold(view)
    hold(handles)


@Task
def release(job):
    """Close the code streams of an IMAGE_JOB table.

    Words: address of the table, its length, functions.
    """
    words = job_words(job, 3)
    table = carray(pointer(words[0]), words[1], IMAGE_JOB)
    functions = carray(pointer(words[2]), 10, np.uint64)
    while True:
        i = next_item(job)
        if i < 0:
            break
        if table[i].stream != 0:
            call(functions[DESTROY], (table[i].stream, np.uint64(0)))
            table[i].stream = np.uint64(0)
