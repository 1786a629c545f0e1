"""Images that failed in their batch, or were left out of it, are decoded by themselves."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

import numpy as np

from gpuio.devices.base import LARGE
from gpuio.errors import DecodeError
from gpuio.pipeline.decode.jobs import DecodeJobs
from gpuio.pipeline.read.reader import RecordBatch

if TYPE_CHECKING:
    import numpy.typing as npt

    from gpuio.pipeline.decode.base import Decoder

_NO_MEMORY = "there is not enough memory to decode it"


def encoded(records: RecordBatch, place: int) -> bytes:
    """The encoded image at `place`, copied."""
    return ctypes.string_at(int(records.address[place]), int(records.nbytes[place]))


def decode_image(decoder: Decoder, data: bytes) -> npt.NDArray[np.uint8]:
    """What `Decoder.decode_image` makes of `data`, if it is of the shape that kernels rely on.

    Raises:
        DecodeError: `data` is no image or a damaged one, or the pixels have another shape or dtype.
    """
    pixels = decoder.decode_image(data)
    check_pixels(decoder, pixels)
    return pixels


def decode_at(
    decoder: Decoder, records: RecordBatch, place: int, data: bytes
) -> npt.NDArray[np.uint8]:
    """What `decode_image` makes of the image at `place`, which another error names in a note."""
    try:
        return decode_image(decoder, data)
    except (DecodeError, MemoryError):
        raise
    except Exception as error:
        where = decoder.source.where(int(records.samples.ids[place]))
        error.add_note(f"raised by the decoder {decoder.name!r}, which was given {where}")
        raise


def retry(decoder: Decoder, records: RecordBatch, jobs: DecodeJobs) -> list[int]:
    """See `Decoder.retry`."""
    again = (jobs.box[:, 2] > 0) & ~decoder.decoded(jobs)
    again[[*jobs.headers.later]] = True
    again[[*records.samples.faults, *jobs.retried]] = False
    done, nbytes = [], 0
    for place in np.flatnonzero(again).tolist():
        if nbytes > LARGE:
            break
        jobs.retried.add(place)
        try:
            pixels = decode_at(decoder, records, place, encoded(records, place))
            check_size(pixels, *jobs.headers.size[place].tolist())
            jobs.put(place, pixels)
        except DecodeError as error:
            decoder.reject(records, place, str(error))
        except MemoryError:
            decoder.reject(records, place, _NO_MEMORY)
        else:
            done.append(place)
            nbytes += pixels.nbytes
    decoder.fallback_count += len(done)
    return done


def explain(decoder: Decoder, data: bytes) -> str:
    """See `Decoder.explain`."""
    try:
        decode_image(decoder, data)
    except DecodeError as error:
        return str(error)
    except MemoryError:
        return _NO_MEMORY
    return f"{decoder.name} cannot decode it, though other codecs can"


def check_pixels(decoder: Decoder, pixels: object) -> None:
    """Refuse pixels of another shape or dtype than kernels read."""
    found = type(pixels).__name__
    if isinstance(pixels, np.ndarray):
        if pixels.ndim == 3 and pixels.shape[2] == decoder.channels and pixels.dtype == np.uint8:
            return
        found = f"{pixels.dtype} of shape {pixels.shape}"
    raise DecodeError(
        f"{decoder.name} has decoded it to {found}, not to uint8 of shape "
        f"(height, width, {decoder.channels})"
    )


def check_size(pixels: npt.NDArray[np.uint8], height: int, width: int) -> None:
    """Refuse pixels of another size than the one that the batch was planned with."""
    if pixels.shape[:2] != (height, width):
        high, wide = pixels.shape[:2]
        raise DecodeError(
            f"image: {wide} x {high} pixels by one decoder, {width} x {height} by another"
        )
