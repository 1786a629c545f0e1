"""PNG writing: what other libraries read back."""

from __future__ import annotations

import io

import numpy as np
import numpy.testing as npt
import pytest
from PIL import Image

from gpuio.formats import png

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("level", [0, 1, 9])
@pytest.mark.parametrize("shape", [(1, 1), (5, 7), (5, 7, 1), (6, 5, 3), (1, 9, 4), (33, 1, 4)])
def test_pixels_come_back(shape, level):
    image = RNG.integers(0, 256, shape, dtype=np.uint8)
    got = np.asarray(Image.open(io.BytesIO(png.encode(image, level))))
    npt.assert_array_equal(got, image[..., 0] if shape[2:] == (1,) else image)


@pytest.mark.parametrize("shape", [(9, 7), (6, 5, 3), (8, 9, 4)])
def test_16_bit_pixels_come_back(shape):
    cv2 = pytest.importorskip("cv2")
    image = RNG.integers(0, 1 << 16, shape, dtype=np.uint16)
    data = np.frombuffer(png.encode(image, 6), np.uint8)
    npt.assert_array_equal(cv2.imdecode(data, cv2.IMREAD_UNCHANGED), image[..., bgr(shape)])


def bgr(shape):
    return {3: [2, 1, 0], 4: [2, 1, 0, 3]}[shape[2]] if len(shape) == 3 else slice(None)


def test_smooth_images_are_as_small_as_pillow_makes_them():
    y, x = np.mgrid[:200, :300]
    waves = [128 + 100 * np.sin(x / 20 + k) + 20 * np.cos(y / 9) for k in range(3)]
    image = np.stack(waves, -1).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG", compress_level=9)
    assert len(png.encode(image, 9)) <= 1.02 * len(file.getvalue())
