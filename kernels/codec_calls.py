"""Calls into nvImageCodec for a whole batch, without the GIL.

Functions are passed as a table of addresses, in the order of `FUNCTIONS` of the decoder, and
structures as templates to copy: this file knows the offsets of their fields and nothing else.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numba import carray, cfunc, njit, types

from gpuio.kernels.native import (
    address,
    call,
    call_long,
    cut,
    fetch_add,
    load32,
    load64,
    pointer,
    stack,
    store32,
    store64,
)
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
        (
            "orientation",
            np.int32,
        ),  # EXIF: 0 upright, 2 where it swaps the sides, else 1
        ("y", np.int32),  # window to decode
        ("x", np.int32),
        ("rows", np.int32),  # 0: do not decode
        ("cols", np.int32),
        ("status", np.int32),  # 1 is success, as in nvimgcodecProcessingStatus_t
        ("head", np.int32),  # its first four bytes
        ("ended", np.int32),  # whether the markers of a JPEG lead to its end marker: see `probe`
        ("decoded_by", np.int32),  # one of the numbers below, written by `decode_batch`
    ],
    align=True,
)

DECODED_BY = 5
BY_BATCH, BY_HARDWARE, BY_GPU, BY_HYBRID, BY_CPU = range(DECODED_BY)
"""Who decoded an image. BY_BATCH: a codec that takes whole batches, as those of the hardware do."""

JPEG_HEAD, PNG_HEAD = 0xFFD8FF, 0x474E5089
"""The first bytes of a file, as in `IMAGE_JOB.head`: three of a JPEG, four of a PNG."""
_JPEG_BYTES = 0xFFFFFF
_PIXELS, _ANIMATION = 0x49444154, 0x6163544C  # the chunks IDAT and acTL of a PNG

# Offsets in nvimgcodecImageInfo_t, _Region_t within _CodeStreamView_t: nvimgcodec.h of 0.9.
_SPEC, _FORMAT, _ORIENTATION, _PLANES, _PLANE = 280, 288, 320, 336, 344
_BUFFER, _KIND, _STREAM = 2136, 2144, 2152
_VIEW_REGION = 32
_MESSAGE = 24  # in nvimgcodecDebugMessageData_t
INFO_SIZE, VIEW_SIZE = 2160, 152
_UINT8 = 0x0802
_FAILED = 3  # of nvimgcodecProcessingStatus_t

LISTENER = 4
_GET, _SET, _KEY, HEARD = range(LISTENER)
"""uint64 values that `warned` reads: the addresses of pthread_getspecific and pthread_setspecific,
the key of both, and the number of warnings so far in threads that do not listen."""


@njit(inline="always")
def _copy(template, to, size):
    """Copy a structure to address `to`, and return that address."""
    structure, mine = carray(pointer(template), size, np.uint8), carray(pointer(to), size, np.uint8)
    for k in range(size):
        mine[k] = structure[k]
    return to


@njit(inline="always")
def _output(at, row, base, channels, sample_format, color, kind, stream):
    """Set in the ImageInfo at `at` where and how the window of a row is to be written."""
    plane = at + np.uint64(_PLANE)
    store32(at + np.uint64(_SPEC), np.int32(color))
    store32(at + np.uint64(_FORMAT), np.int32(sample_format))
    store32(at + np.uint64(_PLANES), np.int32(1))
    store32(plane + np.uint64(24), row.cols)
    store32(plane + np.uint64(28), row.rows)
    store64(plane + np.uint64(32), np.uint64(row.pitch))
    store32(plane + np.uint64(40), np.int32(channels))
    store32(plane + np.uint64(44), np.int32(_UINT8))
    store64(at + np.uint64(_BUFFER), row.dst + base)
    store32(at + np.uint64(_KIND), np.int32(kind))
    store64(at + np.uint64(_STREAM), np.uint64(stream))


@njit(inline="always")
def _window(view, row):
    """Set in the CodeStreamView at `view` the window of a row."""
    region = view + np.uint64(_VIEW_REGION)
    store32(region + np.uint64(24), np.int32(2))
    store32(region + np.uint64(28), row.y)
    store32(region + np.uint64(32), row.x)
    store32(region + np.uint64(48), np.int32(row.y + row.rows))
    store32(region + np.uint64(52), np.int32(row.x + row.cols))


@njit(inline="always")
def _partial(row):
    """Whether the window of a row is less than the image."""
    return row.rows != row.height or row.cols != row.width


@njit(inline="always")
def _close(functions, row):
    """Destroy the code stream of a row, if there is one."""
    if row.stream != 0:
        call(functions[DESTROY], (row.stream, np.uint64(0)))
        row.stream = np.uint64(0)


@njit(inline="always")
def _ends_well(data):
    """Whether the markers of a JPEG are those of a whole one, from its start to its end marker.

    Segments must follow each other without a byte between them, restart markers must count from 0
    to 7, and behind pixel data only markers may stand that a whole file has there. This finds files
    that were truncated or overwritten, and reads each byte once; it cannot find bytes that are lost
    or changed inside of pixel data.
    """
    at, last, scans, restarts = 2, len(data) - 2, 0, 0
    while at <= last:
        if data[at] != 0xFF:
            if scans == 0:
                return False
            while at <= last and data[at] != 0xFF:
                at += 1
            continue
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
        elif marker == 0:  # the byte 0xFF of pixel data
            if scans == 0:
                return False
            at += 2
        elif 0xD0 <= marker <= 0xD7:
            if scans == 0 or marker - 0xD0 != restarts % 8:
                return False
            restarts += 1
            at += 2
        elif marker == 0xD9:
            return scans > 0
        elif marker < 0xC0 or marker == 0xD8 or marker == 0xC8 or 0xF0 <= marker < 0xFE:
            return False
        else:
            if at + 3 > last + 1:
                return False
            if marker == 0xDA:
                scans += 1
                restarts = 0
            at += 2 + (int(data[at + 2]) << 8 | int(data[at + 3]))
    return False


@njit(inline="always")
def _has_plain_frame(data):
    """Whether the head of a JPEG leads to a frame that libjpeg-turbo alone decodes: SOF0 to SOF2.

    Of others (arithmetic coding, no loss) it declines some, and another codec would take them.
    """
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
        elif 0xC0 <= marker <= 0xC2:
            return True
        elif marker < 0xC4 or (0xC4 < marker < 0xDB):  # another frame, or what ends a head
            return False
        else:
            at += 2 + (int(data[at + 2]) << 8 | int(data[at + 3]))
    return False


@njit(inline="always")
def _big32(data, at):
    """The big-endian 32-bit number at index `at` of (N,) uint8."""
    high, low = int(data[at]) << 8 | int(data[at + 1]), int(data[at + 2]) << 8 | int(data[at + 3])
    return high << 16 | low


@njit(inline="always")
def _is_still(data):
    """Whether no chunk of a PNG before its pixels is one of animation."""
    at = 8
    while at + 8 <= len(data):
        kind = _big32(data, at + 4)
        if kind == _PIXELS or kind == _ANIMATION:
            return kind == _PIXELS
        at += 12 + _big32(data, at)
    return False


@Task
def probe(args, item, worker, base):
    """Open the image of a row of an IMAGE_JOB table and read its header.

    Only plain JPEG and PNG are opened: parsers and codecs of other formats are not trusted, nor is
    the codec for animated PNG, which does not check checksums.

    Args:
        args: Address of the table, functions, instance, ImageInfo template, whether `ended` is
            wanted.
    """
    arg = arguments(args, 5)
    row = carray(pointer(arg[0]), item + 1, IMAGE_JOB)[item]
    if row.nbytes < 4:
        return
    row.head = load32(row.data)
    jpeg = row.head & _JPEG_BYTES == JPEG_HEAD
    if not jpeg and row.head != PNG_HEAD:
        return
    data = carray(pointer(row.data), row.nbytes, np.uint8)
    if not (_has_plain_frame(data) if jpeg else _is_still(data)):
        return
    if jpeg and arg[4] != 0:
        row.ended = _ends_well(data)
    functions = carray(pointer(arg[1]), _FUNCTIONS, np.uint64)
    zero = np.uint64(0)
    handle = stack(8)
    store64(handle, zero)  # a handle that is not null would be used again
    nbytes = np.uint64(row.nbytes)
    if call(functions[CREATE], (arg[2], handle, row.data, nbytes, zero)) != 0:
        return
    at = _copy(arg[3], stack(INFO_SIZE), INFO_SIZE)
    if call(functions[INFO], (load64(handle), at)) == 0:
        plane = at + np.uint64(_PLANE)
        width, height = load32(plane + np.uint64(24)), load32(plane + np.uint64(28))
        rotation = load32(at + np.uint64(_ORIENTATION))
        flips = load32(at + np.uint64(_ORIENTATION + 4)) | load32(at + np.uint64(_ORIENTATION + 8))
        row.stream = load64(handle)
        row.orientation = 1 if rotation != 0 or flips != 0 else 0
        row.height, row.width = height, width
        if rotation == 90 or rotation == 270:
            row.orientation = 2
            row.height, row.width = width, height
        planes = load32(at + np.uint64(_PLANES))
        row.channels = planes if planes > 1 else load32(plane + np.uint64(40))
    else:
        call(functions[DESTROY], (load64(handle), zero))


@njit(inline="always")
def _listen(listener, cell):
    """Let warnings of this thread set the uint64 at address `cell` to 1; address 0 ends that."""
    if listener != 0:
        ways = carray(pointer(listener), LISTENER, np.uint64)
        call(ways[_SET], (ways[_KEY], cell))


def _warned(listener, template, text):
    """Record that libjpeg warns of an image, in the thread that decodes it.

    libjpeg prints its first warning of an image to `stderr`. It gets this function in place of
    `fprintf`, and `listener` in place of `stderr`.

    Args:
        listener: Address of (LISTENER,) uint64.
        template: Not used.
        text: Not used.

    Returns:
        0, the number of characters printed.
    """
    ways = carray(pointer(listener), LISTENER, np.uint64)
    cell = np.uint64(call_long(ways[_GET], (ways[_KEY],)))
    if cell != 0:
        store64(cell, np.uint64(1))
    else:
        fetch_add(listener + np.uint64(8 * HEARD), np.int64(1))
    return 0


@cache
def warned():
    """`_warned`, compiled; its `address` can be called as `fprintf` is."""
    signature = types.int32(types.uint64, types.uint64, types.uint64)
    return cfunc(signature, cache=True, error_model="numpy")(_warned)


@Task
def decode(args, item, worker, base):
    """Decode the window of a row of an IMAGE_JOB table, and close its code stream.

    Each worker has its own decoder. An image of which libjpeg warned has failed.

    Args:
        args: Address of the table, functions, instance, ImageInfo template, CodeStreamView
            template, DecodeParams, address of the decoders, channels, sample format, colour spec,
            buffer kind, what `warned` reads, or 0.
    """
    arg = arguments(args, 12)
    row = carray(pointer(arg[0]), item + 1, IMAGE_JOB)[item]
    if row.stream == 0 or row.rows == 0:
        return
    functions = carray(pointer(arg[1]), _FUNCTIONS, np.uint64)
    decoder = carray(pointer(arg[6]), worker + 1, np.uint64)[worker]
    # Code stream, image, future, status, count, whether libjpeg warned; a handle that is not null
    # would be used again.
    for_stream = stack(48)
    handles = carray(pointer(for_stream), 6, np.uint64)
    handles[:] = 0
    for_image, for_future = for_stream + np.uint64(8), for_stream + np.uint64(16)
    zero = np.uint64(0)
    row.status = _FAILED
    part = _partial(row)
    if part:
        view = _copy(arg[4], stack(VIEW_SIZE), VIEW_SIZE)
        _window(view, row)
        if call(functions[VIEW], (row.stream, for_stream, view)) != 0:
            return
    else:
        handles[0] = row.stream
    at = _copy(arg[3], stack(INFO_SIZE), INFO_SIZE)
    _output(at, row, base, arg[7], arg[8], arg[9], arg[10], zero)
    if call(functions[IMAGE], (arg[2], for_image, at)) == 0:
        wanted = (decoder, for_stream, for_image, np.uint64(1), arg[5], for_future)
        _listen(arg[11], for_stream + np.uint64(40))
        if call(functions[DECODE], wanted) == 0:
            call(functions[WAIT], (handles[2], zero))
            results = for_stream + np.uint64(24), for_stream + np.uint64(32)
            call(functions[STATUS], (handles[2], results[0], results[1]))
            row.status = np.int32(handles[3] & np.uint64(0xFFFFFFFF))
            call(functions[FUTURE_END], (handles[2], zero))
        _listen(arg[11], zero)
        if handles[5] != 0:
            row.status = _FAILED
        call(functions[IMAGE_END], (handles[1], zero))
    if part:
        call(functions[DESTROY], (handles[0], zero))
    _close(functions, row)


@Task
def release(args, item, worker, base):
    """Close the code stream of a row of an IMAGE_JOB table.

    Args:
        args: Address of the table, functions.
    """
    arg = arguments(args, 2)
    row = carray(pointer(arg[0]), item + 1, IMAGE_JOB)[item]
    _close(carray(pointer(arg[1]), _FUNCTIONS, np.uint64), row)


_TABLE, _COUNT, _BASES, _CUDA_STREAM, _CALLS, _INSTANCE, _INFO, _TEMPLATE = range(8)
_PARAMS, _DECODER, _CHANNELS, _SAMPLE_FORMAT, _COLOR, _BUFFER_KIND, _CHUNK, _NOTES = range(8, 16)
_SCRATCH, _OUTCOME = 16, 17


def batch_bytes(chunk):
    """Bytes that `decode_batch` takes for tables, with at most `chunk` images in one call."""
    return 32 * chunk + 5 * 64


@njit(nogil=True, cache=True, error_model="numpy")
def decode_batch(args):
    """Decode the windows of all rows of an IMAGE_JOB table, and close their code streams.

    It returns when the host has done its part: what a GPU still does is in order with the stream.
    `status` and `decoded_by` of the rows are written.

    Args:
        args: (18,) uint64: addresses of table, count of rows, addresses of (N,) uint64 bases, a
            CUDA stream or 0, functions, instance, ImageInfo template, CodeStreamView template,
            DecodeParams, decoder, channels, sample format, colour spec, buffer kind, most images
            in one call, the address of what `note` reads, the address of `batch_bytes` bytes;
            last, written here, the first status of the library that was an error, or 0.
    """
    chunk = int(args[_CHUNK])
    functions = carray(pointer(args[_CALLS]), _FUNCTIONS, np.uint64)
    rows = carray(pointer(args[_TABLE]), int(args[_COUNT]), IMAGE_JOB)
    bases = carray(pointer(args[_BASES]), len(rows), np.uint64)
    info = _copy(args[_INFO], stack(INFO_SIZE), INFO_SIZE)
    view = _copy(args[_TEMPLATE], stack(VIEW_SIZE), VIEW_SIZE)
    places, for_streams = cut(args[_SCRATCH], chunk, np.int64)
    streams, for_images = cut(for_streams, chunk, np.uint64)
    images, for_statuses = cut(for_images, chunk, np.uint64)
    statuses, for_codes = cut(for_statuses, chunk, np.int32)
    codes = carray(pointer(for_codes), chunk, np.int8)
    zero = np.uint64(0)
    used = 0
    for item in range(len(rows)):
        row = rows[item]
        if row.stream != 0 and row.rows != 0:
            row.status = _FAILED
            # A handle that is not null would be used again.
            streams[used], images[used] = row.stream, zero
            ready = True
            if _partial(row):
                streams[used] = zero
                _window(view, row)
                stream = for_streams + np.uint64(8 * used)
                ready = call(functions[VIEW], (row.stream, stream, view)) == 0
            if ready:
                _output(
                    info,
                    row,
                    bases[item],
                    args[_CHANNELS],
                    args[_SAMPLE_FORMAT],
                    args[_COLOR],
                    args[_BUFFER_KIND],
                    args[_CUDA_STREAM],
                )
                image = for_images + np.uint64(8 * used)
                if call(functions[IMAGE], (args[_INSTANCE], image, info)) == 0:
                    places[used] = item
                    used += 1
                elif _partial(row):
                    call(functions[DESTROY], (streams[used], zero))
        if used == chunk or (used != 0 and item == len(rows) - 1):
            _decode_chunk(args, functions, rows, places, streams, images, statuses, codes, used)
            used = 0
    for item in range(len(rows)):
        _close(functions, rows[item])


@njit(nogil=True, error_model="numpy")
def _decode_chunk(args, functions, rows, places, streams, images, statuses, codes, used):
    """Decode the first `used` streams and images in one call of the decoder, and close them."""
    zero = np.uint64(0)
    future, size = stack(8), stack(8)
    store64(future, zero)  # a handle that is not null would be used again
    statuses[:used] = 0
    notes = carray(pointer(args[_NOTES]), 2, np.uint64)
    codes[:used] = BY_BATCH
    notes[0], notes[1] = address(codes), np.uint64(used)
    wanted = (
        args[_DECODER],
        address(streams),
        address(images),
        np.uint64(used),
        args[_PARAMS],
        future,
    )
    failed = call(functions[DECODE], wanted)
    if failed == 0:
        failed = call(functions[WAIT], (load64(future), zero))
        call(functions[STATUS], (load64(future), address(statuses), size))
        call(functions[FUTURE_END], (load64(future), zero))
    if args[_OUTCOME] == 0:
        args[_OUTCOME] = np.uint64(failed)
    notes[1] = zero
    for k in range(used):
        row = rows[places[k]]
        if failed == 0:
            row.status = statuses[k]
            row.decoded_by = codes[k]
        call(functions[IMAGE_END], (images[k], zero))
        if streams[k] != row.stream:
            call(functions[DESTROY], (streams[k], zero))


_CHARACTERS = 256  # messages of interest are shorter
_STEP = np.frombuffer(b" process #", np.uint8)
_HARDWARE, _HYBRID = np.frombuffer(b"nvjpeg_hw", np.uint8), np.frombuffer(b"nvjpeg_cuda", np.uint8)
_GPU = np.frombuffer(b"nvjpeg", np.uint8), np.frombuffer(b"nvtiff", np.uint8)


@njit(inline="always")
def _reads(text, at, word):
    """Whether `word` stands in a text that ends with a zero."""
    for k in range(len(word)):  # noqa: SIM110  numba has no all()
        if text[at + k] != word[k]:
            return False
    return True


def _note(severity, category, message, notes):
    """Record, from a message of nvImageCodec, which codec decodes an image.

    Such messages look like "0: nvjpeg_cuda_decoder process #17": thread, codec, place in the
    batch. Codecs that take several images at once send none. An image that a codec fails to
    decode is taken by the next one, with another message.

    Args:
        severity: Not used.
        category: Not used.
        message: Address of an nvimgcodecDebugMessageData_t.
        notes: Address of two uint64: the address of one int8 for each image, and their number.

    Returns:
        1, which means that the message is handled.
    """
    text = carray(pointer(load64(message + np.uint64(_MESSAGE))), _CHARACTERS, np.uint8)
    codec = at = 0
    while text[at] != 0 and not _reads(text, at, _STEP):
        if codec == 0 and text[at] == ord(":"):
            codec = at + 2
        at += 1
        if at == _CHARACTERS - len(_STEP):
            return 1
    if text[at] == 0 or codec == 0:
        return 1
    at += len(_STEP)
    place = 0
    while at < _CHARACTERS and ord("0") <= text[at] <= ord("9"):
        place = 10 * place + int(text[at]) - ord("0")
        at += 1
    found = carray(pointer(notes), 2, np.uint64)
    if place < found[1]:
        kind = BY_CPU
        if _reads(text, codec, _HARDWARE):
            kind = BY_HARDWARE
        elif _reads(text, codec, _HYBRID):
            kind = BY_HYBRID
        elif _reads(text, codec, _GPU[0]) or _reads(text, codec, _GPU[1]):
            kind = BY_GPU
        carray(pointer(found[0]), int(found[1]), np.int8)[place] = kind
    return 1


@cache
def note():
    """`_note`, compiled; its `address` is an nvimgcodecDebugCallback_t."""
    signature = types.int32(types.int32, types.int32, types.uint64, types.uint64)
    return cfunc(signature, cache=True, error_model="numpy")(_note)
