"""Which interpolation a resize gets, and the resize itself."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from gpuio.core import parameters as p
from gpuio.core.extras import explained
from gpuio.mxnet.image.arrays import image_array, into
from gpuio.mxnet.ndarray import NDArray

if TYPE_CHECKING:
    import numpy.typing as npt

_NEAREST, _LINEAR, _CUBIC, _AREA, _LANCZOS = range(5)
_BY_SIZE, _RANDOM = 9, 10
_DTYPES: Final = (np.uint8, np.float32, np.float64)


def choose(interp: int, sizes: Sequence[int] = ()) -> int:
    """The interpolation that `interp` stands for, 0 to 4.

    Args:
        interp: 0 nearest, 1 bilinear, 2 cubic, 3 area, 4 Lanczos; 9 cubic if both sides grow, area
            if both shrink, otherwise bilinear; 10 one of the five, drawn with `random`.
        sizes: Height and width before and after, in pixels; without them 9 is cubic.

    Raises:
        ValueError: `interp` is another number.
    """
    if interp == _BY_SIZE:
        if not sizes:
            return _CUBIC
        height, width, new_height, new_width = sizes
        if new_height > height and new_width > width:
            return _CUBIC
        return _AREA if new_height < height and new_width < width else _LINEAR
    if interp == _RANDOM:
        return random.randint(_NEAREST, _LANCZOS)
    if interp not in range(_LANCZOS + 1):
        raise ValueError(f"Unknown interp method {interp}: it must be 0 to 4, 9 or 10")
    return interp


def imresize(
    src: npt.NDArray[Any], w: int, h: int, interp: int = 1, out: npt.NDArray[Any] | None = None
) -> NDArray:
    """An image of another size.

    Args:
        src: (H, W, C) uint8, float32 or float64.
        w: Width of the result, in pixels.
        h: Height of the result.
        interp: 0 nearest, 1 bilinear, 2 cubic, 3 area, 4 Lanczos.
        out: The (h, w, C) array of the dtype of `src` to write to and return.

    Raises:
        TypeError: `src` has another dtype.
        ValueError: An argument has a wrong value.
    """
    image = image_array(src)
    w, h = p.integer("w", w, least=1), p.integer("h", h, least=1)
    if interp not in range(_LANCZOS + 1):
        raise ValueError(f"interp must be 0 to 4, got {interp}")
    if image.dtype not in _DTYPES:
        raise TypeError(f"src must be uint8, float32 or float64 to be resized, got {image.dtype}")
    if not image.size:
        raise ValueError(f"src must not be empty, got shape {image.shape}")
    if image.shape[:2] == (h, w):
        return into(out, image.copy())
    with explained("resizing"):
        from gpuio.kernels.float_resize import resize as resize_float
        from gpuio.kernels.resample import resize

    if image.dtype != np.uint8:
        return into(out, resize_float(image, h, w, interp))
    if interp == _CUBIC and image.shape[2] > 1:
        # At the end of a row the kernel rounds as MXNet's iterators do, whose colours are BGR.
        return into(out, resize(image[..., ::-1], h, w, interp)[..., ::-1])
    return into(out, resize(image, h, w, interp))
