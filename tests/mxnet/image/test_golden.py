"""gpuio.image against what the real mxnet.image answered; see tests/compat/image_recipe.py."""

from __future__ import annotations

import runpy
import warnings
from pathlib import Path

import numpy as np
import numpy.testing as npt
import pytest

import gpuio
from gpuio.mxnet.ndarray import NDArray

RECIPE = runpy.run_path(str(Path(__file__).parents[2] / "compat" / "image_recipe.py"))
GOLDEN = RECIPE["load"](Path(__file__).with_name("golden.npz"))
CALLS = sorted(name[5:] for name in GOLDEN if name.startswith("call "))
FILES = sorted(name[5:] for name in GOLDEN if name.startswith("file "))
FULL_SCALE = 255


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    library = RECIPE["library"](
        gpuio.image, gpuio.recordio, lambda values: np.array(values).view(NDArray)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return RECIPE["run"](library, tmp_path_factory.mktemp("image"))


def test_the_same_calls_are_made(results):
    assert sorted(results) == CALLS


@pytest.mark.parametrize("name", CALLS)
def test_a_call_gives_what_it_gives_in_mxnet(results, name):
    expected, got = GOLDEN[f"call {name}"], results[name]
    assert got.shape == expected.shape
    if expected.dtype.kind in "fc":
        npt.assert_allclose(got, expected, rtol=0, atol=1e-4 * FULL_SCALE)
    else:
        npt.assert_array_equal(got, expected)
    assert got.dtype == expected.dtype or got.dtype.kind in "iU"


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("flag", [0, 1])
def test_a_file_is_decoded_as_in_mxnet(name, flag):
    got = gpuio.image.imdecode(GOLDEN[f"file {name}"].tobytes(), flag)
    expected = GOLDEN[f"decoded {flag} 1 {name}"]
    if (name, flag) == ("png of 16 bits", 0):  # see gpuio.formats.codec
        npt.assert_allclose(got.astype(int), expected, rtol=0, atol=1)
    else:
        npt.assert_array_equal(got, expected)


@pytest.mark.parametrize("flag", [0, 1])
def test_blue_comes_first_where_that_is_asked_for(flag):
    data = GOLDEN["file jpeg"].tobytes()
    got = gpuio.image.imdecode(data, flag, to_rgb=False)
    npt.assert_array_equal(got, GOLDEN[f"decoded {flag} 0 jpeg"])


@pytest.mark.parametrize("flag", [0, 1])
@pytest.mark.parametrize("jfif", [True, False])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_jpeg_is_turned_unless_it_is_a_jfif(orientation, jfif, flag):
    data = RECIPE["turned"](GOLDEN["file jpeg"].tobytes(), orientation, jfif=jfif)
    got = gpuio.image.imdecode(data, flag)[::4, ::4]
    npt.assert_array_equal(got, GOLDEN[f"turned {orientation} {int(jfif)} {flag}"])
