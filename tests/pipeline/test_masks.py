"""Masks go where the pixels go, and stay with their images."""

from __future__ import annotations

import json
from itertools import islice

import numpy as np
import numpy.testing as npt
import pytest
from harness import our_threads
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.ndimage import binary_erosion

import gpuio as mx
from gpuio import ImageRecordIter
from gpuio.errors import CorruptRecordError, DecodeError
from gpuio.testing import encode, write_rec

COUNT = 13
SHAPE = (1, 70, 90)
WAYS = {
    "crop": {"rand_crop": True},
    "enlarged": {"data_shape": (1, 190, 220)},
    "resize": {"resize": 120, "rand_crop": True, "rand_mirror": True},
    "rotate": {"max_rotate_angle": 180},
    "shear": {"max_shear_ratio": 0.4, "rand_crop": True},
    "scale": {"min_random_scale": 0.6, "max_random_scale": 1.5, "rand_crop": True},
    "affine": {
        "max_rotate_angle": 40, "max_shear_ratio": 0.3, "max_aspect_ratio": 0.3,
        "min_random_scale": 0.7, "max_random_scale": 1.4, "rand_mirror": True,
    },
    "pad": {"pad": 40, "rand_crop": True, "mirror": True},
    "square": {"resize": 120, "min_crop_size": 50, "max_crop_size": 110, "rand_crop": True},
    "resized crop": {
        "random_resized_crop": True, "min_random_area": 0.2, "max_random_area": 0.9,
        "min_aspect_ratio": 0.6, "max_aspect_ratio": 1.7, "rand_mirror": True,
    },
    "all": {
        "resize": 150, "max_rotate_angle": 30, "max_random_scale": 1.3, "pad": 10,
        "rand_crop": True, "rand_mirror": True, "data_shape": (1, 150, 170),
    },
}  # fmt: skip
ways = pytest.mark.parametrize("options", WAYS.values(), ids=list(WAYS))


@pytest.fixture(scope="module")
def maps(tmp_path_factory):
    """Folder of pictures with their places painted in, and masks: x is column + 10, y is row + 10.

    `x.rec` and `y.rec` have both of these as gray pictures, `both.rec` as red and green.
    """
    folder, rng = tmp_path_factory.mktemp("masks"), np.random.default_rng(0)
    both, xs, ys = [], [], []
    for _ in range(COUNT):
        height, width = rng.integers(100, 180, 2)
        y, x = np.mgrid[10 : height + 10, 10 : width + 10].astype(np.uint8)
        xs.append(encode(x))
        ys.append(encode(y))
        both.append(encode(np.stack([x, y, np.full_like(x, 255)], axis=2), "BMP"))
    for name, images in (("x", xs), ("y", ys), ("both", both)):
        write_rec(folder / f"{name}.rec", images, labels=[[1, 2, 3]] * COUNT, ids=range(7, 20))
    return folder


def open_maps(folder, *, images="x", masks="y", **options):
    options = {"data_shape": SHAPE, "batch_size": COUNT, "dtype": "uint8"} | options
    return ImageRecordIter(
        folder / f"{images}.rec", masks=folder / f"{masks}.rec", label_width=3, **options
    )


def read(folder, **options):
    with open_maps(folder, **options) as batches:
        return batches.next()


@ways
def test_with_the_nearest_pixel_an_image_and_its_mask_are_moved_to_the_same_pixels(maps, options):
    batch = read(maps, masks="x", **options, inter_method=0, fill_value=77, mask_fill=77)
    npt.assert_array_equal(batch.masks, batch.data[0][:, 0])
    assert batch.masks.dtype == np.uint8


@ways
@pytest.mark.parametrize(("masks", "channel"), [("x", 0), ("y", 1)])
@pytest.mark.parametrize("inter_method", [1, 2])
def test_a_mask_shows_the_places_that_the_image_shows(maps, options, masks, channel, inter_method):
    shape = (3, *options.get("data_shape", SHAPE)[1:])
    options = {**options, "data_shape": shape, "inter_method": inter_method, "fill_value": 0}
    batch = read(maps, images="both", masks=masks, **options, mask_fill=0)
    image = batch.data[0].astype(int)
    inside = far_from_edges(image[:, 2] == 255)
    assert inside.mean() > 0.1
    # The nearest of several pixels is up to half of their number away.
    assert np.abs(image[:, channel] - batch.masks)[inside].max() <= 2
    assert (batch.masks[far_from_edges(image.max(axis=1) == 0)] == 0).all()


