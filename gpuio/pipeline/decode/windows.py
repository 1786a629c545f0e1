"""From headers, and the windows that a plan wants, to what a decoder is asked to decode."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gpuio.errors import BackendError, DecodeError
from gpuio.formats import codec
from gpuio.pipeline.decode.base import NO_MEMORY, Decoder, check_pixels, check_size
from gpuio.pipeline.decode.jobs import DecodeJobs, Headers
from gpuio.pipeline.read.reader import RecordBatch
from gpuio.transforms.geometry import LARGEST


def open_headers(decoder: Decoder, records: RecordBatch) -> Headers:
    """The headers of a batch; images that cannot be decoded are faults from here on."""
    if records.is_cached:
        headers = Headers(np.zeros((len(records.nbytes), 2), np.int32), {})
    else:
        headers = decoder.open(records)
    _check_form(decoder, headers, len(records.nbytes))
    cached = records.cached
    if records.found is not None:
        headers.size[cached] = records.found.size[cached]
    for place in np.flatnonzero(_is_unusable(headers.size)).tolist():
        height, width = headers.size[place].tolist()
        try:
            codec.check_size(height, width)
            reason = f"image: {width} x {height} pixels, and a side has at most {LARGEST}"
        except DecodeError as error:
            reason = str(error)
        decoder.reject(records, place, reason)
        _leave_out(headers, place)
    for place, pixels in list(headers.pixels.items()):
        try:
            check_pixels(decoder, pixels)
            check_size(pixels, *headers.size[place].tolist())
        except DecodeError as error:
            decoder.reject(records, place, str(error))
            _leave_out(headers, place)
    unreadable = (headers.size[:, 0] == 0) | ((records.nbytes == 0) & ~cached)
    for place in np.flatnonzero(unreadable).tolist():
        if place in records.samples.faults:
            continue
        if data := records.encoded(place):
            decoder.reject(records, place, _why_unreadable(decoder, data))
        else:
            hint = decoder.source.hint(int(records.samples.ids[place]))
            decoder.reject(records, place, f"its image has 0 bytes{hint}")
    return headers


def decode_jobs(
    decoder: Decoder,
    records: RecordBatch,
    headers: Headers,
    window: npt.NDArray[np.int64] | npt.NDArray[np.int32],
) -> DecodeJobs:
    """What `decoder` is asked to decode; samples at fault or in the cache are left out.

    Args:
        decoder: The one that read the headers.
        records: The encoded images.
        headers: Headers of the batch.
        window: (N, 4) y, x, height, width, in pixels: the part of each image that is wanted.
    """
    box = window.astype(np.int32)
    if not decoder.windowed:
        box[:, :2], box[:, 2:] = 0, headers.size
    # libjpeg-turbo does not smooth the colours of the first column, if that is all it gets.
    column = (box[:, 1] == 0) & (box[:, 3] == 1)
    box[column, 3] = np.minimum(2, headers.size[column, 1])
    if not records.is_cached:
        decoder.widen(box, headers, records.samples)
    box[[*records.samples.faults, *headers.pixels, *headers.later], 2:] = 0
    box[records.cached, 2:] = 0
    decoder.windows += int(((box[:, 2] > 0) & (box[:, 2:] != headers.size).any(axis=1)).sum())
    return DecodeJobs(headers, box, decoder.channels)


def _check_form(decoder: Decoder, headers: Headers, count: int) -> None:
    """Refuse headers that are not those of a batch of `count` images.

    Raises:
        BackendError: The decoder has given sizes of another shape, or pixels of no image.
    """
    size = headers.size
    if size.shape != (count, 2) or size.dtype.kind not in "iu":
        raise BackendError(
            f"the decoder {decoder.name!r} must open a batch to sizes of shape ({count}, 2) and "
            f"dtype int32, and its `open` has returned {size.dtype} of shape {size.shape}"
        )
    strays = [place for place in (*headers.pixels, *headers.later) if not 0 <= place < count]
    if strays:
        raise BackendError(
            f"the decoder {decoder.name!r} has opened an image at place {strays[0]} of a batch of "
            f"{count}"
        )


def _why_unreadable(decoder: Decoder, data: bytes) -> str:
    """Why there is no picture in `data`, which `Decoder.open` could not read."""
    try:
        check_pixels(decoder, decoder.decode_image(data))
    except DecodeError as error:
        return str(error)
    except MemoryError:
        return NO_MEMORY
    return f"{decoder.name} cannot decode it, though other codecs can"


def _leave_out(headers: Headers, place: int) -> None:
    """Let the image at `place` be one that could not be opened."""
    headers.size[place] = 0
    headers.pixels.pop(place, None)


def _is_unusable(size: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
    """(N,) bool, images of (N, 2) height and width that cannot be; those of 0 x 0 are not."""
    height, width = size.astype(np.int64).T
    wrong = (size < 0).any(axis=1) | ((height == 0) != (width == 0))
    most = np.inf if codec.MAX_IMAGE_PIXELS is None else codec.MAX_IMAGE_PIXELS
    return wrong | (height * width > most) | (size > LARGEST).any(axis=1)
