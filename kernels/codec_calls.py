"""Calls into nvImageCodec for a whole batch, without the GIL.

What a kernel takes besides its table is a structure of addresses and numbers, whose fields are its
arguments in their order. Structures of the library are copies of templates that Python has filled
in; here only the fields are known that differ from image to image.

Source of the offsets: nvimgcodec.h of nvImageCodec 0.9.
"""

from __future__ import annotations

import numpy as np
from numba import from_dtype, types

from gpuio.kernels.arrays import INTS, LONGS, address, array_at, cut
from gpuio.kernels.codec_messages import listen
from gpuio.kernels.markers import (
    LUMA_CHROMA,
    PNG_HEAD,
    RED_GREEN_BLUE,
    UNKNOWN_COLOR,
    components_of,
    ends_well,
    is_jpeg_head,
    is_still,
    plain_frame,
)
from gpuio.kernels.native import call, device_function, load32, load64, stack, store64
from gpuio.kernels.parallel import Task
from gpuio.kernels.routine import Routine

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
        ("orientation", np.int32),  # EXIF: 0 upright, 2 where it swaps the sides, else 1
        ("y", np.int32),  # window to decode
        ("x", np.int32),
        ("rows", np.int32),  # 0: do not decode
        ("cols", np.int32),
        ("status", np.int32),  # 1 is success, as in nvimgcodecProcessingStatus_t
        ("head", np.int32),  # its first four bytes: see kernels/markers.py
        ("frame", np.int32),  # of a JPEG: 0 baseline, 1 extended, 2 progressive
        ("color", np.int32),  # stored in the file, as in nvimgcodecColorSpec_t
        ("sampling", np.int32),  # of its chroma, as in nvimgcodecChromaSubsampling_t
        ("planar", np.int32),  # 1: decode to planes of luma and chroma; 0: to pixels
        ("planes", np.int64),  # bytes from the item's memory to its planes, which are contiguous
        ("chroma_rows", np.int32),
        ("chroma_cols", np.int32),
        ("whole", np.int32),  # whether a JPEG has all its markers, and colours are told
    ],
    align=True,
)


def _words(names):
    """A structure of uint64."""
    return np.dtype([(name, np.uint64) for name in names.split()])


def _structure(nbytes, **fields):
    """A structure of the library, of which some fields are known: by name, offset and type."""
    offsets, formats = zip(*fields.values(), strict=True)
    layout = {"names": [*fields], "offsets": offsets, "formats": formats, "itemsize": nbytes}
    return np.dtype(layout)


def _plane(number):
    """The fields of a plane of an ImageInfo; those of the first one have no number."""
    at, name = 344 + 56 * number, f"_{number}" if number else ""
    return {
        f"width{name}": (at + 24, np.int32),
        f"height{name}": (at + 28, np.int32),
        f"pitch{name}": (at + 32, np.uint64),
        f"channels{name}": (at + 40, np.int32),
        f"type{name}": (at + 44, np.int32),
    }


FUNCTIONS = _words("create info sub_stream destroy image image_end decode wait status future_end")
"""Addresses of functions of the library, in the order of `FUNCTIONS` of the decoder."""

_INFO_BYTES, _VIEW_BYTES = 2160, 152
_INFO = _structure(
    _INFO_BYTES,
    rotation=(320, np.int32),
    flip_x=(324, np.int32),
    flip_y=(328, np.int32),
    color=(280, np.int32),
    sampling=(284, np.int32),
    format=(288, np.int32),
    planes=(336, np.int32),
    **_plane(0),
    **_plane(1),
    **_plane(2),
    buffer=(2136, np.uint64),
)
"""nvimgcodecImageInfo_t."""
_VIEW = _structure(
    _VIEW_BYTES,
    y=(60, np.int32),
    x=(64, np.int32),
    y_end=(80, np.int32),
    x_end=(84, np.int32),
)
"""nvimgcodecCodeStreamView_t."""
_PLANAR_YUV = 11  # of nvimgcodecSampleFormat_t
_SRGB, _SYCC = 1, 3  # of nvimgcodecColorSpec_t
_FAILED = 3  # of nvimgcodecProcessingStatus_t
_ZERO = np.uint64(0)
_ADDRESS = types.uint64
_INFO_ROW, _IMAGE_ROW = from_dtype(_INFO), from_dtype(IMAGE_JOB)
_IMAGES, _WORDS = types.Array(_IMAGE_ROW, 1, "C"), types.Array(types.uint64, 1, "C")