def far_from_edges(where):
    return binary_erosion(where, np.ones((1, 9, 9)))


@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_geometry_moves_masks_like_images(maps, data):
    o = {"seed": data.draw(st.integers(0, 99)), "fill_value": data.draw(st.integers(0, 255))}
    sometimes = {
        "max_rotate_angle": st.integers(1, 360), "max_shear_ratio": st.floats(0, 1),
        "max_random_scale": st.floats(1, 2), "min_random_scale": st.floats(0.3, 1),
        "max_aspect_ratio": st.floats(0, 0.9), "pad": st.integers(1, 50),
        "resize": st.integers(40, 200), "rand_crop": st.booleans(), "rand_mirror": st.booleans(),
        "max_random_contrast": st.floats(0, 1),
    }  # fmt: skip
    for name, values in sometimes.items():
        if data.draw(st.booleans()):
            o[name] = data.draw(values)
    o["data_shape"] = (1, data.draw(st.integers(1, 90)), data.draw(st.integers(1, 90)))
    batch = read(maps, masks="x", inter_method=0, mask_fill=o["fill_value"], **o)
    npt.assert_array_equal(batch.masks, batch.data[0][:, 0])


def test_colours_layout_and_normalisation_are_the_images_alone(maps):
    geometry = {"rand_crop": True, "rand_mirror": True, "max_rotate_angle": 20}
    plain = read(maps, **geometry).masks
    options = {
        "data_shape": (3, 70, 90), "layout": "NHWC", "dtype": "float32", "inter_method": 10,
        "brightness": 0.5, "random_h": 20, "pca_noise": 0.1, "rand_gray": 0.5, "mean_r": 100,
        "std_r": 3, "max_random_contrast": 0.3, "label_kind": "values",
    }  # fmt: skip
    batch = read(maps, images="both", **geometry, **options)
    npt.assert_array_equal(batch.masks, plain)
    assert "size" not in batch.augmentation


def test_mask_pixels_outside_the_picture_are_255_or_mask_fill(maps):
    options = {"pad": 50, "data_shape": (1, 200, 200), "fill_value": 3}
    for more, fill in (({}, 255), ({"mask_fill": 0}, 0)):
        batch = read(maps, **options, **more)
        assert (batch.masks[:, 0, 0] == fill).all()
        assert (batch.data[0][:, :, 0, 0] == 3).all()


def test_batches_say_what_their_masks_are(maps):
    with open_maps(maps, batch_size=4) as batches:
        (description,) = batches.provide_masks
        assert description == ("masks", (4, 70, 90))
        assert (description.dtype, description.layout) == (np.uint8, "NHW")
        for batch in batches:
            assert batch.masks.shape == description.shape
        assert "masks" in batches.stats()
    with ImageRecordIter(maps / "x.rec", SHAPE, 4, label_width=3) as batches:
        assert batches.provide_masks == []
        assert batches.next().masks is None
        assert batches.getmasks() is None


def test_shuffled_parts_have_the_masks_of_their_images(maps):
    for part in range(3):
        options = {"shuffle": True, "num_parts": 3, "part_index": part, "batch_size": 2}
        with open_maps(maps, masks="x", inter_method=0, rand_crop=True, **options) as batches:
            for _ in range(2):
                for batch in batches:
                    npt.assert_array_equal(batch.masks, batch.data[0][:, 0])


def test_a_saved_state_continues_with_the_very_next_masks(maps):
    options = {"shuffle": True, "batch_size": 3, "rand_crop": True, "max_rotate_angle": 9}
    with open_maps(maps, **options) as batches, open_maps(maps, **options) as other:
        whole = [batch.masks for batch in batches]
        batches.reset()
        whole += [batch.masks for batch in islice(batches, 2)]
        other.load_state_dict(json.loads(json.dumps(batches.state_dict())))
        npt.assert_array_equal(other.next().masks, batches.next().masks)
        other.set_epoch(0)
        npt.assert_array_equal([batch.masks for batch in other], whole[:5])


def test_a_batch_is_replayed_with_its_masks(maps):
    options = {"rand_crop": True, "rand_mirror": True, "inter_method": 10, "max_random_scale": 1.5}
    with open_maps(maps, **options, shuffle=True) as batches:
        batch = batches.next()
        again = batches.replay(batch.augmentation)
        npt.assert_array_equal(again.masks, batch.masks)
        npt.assert_array_equal(again.data[0], batch.data[0])
        table = {**batch.augmentation, "mirror": ~batch.augmentation["mirror"]}
        npt.assert_array_equal(batches.replay(table).masks, batch.masks[:, :, ::-1])


