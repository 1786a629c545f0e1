"""One image at a time, as an array: JPEGs by gpuio's own decoder, others by libraries.

The decoder has to be compiled, which takes seconds on a machine that has never done it. So it is
used where its code is at hand, as it is once an iterator has used it or `gpuio warm` was run;
before that, and where Numba is not installed, libjpeg-turbo decodes, to the same pixels.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from gpuio.formats import codec

if TYPE_CHECKING:
    from gpuio.pipeline.decode.jpeg_array import ArrayDecoder

_WORTH = 32 << 10  # bytes: smaller images are decoded by a library before ours has begun
_CHANNELS = {0: 1, 1: 3}  # by OpenCV's flag


def imdecode(
    data: bytes, flag: int = 1, *, order: codec.Order = "BGR", turn: bool = True
) -> codec.Pixels:
    """As `gpuio.formats.codec.imdecode`, with its pixels and errors; faster for large JPEGs."""
    own = _decoder() if flag in _CHANNELS and len(data) >= _WORTH else None
    if own is not None and own.is_at_hand:
        pixels = own.decode(data, _CHANNELS[flag], reverse=order == "BGR")
        if pixels is not None:
            return pixels if flag else pixels[..., 0]
    return codec.imdecode(data, flag, order=order, turn=turn)


@cache
def _decoder() -> ArrayDecoder | None:
    """Gpuio's own decoder; None where Numba is not installed."""
    try:
        from gpuio.pipeline.decode.jpeg_array import ArrayDecoder
    except ImportError:
        return None
    return ArrayDecoder()