@device_function(types.void(*[types.uint64] * 2, types.int64))
def _copy(template, to, nbytes):
    """Copy a structure, of a multiple of 8 bytes, to address `to`."""
    for k in range(0, nbytes, 8):
        store64(to + np.uint64(k), load64(template + np.uint64(k)))


@device_function(types.void(_INFO_ROW, _IMAGE_ROW, _ADDRESS))
def _set_target(info, row, base):
    """Set in an ImageInfo where the window of a row is to be written."""
    info.width, info.height = row.cols, row.rows
    info.pitch, info.buffer = np.uint64(row.pitch), row.dst + base


@device_function(types.void(_INFO_ROW, _INFO_ROW, _IMAGE_ROW, _ADDRESS))
def _set_planes(info, pixels, row, base):
    """Set in an ImageInfo where the planes of a row are to be written.

    Args:
        info: The ImageInfo.
        pixels: That of pixels.
        row: The IMAGE_JOB row.
        base: Address of the item's memory.
    """
    _set_target(info, row, base + np.uint64(row.planes))
    info.planes, info.channels = 3, 1
    info.pitch = np.uint64(row.cols)
    info.width_1, info.height_1 = row.chroma_cols, row.chroma_rows
    info.width_2, info.height_2 = row.chroma_cols, row.chroma_rows
    info.pitch_1 = info.pitch_2 = np.uint64(row.chroma_cols)
    info.channels_1 = info.channels_2 = 1
    info.type_1 = info.type_2 = pixels.type
    info.format, info.color, info.sampling = _PLANAR_YUV, _SYCC, row.sampling


@device_function(types.void(_INFO_ROW, _INFO_ROW, _IMAGE_ROW, _ADDRESS))
def _set_pixels(info, pixels, row, base):
    """Set in an ImageInfo where the pixels of a row are to be written, as in ImageInfo `pixels`."""
    _set_target(info, row, base)
    info.planes, info.channels = pixels.planes, pixels.channels
    info.format, info.color, info.sampling = pixels.format, pixels.color, pixels.sampling


@device_function(types.void(from_dtype(_VIEW), _IMAGE_ROW))
def _set_window(view, row):
    """Set in a CodeStreamView the window of a row."""
    view.y, view.x = row.y, row.x
    view.y_end, view.x_end = row.y + row.rows, row.x + row.cols


@device_function(types.boolean(_IMAGE_ROW))
def _partial(row):
    """Whether the window of a row is less than the image."""
    return row.rows != row.height or row.cols != row.width


@device_function(types.void(from_dtype(FUNCTIONS), _IMAGE_ROW))
def _close(functions, row):
    """Destroy the code stream of a row, if there is one."""
    if row.stream != 0:
        call(functions.destroy, (row.stream, _ZERO))
        row.stream = _ZERO


_PROBE = _words("jobs functions instance info check_whole")


@Task
def probe(args, item, worker, base):
    """Open the image of a row of an IMAGE_JOB table and read its header.

    Only plain JPEG and PNG are opened: parsers and codecs of other formats are not trusted, nor is
    the codec for animated PNG, which does not check checksums.

    Args:
        args: Address of a _PROBE: the table; FUNCTIONS; an instance; an ImageInfo to copy; whether
            `ended` is wanted.
    """
    arg = array_at(args, 1, _PROBE)[0]
    row = array_at(arg.jobs, item + 1, IMAGE_JOB)[item]
    if row.nbytes < 4:
        return
    row.head = load32(row.data)
    jpeg = is_jpeg_head(row.head)
    if not jpeg and row.head != PNG_HEAD:
        return
    data = array_at(row.data, row.nbytes, np.uint8)
    if jpeg:
        row.frame = plain_frame(data)
        if row.frame < 0:
            return
    elif not is_still(data):
        return
    components = components_of(data) if jpeg else LUMA_CHROMA
    if jpeg and arg.check_whole != 0:
        row.whole = ends_well(data) and components != UNKNOWN_COLOR
    functions, handle = array_at(arg.functions, 1, FUNCTIONS)[0], stack(8)
    store64(handle, _ZERO)  # a handle that is not null would be used again
    nbytes = np.uint64(row.nbytes)
    if call(functions.create, (arg.instance, handle, row.data, nbytes, _ZERO)) != 0:
        return
    at = stack(_INFO_BYTES)
    _copy(arg.info, at, _INFO_BYTES)
    info = array_at(at, 1, _INFO)[0]
    if call(functions.info, (load64(handle), at)) == 0:
        row.stream = load64(handle)
        turned = info.rotation != 0 or info.flip_x != 0 or info.flip_y != 0
        row.orientation = 1 if turned else 0
        row.height, row.width = info.height, info.width
        if info.rotation == 90 or info.rotation == 270:
            row.orientation = 2
            row.height, row.width = info.width, info.height
        row.color, row.sampling = info.color, info.sampling
        if components == RED_GREEN_BLUE:  # the library takes these for luma and chroma
            row.color = _SRGB
        row.channels = info.planes if info.planes > 1 else info.channels
    else:
        call(functions.destroy, (load64(handle), _ZERO))