def test_masks_are_never_overwritten_while_they_are_held(maps):
    with open_maps(maps, batch_size=2, rand_crop=True) as batches:
        held = [(batch.masks, batch.masks.copy()) for batch in batches for _ in range(2)]
        for masks, copy in held:
            npt.assert_array_equal(masks, copy)


def test_they_come_through_other_iterators(maps):
    with open_maps(maps, batch_size=4) as batches:
        alone = batches.next().masks
        batches.hard_reset()
        resized = mx.io.ResizeIter(batches, 2)
        npt.assert_array_equal(resized.next().masks, alone)
        batches.hard_reset()
        plain = mx.io.NDArrayIter(np.zeros((COUNT, 1)), batch_size=4)
        with mx.io.PrefetchingIter([plain, batches]) as both:
            npt.assert_array_equal(both.next().masks, alone)


def test_all_threads_end(maps):
    before = our_threads()
    batches = open_maps(maps, batch_size=2)
    batches.next()
    assert len(our_threads()) >= len(before) + 4
    batches.close()
    assert our_threads() == before


# Faults


@pytest.fixture
def broken(tmp_path):
    """Eight pairs; image 1 and mask 3 are damaged, mask 6 has another size, of 7 both are gone."""
    levels = [np.full((20, 30), 10 * number, np.uint8) for number in range(8)]
    images, masks = [encode(level) for level in levels], [encode(level) for level in levels]
    images[1] = images[7] = masks[3] = masks[7] = b"nothing"
    masks[6] = encode(np.full((30, 20), 60, np.uint8))
    write_rec(tmp_path / "images.rec", images, ids=range(100, 108))
    write_rec(tmp_path / "masks.rec", masks, ids=range(100, 108))
    return tmp_path


def faulty(folder, **options):
    options = {"data_shape": (1, 20, 30), "batch_size": 8, "dtype": "uint8"} | options
    return ImageRecordIter(folder / "images.rec", masks=folder / "masks.rec", **options)


GOOD = [0, 20, 40, 50]


def test_a_skipped_image_takes_its_mask_along(broken):
    with faulty(broken, on_error="skip") as batches:
        batch = batches.next()
        assert batch.pad == 4
        assert batch.data[0][:, 0, 0, 0].tolist() == GOOD * 2
        assert batch.index.tolist() == [100, 102, 104, 105] * 2
        assert batch.label[0].tolist() == [0, 2, 4, 5] * 2
        assert batch.augmentation["record"].tolist() == [0, 2, 4, 5] * 2
        npt.assert_array_equal(batch.masks, batch.data[0][:, 0])
        assert batches.faults.count == batches.stats()["faults"] == 4


def test_a_replaced_image_has_the_mask_of_its_replacement(broken):
    with faulty(broken, on_error="replace") as batches:
        batch = batches.next()
        assert batch.augmentation["record"].tolist() == [0, 2, 2, 4, 4, 5, 0, 0]
        npt.assert_array_equal(batch.masks, batch.data[0][:, 0])
        assert (batch.masks[:, 0, 0] == batch.augmentation["record"] * 10).all()


def test_the_mask_of_an_image_of_zeros_is_filler(broken):
    with faulty(broken, on_error="zero", mask_fill=200) as batches:
        batch = batches.next()
        assert batch.data[0][:, 0, 0, 0].tolist() == [0, 0, 20, 0, 40, 50, 0, 0]
        assert batch.masks[:, 5, 5].tolist() == [0, 200, 20, 200, 40, 50, 200, 200]
        assert batch.index.tolist() == [*range(100, 108)]


def test_faults_name_the_record_and_the_reason(broken):
    with faulty(broken, on_error="skip") as batches:
        batches.next()
        image, mask, size, both = map(str, batches.faults.first)
    assert "images.rec: record 1 at byte" in image
    assert "key 101: " in image
    assert "masks.rec: record 3 at byte" in mask
    assert "key 103: a mask must be a PNG, and it starts with 6e 6f 74" in mask
    assert "masks.rec: record 6 at byte" in size
    assert "mask of 20 x 30 pixels for the image with key 106, which has 30 x 20" in size
    assert "images.rec: record 7" in both


