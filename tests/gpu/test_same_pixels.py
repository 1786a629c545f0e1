"""The GPU beside the CPU: from equal pixels its kernels give equal batches; its decoders are close.

Whole paths are compared in levels of uint8. A JPEG's colours are stored at half the size, and
codecs differ in how they enlarge them: where colours change, pixels may be further apart.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

import gpuio
from gpuio.devices import visible_gpus
from gpuio.errors import GpuioError
from gpuio.testing import draw, encode, write_rec

SHARED = Path(os.environ.get("GPUIO_SHARED", Path(__file__).parents[2].parent / "shared"))
GOLDEN = SHARED / "golden"
SOME = {"centre-crop", "rotate-30", "crop-size-100"}  # for the simulator
PHOTOGRAPHS = SHARED / "data" / "imagenet180.rec"
MEAN, FAR = 0.5, 8  # levels: at most on average; more than that only where colours change
EDGE, NEAR = 24, 4  # levels of R - G and B - G that are a change, within so many pixels

JITTER = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4}
OPTIONS = [
    {},
    {"resize": 0.9, "rand_crop": True, "rand_mirror": True, "dtype": "float16"},
    {"resize": 1.1, "inter_method": 2, "rand_crop": True, "layout": "NHWC"},
    {"resize": 1.1, "inter_method": 3},
    {"resize": 0.8, "inter_method": 4, "dtype": "uint8"},
    {"random_resized_crop": True, "min_random_area": 0.1, "max_aspect_ratio": 0.3},
    {"max_rotate_angle": 40, "max_shear_ratio": 0.3, "pad": 3, "rand_crop": True},
    {**JITTER, "random_h": 30, "random_s": 30, "random_l": 30, "pca_noise": 0.1, "mean_r": 100},
    {"dtype": "bfloat16", "mean_g": 110.3, "std_g": 57.1, "rand_gray": 0.3},
    {"dtype": "int8", "mean_b": 120, "rand_mirror": True},
]


def options_of(given, scale):
    """`resize` as a part of the output's height, so that it goes with every size."""
    resize = {"resize": int(given["resize"] * scale.shape[1])} if "resize" in given else {}
    return given | resize


def epoch(rec, scale, device, decoder, **options):
    given = {"device": device, "decoder": decoder, "shuffle": True, "seed": 5, **options}
    with gpuio.ImageRecordIter(rec, scale.shape, scale.batch_size, **given) as loader:
        return [(batch.data[0].asnumpy(), batch.label[0].asnumpy()) for batch in loader]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(options)[:40] or "plain")
def test_from_equal_pixels_batches_are_equal(rec, scale, options):
    given = options_of(options, scale)
    on_device, on_cpu = (
        epoch(rec, scale, device, "portable", **given) for device in (scale.device, "cpu")
    )
    assert len(on_device) == len(on_cpu)
    for (data, labels), (data_, labels_) in zip(on_device, on_cpu, strict=True):
        assert data.dtype == data_.dtype
        np.testing.assert_array_equal(data.view(np.uint8), data_.view(np.uint8))
        np.testing.assert_array_equal(labels, labels_)


class Spread:
    """How far values are from those they should be."""

    def __init__(self):
        self.levels = np.zeros(256, np.int64)
        self.far = 0  # more than FAR levels, and not where colours change

    def add(self, got, expected):
        """Pictures, (N, C, H, W) uint8."""
        apart = np.abs(got.astype(np.int16) - expected)
        self.levels += np.bincount(apart.ravel(), minlength=256)
        self.far += int(((apart > FAR).any(axis=1) & ~edges(expected)).sum())

    def figures(self):
        total, levels = max(int(self.levels.sum()), 1), np.arange(256)
        above = {f"above_{k}": float(self.levels[k + 1 :].sum() / total) for k in (0, 1, 2, 4, 8)}
        return {
            "values": int(self.levels.sum()),
            "mean": float((self.levels * levels).sum() / total),
            "max": int(levels[self.levels > 0].max(initial=0)),
            **above,
            "far_pixels_without_a_change_of_colour": self.far,
        }

    def close(self):
        return self.far == 0 and self.levels.sum() > 0 and self.figures()["mean"] < MEAN

    def check(self):
        assert self.close(), self.figures()


def edges(pictures):
    """(N, H, W) bool: pixels near which the colour changes."""
    if pictures.shape[1] != 3:
        return np.zeros(pictures[:, 0].shape, bool)
    red, green, blue = np.moveaxis(pictures.astype(np.int16), 1, 0)
    changes = np.zeros(red.shape, bool)
    for color in (red - green, blue - green):
        padded = np.pad(color, [(0, 0), (NEAR, NEAR), (NEAR, NEAR)], "edge")
        low, high = padded, padded
        for axis in (1, 2):
            low = sliding_window_view(low, 2 * NEAR + 1, axis).min(axis=-1)
            high = sliding_window_view(high, 2 * NEAR + 1, axis).max(axis=-1)
        changes |= high - low > EDGE
    return changes