_DECODE = _words("jobs functions instance info region params decoders listener")
_HANDLES = _words("stream image future status count warned")


@Task
def decode(args, item, worker, base):
    """Decode the window of a row of an IMAGE_JOB table, and close its code stream.

    Each worker has its own decoder. An image of which libjpeg warned has failed.

    Args:
        args: Address of a _DECODE: the table; FUNCTIONS; an instance; an ImageInfo, a
            CodeStreamView and DecodeParams to copy or use; the decoders, one for each worker; a
            LISTENER of `warned`, or 0.
    """
    arg = array_at(args, 1, _DECODE)[0]
    row = array_at(arg.jobs, item + 1, IMAGE_JOB)[item]
    if row.stream == 0 or row.rows == 0:
        return
    functions = array_at(arg.functions, 1, FUNCTIONS)[0]
    decoder = array_at(arg.decoders, worker + 1, np.uint64)[worker]
    at = stack(48)
    for k in range(6):
        store64(at + np.uint64(8 * k), _ZERO)  # a handle that is not null would be used again
    handles = array_at(at, 1, _HANDLES)[0]
    for_image, for_future, for_status = at + np.uint64(8), at + np.uint64(16), at + np.uint64(24)
    for_count, for_warning = at + np.uint64(32), at + np.uint64(40)
    row.status = _FAILED
    part = _partial(row)
    if part:
        for_view = stack(_VIEW_BYTES)
        _copy(arg.region, for_view, _VIEW_BYTES)
        _set_window(array_at(for_view, 1, _VIEW)[0], row)
        if call(functions.sub_stream, (row.stream, at, for_view)) != 0:
            return
    else:
        handles.stream = row.stream
    for_info = stack(_INFO_BYTES)
    _copy(arg.info, for_info, _INFO_BYTES)
    _set_target(array_at(for_info, 1, _INFO)[0], row, base)
    if call(functions.image, (arg.instance, for_image, for_info)) == 0:
        wanted = (decoder, at, for_image, np.uint64(1), arg.params, for_future)
        listen(arg.listener, for_warning)
        if call(functions.decode, wanted) == 0:
            call(functions.wait, (handles.future, _ZERO))
            call(functions.status, (handles.future, for_status, for_count))
            row.status = load32(for_status)
            call(functions.future_end, (handles.future, _ZERO))
        listen(arg.listener, _ZERO)
        if handles.warned != 0:
            row.status = _FAILED
        call(functions.image_end, (handles.image, _ZERO))
    if part:
        call(functions.destroy, (handles.stream, _ZERO))
    _close(functions, row)


_RELEASE = _words("jobs functions")


@Task
def release(args, item, worker, base):
    """Close the code stream of a row of an IMAGE_JOB table.

    Args:
        args: Address of a _RELEASE: the table; FUNCTIONS.
    """
    arg = array_at(args, 1, _RELEASE)[0]
    row = array_at(arg.jobs, item + 1, IMAGE_JOB)[item]
    _close(array_at(arg.functions, 1, FUNCTIONS)[0], row)