@pytest.mark.parametrize(("wrong", "error"), [("size", "which has 30 x 20"), ("mask", "be a PNG")])
def test_a_fault_is_raised_once_and_ends_the_epoch(broken, wrong, error):
    images = [encode(np.zeros((20, 30), np.uint8))] * 4
    masks = [*images[:3], b"no" if wrong == "mask" else encode(np.zeros((30, 20), np.uint8))]
    write_rec(broken / "images.rec", images)
    write_rec(broken / "masks.rec", masks)
    with faulty(broken, batch_size=1) as batches:
        assert [batches.next().masks.shape for _ in range(3)] == [(1, 20, 30)] * 3
        with pytest.raises(DecodeError, match=error):
            batches.next()
        with pytest.raises(StopIteration):
            batches.next()
        batches.reset()
        assert batches.next().index == [0]


def test_damage_to_the_file_of_masks_is_a_fault_like_others(broken):
    images = [encode(np.zeros((20, 30), np.uint8))] * 3
    write_rec(broken / "images.rec", images)
    starts = write_rec(broken / "masks.rec", images)
    data = bytearray((broken / "masks.rec").read_bytes())
    data[starts[1] + 1] ^= 0xFF
    (broken / "masks.rec").write_bytes(data)
    with faulty(broken, on_error="skip", batch_size=3) as batches:
        assert batches.next().pad == 1
    damaged = pytest.raises(CorruptRecordError, match=r"masks\.rec")
    with faulty(broken, batch_size=3) as batches, damaged:
        batches.next()


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["skip", "replace", "zero"])
def test_on_a_gpu_masks_are_the_same(broken, policy):
    options = {"on_error": policy, "mask_fill": 200, "rand_mirror": True, "rotate": 20, "pad": 3}
    batches = []
    for device in ("cpu", "simulated"):
        with faulty(broken, device=device, **options) as loader:
            batch = loader.next()
            batches.append((batch.masks.asnumpy(), batch.data[0].asnumpy(), batch.index))
    for mine, theirs in zip(*batches, strict=True):
        npt.assert_array_equal(mine, theirs)


# Wrong parameters


def test_masks_must_be_as_many_as_images(maps, tmp_path):
    write_rec(tmp_path / "few.rec", [encode(np.zeros((9, 9), np.uint8))] * 3)
    with pytest.raises(ValueError, match=r"as many as images: .*few\.rec has 3 records, .*has 13"):
        ImageRecordIter(maps / "x.rec", SHAPE, 4, label_width=3, masks=tmp_path / "few.rec")


def test_masks_must_have_the_keys_of_their_images(maps, tmp_path):
    mask = encode(np.zeros((9, 9), np.uint8))
    options = {"label_width": 3, "masks": tmp_path / "m.rec"}
    write_rec(tmp_path / "m.rec", [mask] * COUNT, ids=[*range(7, 17), 18, 17, 19])
    with pytest.raises(ValueError, match=r"record 10 at byte \d+ has key 18, its image 17"):
        ImageRecordIter(maps / "x.rec", SHAPE, 4, **options)
    write_rec(tmp_path / "m.rec", [mask] * COUNT, ids=range(7, 20))
    ImageRecordIter(maps / "x.rec", SHAPE, 4, **options).close()
    # Without an .idx only their number can be compared.
    write_rec(tmp_path / "m.rec", [mask] * COUNT)
    (tmp_path / "m.idx").unlink()
    ImageRecordIter(maps / "x.rec", SHAPE, 4, **options).close()


def test_masks_may_lie_in_several_files(maps, tmp_path):
    paths = [tmp_path / "a.rec", tmp_path / "b.rec"]
    levels = [encode(np.full((40, 40), number, np.uint8)) for number in range(6)]
    write_rec(paths[0], levels[:2], ids=[0, 1])
    write_rec(paths[1], levels[2:], ids=[2, 3, 4, 5])
    write_rec(tmp_path / "images.rec", levels, ids=range(6))
    with ImageRecordIter(tmp_path / "images.rec", (1, 40, 40), 6, masks=paths) as batches:
        assert batches.next().masks[:, 0, 0].tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("fill", [-1, 256, 1.5, "x"])
def test_a_wrong_fill_is_named(maps, fill):
    with pytest.raises(ValueError, match="mask_fill must be"):
        open_maps(maps, mask_fill=fill)


def test_a_missing_file_is_named(maps):
    with pytest.raises(FileNotFoundError, match="none"):
        open_maps(maps, masks="none")