def compare_paths(rec, scale, **options):
    """The whole path, decoders and all, on the device and on the CPU."""
    spread = Spread()
    on_device, on_cpu = (
        epoch(rec, scale, device, "auto", dtype="uint8", **options)
        for device in (scale.device, "cpu")
    )
    for (data, _), (data_, _) in zip(on_device, on_cpu, strict=True):
        spread.add(data, data_)
    return spread


@pytest.mark.parametrize("resize", [-1, 0.9], ids=["as they are", "resized"])
def test_the_whole_path_is_close(rec, scale, figure, resize):
    resize = int(resize * scale.shape[1]) if resize > 0 else -1
    spread = compare_paths(rec, scale, resize=resize, rand_crop=True, rand_mirror=True)
    figure(f"drawn pictures, resize {resize}", spread.figures())
    spread.check()


def test_the_whole_path_of_photographs_is_close(scale, figure):
    if not PHOTOGRAPHS.exists() or not scale.real:
        pytest.skip(f"{PHOTOGRAPHS.name} is not here, or too much for the simulator")
    spread = compare_paths(PHOTOGRAPHS, scale, resize=256, rand_crop=True)
    figure("photographs", spread.figures())
    spread.check()


def first_batch(case, scale, **more):
    """Pixels of a case's first batch, or the message of its error.

    On the simulated device with a small output.
    """
    given = dict(case["params"])
    given |= {k: str(GOLDEN / v) for k, v in given.items() if k.startswith("path_")}
    if not scale.real:
        given |= {"data_shape": (given["data_shape"][0], 7, 9), "batch_size": 2}
    with getattr(gpuio, case["iterator"])(**given | more) as loader:
        try:
            return loader.next().data[0].asnumpy()
        except GpuioError as error:
            return str(error)


@pytest.fixture
def cases(scale):
    """Those of MXNet, if they are here; some of them for the simulator."""
    path = GOLDEN / "cases.json"
    if not path.exists():
        pytest.skip(f"{path.name} of MXNet is not here")
    found = json.loads(path.read_text())
    return found if scale.real else [c for c in found if c["name"] in SOME]


def test_golden_cases_from_equal_pixels_are_equal(cases, scale):
    different = []
    for case in cases:
        found, wanted = (
            first_batch(case, scale, device=device, decoder="portable")
            for device in (scale.device, "cpu")
        )
        if not np.array_equal(found, wanted) or type(found) is not type(wanted):
            different.append(case["name"])
    assert not different


def test_golden_cases_with_the_devices_decoder_are_close(cases, scale, figure):
    far = {}
    for case in cases:
        found, wanted = (
            first_batch(case, scale, device=device, dtype="uint8")
            for device in (scale.device, "cpu")
        )
        if isinstance(wanted, str):
            assert found == wanted, case["name"]
            continue
        spread = Spread()
        spread.add(found, wanted)
        figure(f"golden {case['name']}", spread.figures())
        if not spread.close():
            far[case["name"]] = spread.figures()
    assert not far


def test_the_default_device_is_the_gpu_where_there_is_one(tmp_path):
    write_rec(tmp_path / "one.rec", [encode(draw(20, 20), "JPEG")])
    with gpuio.ImageRecordIter(tmp_path / "one.rec", (3, 9, 9), 1) as loader:
        found = loader.next().data[0].context.device_type
    assert found == ("gpu" if visible_gpus() else "cpu")


def test_the_gpus_of_the_machine_are_not_hidden_here():
    assert gpuio.devices.visible_gpus is visible_gpus


def test_edges_are_where_colours_change():
    picture = np.full((1, 3, 20, 20), 100, np.uint8)
    assert not edges(picture).any()
    picture[0, 0, :, 10:] = 200
    found = edges(picture)[0]
    assert found[:, 10 - NEAR : 10 + NEAR].all()
    assert not found[:, : 10 - NEAR].any()
    assert not found[:, 10 + NEAR :].any()


def test_far_pixels_count_only_where_colours_do_not_change():
    picture = np.full((1, 3, 20, 20), 100, np.uint8)
    picture[0, 0, :, 10:] = 200
    other, spread = picture.copy(), Spread()
    other[0, 0, 5, 10] -= 50
    spread.add(other, picture)
    spread.check()
    other[0, 0, 5, 19] -= 50
    spread.add(other, picture)
    assert spread.figures()["max"] == 50
    with pytest.raises(AssertionError):
        spread.check()