BATCH = _words("bases functions instance info region params decoder scratch chunk")
"""What `decode_batch` takes besides the images.

`bases` is the address of (N,) uint64, `functions` of FUNCTIONS, `scratch` of `batch_bytes` bytes;
`info`, `region` and `params` are those of an ImageInfo, a CodeStreamView and DecodeParams. `chunk`
is the most images in one call of the library.
"""


def batch_bytes(chunk):
    """Bytes that `decode_batch` takes for tables, with at most `chunk` images in one call."""
    return 28 * chunk + 4 * 64


@device_function(
    types.void(
        from_dtype(BATCH), from_dtype(FUNCTIONS), _IMAGES, LONGS, _WORDS, _WORDS, INTS, types.int64
    )
)
def _decode_chunk(arg, functions, rows, places, streams, images, statuses, used):
    """Decode the first `used` streams and images in one call of the decoder."""
    future, size, count = stack(8), stack(8), np.uint64(used)
    store64(future, _ZERO)  # a handle that is not null would be used again
    statuses[:used] = 0
    wanted = (arg.decoder, address(streams), address(images), count, arg.params, future)
    failed = call(functions.decode, wanted)
    if failed == 0:
        failed = call(functions.wait, (load64(future), _ZERO))
        call(functions.status, (load64(future), address(statuses), size))
        call(functions.future_end, (load64(future), _ZERO))
    for k in range(used):
        row = rows[places[k]]
        if failed == 0:
            row.status = statuses[k]
        call(functions.image_end, (images[k], _ZERO))
        if streams[k] != row.stream:
            call(functions.destroy, (streams[k], _ZERO))


def _decode_batch(table, length, wanted, count, batch):
    """As `decode_batch`, of addresses."""
    arg = array_at(batch, 1, BATCH)[0]
    rows, places = array_at(table, length, IMAGE_JOB), array_at(wanted, count, np.int64)
    chunk = int(arg.chunk)
    functions = array_at(arg.functions, 1, FUNCTIONS)[0]
    bases = array_at(arg.bases, length, np.uint64)
    for_info, for_view = stack(_INFO_BYTES), stack(_VIEW_BYTES)
    _copy(arg.info, for_info, _INFO_BYTES)
    info = array_at(for_info, 1, _INFO)[0]
    pixels = array_at(arg.info, 1, _INFO)[0]
    _copy(arg.region, for_view, _VIEW_BYTES)
    view = array_at(for_view, 1, _VIEW)[0]
    ready, for_streams = cut(arg.scratch, chunk, np.int64)
    streams, for_images = cut(for_streams, chunk, np.uint64)
    images, for_statuses = cut(for_images, chunk, np.uint64)
    statuses = array_at(for_statuses, chunk, np.int32)
    used = 0
    for k in range(count):
        item = places[k]
        row = rows[item]
        row.status = _FAILED
        # A handle that is not null would be used again.
        streams[used], images[used] = row.stream, _ZERO
        is_open = True
        if _partial(row):
            streams[used] = _ZERO
            _set_window(view, row)
            stream = for_streams + np.uint64(8 * used)
            is_open = call(functions.sub_stream, (row.stream, stream, for_view)) == 0
        if is_open:
            if row.planar != 0:
                _set_planes(info, pixels, row, bases[item])
            else:
                _set_pixels(info, pixels, row, bases[item])
            image = for_images + np.uint64(8 * used)
            if call(functions.image, (arg.instance, image, for_info)) == 0:
                ready[used] = item
                used += 1
            elif _partial(row):
                call(functions.destroy, (streams[used], _ZERO))
        if used == chunk or (used != 0 and k == count - 1):
            _decode_chunk(arg, functions, rows, ready, streams, images, statuses, used)
            used = 0


_batch_decoder = Routine(
    _decode_batch,
    types.void(types.uint64, types.int64, types.uint64, types.int64, types.uint64),
)


def decode_batch(rows, places, batch):
    """Decode the windows of some images of a batch; their code streams stay open.

    It returns when the host has done its part: what a GPU still does is in order with the stream.
    `status` of the rows is written.

    Args:
        rows: (N,) IMAGE_JOB.
        places: (M,) int64, rows that have a code stream and a window.
        batch: (1,) BATCH.
    """
    _batch_decoder(rows.ctypes.data, len(rows), places.ctypes.data, len(places), batch.ctypes.data)
