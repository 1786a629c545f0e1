"""Damaged images through the whole loader, decoded by each kind of codec that there is.

Whatever a codec does with damage, the user gets what `on_error` says, all other pictures are right,
and the GPU can be used afterwards.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from harness import our_threads

import gpuio
from gpuio.errors import BackendError, GpuioError
from gpuio.pipeline.decode import registry
from gpuio.pipeline.decode.batch_split import KINDS
from gpuio.pipeline.decode.nvimgcodec import NvImageCodecDecoder
from gpuio.pipeline.decode.nvimgcodec_gpu import NvImageCodecGpuDecoder
from gpuio.testing import draw, encode, write_rec

NOISE = np.random.default_rng(3)
GOOD, LEVELS = 6, 8
CHAIN = "chain", KINDS
UNREADABLE = (
    "empty",
    "text",
    "random bytes",
    "random bytes as a JPEG",
    "cut in its head",
    "cut off",
)
DOUBTFUL = ("cut off, with an end", "noise inside")  # some codecs make a picture of it


def damaged(image):
    middle, noisy = len(image) // 2, bytearray(image)
    noisy[middle : middle + 60] = NOISE.bytes(60)
    return {
        "empty": b"",
        "text": b"this is no image",
        "random bytes": NOISE.bytes(2000),
        "random bytes as a JPEG": b"\xff\xd8\xff\xe0" + NOISE.bytes(2000),
        "cut in its head": image[:150],
        "cut off": image[:middle],
        "cut off, with an end": image[:middle] + b"\xff\xd9",
        "noise inside": bytes(noisy),
    }


pytestmark = pytest.mark.parametrize(
    ("scale", "kinds"),
    [
        pytest.param("simulated", ("cpu",), id="simulated-cpu"),
        *(
            pytest.param("cuda:0", kinds, id=f"cuda:0-{name}", marks=pytest.mark.gpu)
            for name, kinds in [*((k, (k,)) for k in ("hardware", "hybrid", "cpu")), CHAIN]
        ),
    ],
    indirect=True,
)


@pytest.fixture
def kinds(request, scale, rec, monkeypatch):
    """Lets loaders have these kinds of codecs alone."""

    def make(options):
        if options.device.name == "cpu":
            return NvImageCodecDecoder(options)
        return NvImageCodecGpuDecoder(options, kinds=request.param)

    monkeypatch.setitem(registry._factories, "nvimgcodec", make)
    try:
        load(rec, scale, scale.device)
    except BackendError as error:
        if "hardware" not in str(error):
            raise
        pytest.skip(f"no JPEG engine: {error}")
    return request.param


def load(path, scale, device, **options):
    """Everything of an epoch: pixels, labels, pad; and how many images were at fault."""
    with gpuio.ImageRecordIter(
        path, scale.shape, GOOD // 2, device=device, decoder="nvimgcodec", **options
    ) as loader:
        batches = [(b.data[0].asnumpy(), b.label[0].asnumpy(), b.pad) for b in loader]
        return batches, loader.faults.count


@pytest.fixture(scope="module")
def pictures(scale):
    least, most = scale.sides
    return [
        encode(draw(least + 3 * k, most - 5 * k % 20, seed=k), "JPEG", quality=92)
        for k in range(GOOD)
    ]


@pytest.mark.parametrize("policy", ["skip", "replace", "zero"])
def test_images_that_no_codec_decodes_follow_the_policy(tmp_path, scale, kinds, pictures, policy):
    bad = damaged(pictures[0])
    for name in UNREADABLE:
        path = tmp_path / f"{name.replace(' ', '-')}.rec"
        write_rec(path, [*pictures[:2], bad[name], *pictures[3:]])
        found, faults = load(path, scale, scale.device, on_error=policy)
        wanted, wanted_faults = load(path, scale, "cpu", on_error=policy)
        assert faults == wanted_faults == 1, name
        assert_alike(found, wanted, name)


def test_an_image_that_no_codec_decodes_is_an_error_that_names_its_place(
    tmp_path, scale, kinds, pictures
):
    for number, (name, image) in enumerate(damaged(pictures[0]).items()):
        if name not in UNREADABLE:
            continue
        path = tmp_path / f"bad{number}.rec"
        write_rec(path, [pictures[1], image])
        with (
            gpuio.ImageRecordIter(path, scale.shape, 2, device=scale.device) as loader,
            pytest.raises(GpuioError, match=rf"bad{number}\.rec: record 1 "),
        ):
            loader.next()
        assert our_threads() == [], name


def test_an_image_that_only_some_codecs_decode_harms_no_other(
    tmp_path, scale, kinds, pictures, figure
):
    bad = damaged(pictures[0])
    for name in DOUBTFUL:
        path = tmp_path / f"{name.split()[0]}.rec"
        write_rec(path, [*pictures[:2], bad[name], *pictures[3:]])
        found, faults = load(path, scale, scale.device, on_error="zero")
        wanted, _ = load(path, scale, "cpu", on_error="zero")
        assert faults <= 1
        figure(f"{'+'.join(kinds)}: {name}", "fault" if faults else "picture")
        for batches in (found, wanted):
            batches[0][0][2] = 0  # that picture
            batches[0][1][2] = 0
        assert_alike(found, wanted, name)


def test_many_damaged_images_leave_the_gpu_usable(tmp_path, scale, kinds, pictures, rec):
    bad, some = iter(list(damaged(pictures[0]).values()) * GOOD), itertools.cycle(pictures)
    spoilt = [image for one in bad for image in (one, next(bad), next(some))]
    write_rec(tmp_path / "bad.rec", spoilt)
    for policy in ("skip", "zero") if scale.real else ("skip",):
        _, faults = load(tmp_path / "bad.rec", scale, scale.device, on_error=policy)
        assert faults >= GOOD * len(UNREADABLE)
    found, faults = load(rec, scale, scale.device)
    assert faults == 0
    assert_alike(found, load(rec, scale, "cpu")[0], "good ones")


def test_images_that_a_codec_claimed_and_did_not_write_are_decoded_again(rec, scale, kinds, figure):
    with gpuio.ImageRecordIter(
        rec, scale.shape, GOOD // 2, device=scale.device, decoder="nvimgcodec"
    ) as loader:
        found = [(b.data[0].asnumpy(), b.label[0].asnumpy(), b.pad) for b in loader]
        figure(f"{'+'.join(kinds)}: unwritten", loader.stats()["unwritten"])
    assert_alike(found, load(rec, scale, "cpu")[0], "good ones")


def assert_alike(found, wanted, name):
    """The same batches, but for how decoders round."""
    assert len(found) == len(wanted), name
    for (data, labels, pad), (data_, labels_, pad_) in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(labels, labels_, name)
        assert pad == pad_, name
        apart = np.abs(data - data_)
        assert apart.mean() < 0.5, name
        assert (apart > LEVELS).mean() < 0.001, name
