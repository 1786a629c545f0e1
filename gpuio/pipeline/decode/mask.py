"""Masks: PNGs whose pixels are labels, and not colours that a decoder may convert."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gpuio.errors import DecodeError
from gpuio.formats.codec import described, opened
from gpuio.pipeline.decode.portable import PortableDecoder

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_LARGEST = 255


def decode_mask(data: bytes) -> npt.NDArray[np.uint8]:
    """(H, W, 1) uint8 labels: the pixels of a PNG of one channel, as Pillow has them.

    The labels of a PNG with a palette are its indices; those of a PNG of one bit are 0 and 1.

    Raises:
        DecodeError: `data` is not a PNG, is damaged, has several channels, or labels above 255.
    """
    if not data.startswith(_SIGNATURE):
        found = f"it starts with {data[:8].hex(' ')}" if data else "it has 0 bytes"
        raise DecodeError(f"a mask must be a PNG, and {found}")
    with opened(data, ("PNG",)) as picture:
        try:
            mode, labels = picture.mode, np.asarray(picture)
        except Exception as error:  # whatever Pillow's parser stumbles over
            raise DecodeError(f"PNG: {described(error)}") from error
    if labels.ndim != 2:
        raise DecodeError(f"a mask must have one channel, gray or of a palette, and it is {mode}")
    if labels.dtype != np.uint8 and labels.max() > _LARGEST:
        raise DecodeError(f"labels of a mask must be in [0, {_LARGEST}], and one is {labels.max()}")
    return labels.astype(np.uint8)[..., None]


class MaskDecoder(PortableDecoder):
    """Decodes masks as `decode_mask` does, with Pillow: other codecs turn a palette into colours.

    The thread that reads waits for them, and decodes none itself: Pillow does so without the GIL in
    as many threads as the device has, while the executor is at work on the batch before.
    """

    name = "mask"

    def decode_image(self, data: bytes) -> npt.NDArray[np.uint8]:
        return decode_mask(data)
