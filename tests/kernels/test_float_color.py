from __future__ import annotations

import numpy as np
import numpy.testing as npt
import pytest

from gpuio.kernels.float_color import MAP, map_colors


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("with_mean", [False, True])
def test_a_map_is_matrices_of_the_pixel_and_of_the_mean_and_an_offset(threads, with_mean):
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (5, 7, 9, 3), np.uint8)
    table = rng.normal(size=(5, MAP))
    if not with_mean:
        table[:, 9:18] = 0
    out = np.empty((5, 3, 7, 9), np.float32)
    map_colors(5, threads, pixels.ctypes.data, table.ctypes.data, out.ctypes.data, 7 * 9)
    a, b, c = table[:, :9].reshape(5, 3, 3), table[:, 9:18].reshape(5, 3, 3), table[:, 18:]
    own = np.einsum("nij,nyxj->niyx", a, pixels)
    rest = np.einsum("nij,nj->ni", b, pixels.mean(axis=(1, 2))) + c
    npt.assert_allclose(out, own + rest[:, :, None, None], rtol=0, atol=3e-4)
