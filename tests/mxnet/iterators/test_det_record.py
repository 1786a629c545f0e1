"""ImageDetRecordIter as its users see it: pixels, and objects that stay on them."""

from __future__ import annotations

import zlib

import numpy as np
import numpy.testing as npt
import pytest

import gpuio
from gpuio import ImageDetRecordIter
from gpuio.errors import LabelError
from gpuio.formats.object_label import unpack_objects
from gpuio.kernels.color_steps import color_image
from gpuio.kernels.resample import resize
from gpuio.kernels.steps import COLOR_STEP, ColorKind
from gpuio.testing import draw, encode, write_rec

SHAPE = (3, 32, 36)
LABELS = [
    [2, 5, 1, 0.125, 0.25, 0.5, 0.75],
    [4, 6, 30, 40, 0, 0.1, 0.2, 0.3, 0.4, 7, 3, 0.5, 0.5, 0.5, 0.75, 8, 2, 0, 0.6, 1, 0.9, 9],
    [2, 5, 4, 0.3, 0.3, 0.6, 0.6, 5, 0.7, 0.1, 0.9, 0.95],
]
# What MXNet 1.9.1 makes of `three`: sizes of the pictures, and checksums of their pixels.
MXNET = {
    "force": (
        {}, [(32, 36), (32, 36), (32, 36)], [259771766, 708596501, 3809488487],
    ),
    "mirror": (
        {"rand_mirror_prob": 1},
        [(32, 36), (32, 36), (32, 36)], [3845810320, 3251053726, 447625080],
    ),
    "resize": (
        {"resize": 25, "inter_method": 2},
        [(32, 36), (32, 36), (32, 36)], [2785186726, 1662560612, 3983571952],
    ),
    "shrink": (
        {"resize_mode": "shrink", "rand_mirror_prob": 1, "inter_method": 9},
        [(24, 36), (32, 19), (20, 24)], [2392013745, 144507558, 3428472795],
    ),
    "fit": (
        {"resize_mode": "fit"}, [(24, 36), (32, 19), (30, 36)],
        [831172323, 685669050, 3480951952],
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    path = tmp_path_factory.mktemp("det") / "three.rec"
    sizes = [(40, 60), (50, 30), (20, 24)]
    images = [encode(draw(*size, seed=number)) for number, size in enumerate(sizes)]
    write_rec(path, images, labels=LABELS)
    return path


@pytest.fixture(scope="module")
def boxed(tmp_path_factory):
    """Forty black pictures with one white box in each."""
    path, rng = tmp_path_factory.mktemp("det") / "boxed.rec", np.random.default_rng(0)
    images, labels = [], []
    for _ in range(40):
        height, width = rng.integers(80, 160, 2)
        top, left = rng.integers(0, height // 2), rng.integers(0, width // 2)
        bottom, right = top + rng.integers(20, height // 2), left + rng.integers(20, width // 2)
        picture = np.zeros((height, width, 3), np.uint8)
        picture[top:bottom, left:right] = 255
        edges = [left / width, top / height, right / width, bottom / height]
        images.append(encode(picture, "BMP"))
        labels.append([2, 5, 3, *edges])
    write_rec(path, images, labels=labels)
    return path


def make(path, **options):
    return ImageDetRecordIter(path, options.pop("data_shape", SHAPE), 3, **options)


def only(path, **options):
    with make(path, **options) as batches:
        return batches.next()


@pytest.mark.parametrize("case", MXNET.values(), ids=list(MXNET))
def test_pixels_are_those_of_mxnet(three, case):
    options, sizes, checksums = case
    batch = only(three, **options)
    for image, row, size, checksum in zip(
        batch.data[0], batch.label[0], sizes, checksums, strict=True
    ):
        assert row[:3].tolist() == [3, *size]
        picture = image[:, : size[0], : size[1]].astype(np.uint8)
        assert zlib.crc32(np.ascontiguousarray(picture).tobytes()) == checksum
        assert not image[:, size[0] :].any()
        assert not image[:, :, size[1] :].any()


def test_mirrored_labels_are_those_of_mxnet(three):
    rows = only(three, rand_mirror_prob=1).label[0].asnumpy()
    expected = np.array(
        [
            [3, 32, 36, 7, 2, 5, 1, 0.5, 0.25, 0.875, 0.75, *[-1] * 15],
            [3, 32, 36, 16, 4, 6, 30, 40, 0, 0.7, 0.2, 0.9, 0.4, 7, 2, 0, 0.6, 1, 0.9, 9,
             *[-1] * 6],
            [3, 32, 36, 12, 2, 5, 4, 0.39999998, 0.3, 0.7, 0.6, 5, 0.100000024, 0.1, 0.3, 0.95,
             *[-1] * 10],
        ], np.float32,
    )  # fmt: skip
    npt.assert_array_equal(rows, expected)


def test_rows_have_room_for_the_widest_label_or_more(three):
    with make(three) as batches:
        assert batches.label_pad_width == 22
        assert batches.provide_label == [("softmax_label", (3, 26))]
    batch = only(three, label_pad_width=30, label_pad_value=7)
    assert batch.label[0].shape == (3, 34)
    npt.assert_array_equal(batch.label[0][0, 11:], 7)
    with pytest.raises(ValueError, match=r"label_pad_width must be at least 22, .* got 21"):
        make(three, label_pad_width=21)


def test_a_record_with_more_labels_than_there_is_room_for_is_named(three):
    with pytest.raises(ValueError, match=r"widest label \(.*three\.rec: record 1 at byte \d+\)"):
        make(three, label_pad_width=21)
    with make(three, label_pad_width=16, on_error="zero") as batches:
        labels = batches.next().label[0]
        assert labels.shape[1] == 4 + 16
        assert [str(error).split(": ")[-1] for error in batches.faults.first] == [
            "it has 22 labels, more than label_width or label_pad_width=16"
        ]


def test_labels_of_a_list_replace_those_in_the_records(three, tmp_path):
    path = tmp_path / "other.lst"
    path.write_text("0\t2\t5\t9\t0\t0\t0.5\t1\ta.jpg\n1\t2\t5\t8\t0\t0\t1\t1\t7\t0\t0\t1\t.5\tb\n")
    with make(three, path_imglist=path, on_error="skip") as batches:
        assert batches.label_pad_width == 12
        batch = batches.next()
        assert batch.label[0][:2, 3].tolist() == [7, 12]
        npt.assert_array_equal(unpack_objects(batch.label[0][0, 4:11]), [[9, 0, 0, 0.5, 1]])
        assert "path_imglist has no line for its id 2" in str(batches.faults.first[0])


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        (3.5, "1 labels are not enough for a header and an object"),
        ([2, 5, 1, 0, 0, 1], "6 labels are not enough"),
        ([2, 5, 1, 0, 0, 1, 1, 2], "8 labels do not hold a header of 2 and objects of 5"),
        ([1, 5, 1, 0, 0, 1, 1], "a header of 1"),
        ([2, 4, 1, 0, 0, 1, 1, 1], "objects of 4"),
        ([np.nan] * 7, "a header of nan"),
        ([1, 0, 0, 1, 1], "5 labels .*; ImageRecordIter.label_kind='boxes'. reads boxes without"),
    ],
)
def test_a_wrong_label_is_an_error_that_says_where(tmp_path, label, reason):
    path = tmp_path / "wrong.rec"
    write_rec(path, [encode(draw(20, 20))] * 3, labels=[LABELS[0], label, LABELS[2]])
    with pytest.raises(LabelError, match=rf"wrong.rec: record 1 at byte \d+, key 1: .*{reason}"):
        only(path)
    batch = only(path, on_error="skip")
    assert batch.pad == 1
    assert batch.label[0][:2, 3].tolist() == [7, 12]


def test_label_width_is_what_every_record_must_have(three):
    with pytest.raises(LabelError, match="it has 22 labels, more than label_width"):
        only(three, label_width=7)


def test_objects_without_extent_are_dropped_and_headers_kept(three):
    row = only(three).label[0][1]
    assert row[:8].tolist() == [3, 32, 36, 16, 4, 6, 30, 40]
    npt.assert_array_equal(unpack_objects(row[4:20])[:, 0], [0, 2])


OPTIONS = {
    "mirror": {"rand_mirror_prob": 0.5},
    "pad": {"rand_pad_prob": 1, "max_pad_scale": 3},
    "crop": {"rand_crop_prob": 1, "min_crop_scales": 0.5},
    "overlap": {"rand_crop_prob": 1, "min_crop_scales": 0.4, "crop_emit_mode": "overlap"},
    "all": {
        "rand_mirror_prob": 0.5, "rand_pad_prob": 0.5, "max_pad_scale": 2, "rand_crop_prob": 0.8,
        "num_crop_sampler": 3, "min_crop_scales": (0.3, 0.4, 0.5), "resize": 90, "inter_method": 9,
        "min_crop_overlaps": (0, 0.1, 0.3), "min_crop_aspect_ratios": 0.5,
        "max_crop_aspect_ratios": 2,
    },
}  # fmt: skip


@pytest.mark.parametrize("mode", ["force", "shrink", "fit"])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=list(OPTIONS))
def test_objects_stay_on_their_pixels(boxed, options, mode):
    options = {"data_shape": (3, 100, 120), "fill_value": 0, "resize_mode": mode, **options}
    with make(boxed, **options) as batches:
        for batch in batches:
            for image, row in zip(batch.data[0], batch.label[0], strict=True):
                objects = unpack_objects(row[4:11])
                assert (objects[:, 1:] >= 0).all()
                assert (objects[:, 1:] <= 1).all()
                ys, xs = np.nonzero(image[0] > 127)
                found = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
                expected = objects[0, 1:] * row[[2, 1, 2, 1]]
                # A crop and a border are cut to whole pixels, which are enlarged afterwards.
                box = batch.augmentation.get("crop_box", np.ones((1, 4)))
                apart = 1.5 + 2.5 / box[:, 2:][box[:, 2:] > 0].min(initial=1)
                npt.assert_allclose(found, expected, atol=apart)


def test_crops_keep_what_their_limits_say(boxed):
    with make(
        boxed, rand_crop_prob=1, min_crop_scales=0.2, min_crop_object_coverages=0.5,
        max_crop_trials=200, max_crop_overlaps=0.6,
    ) as batches, make(boxed) as plain:  # fmt: skip
        for batch, whole in zip(batches, plain, strict=True):
            crop = batch.augmentation["crop_box"]
            left, top, right, bottom = whole.label[0][:, 7:11].T
            wide = np.minimum(right, crop[:, 0] + crop[:, 2]) - np.maximum(left, crop[:, 0])
            high = np.minimum(bottom, crop[:, 1] + crop[:, 3]) - np.maximum(top, crop[:, 1])
            shared, area = wide * high, (right - left) * (bottom - top)
            found = crop[:, 2] > 0
            assert found.any()
            assert (shared / area)[found].min() >= 0.5 - 1e-5
            union = shared / (area + crop[:, 2] * crop[:, 3] - shared)
            assert union[found].max() <= 0.6 + 1e-5


def test_colours_change_the_picture_but_not_the_border(boxed):
    options = {"rand_pad_prob": 1, "max_pad_scale": 4, "fill_value": 9, "resize_mode": "fit"}
    colors = {"max_random_illumination": 100, "random_illumination_prob": 1, "seed": 3}
    plain = only(boxed, **options, seed=3)
    changed = only(boxed, **options, **colors)
    npt.assert_array_equal(plain.label[0], changed.label[0])
    border = plain.data[0] == 9
    assert border.any()
    npt.assert_array_equal(changed.data[0][border], 9)
    assert (plain.data[0] != changed.data[0]).any()


def test_the_same_numbers_come_in_any_batch_size_and_can_be_replayed(boxed):
    options = {**OPTIONS["all"], "shuffle": True, "seed": 5}
    rows = {}
    for size in (3, 7):
        with ImageDetRecordIter(boxed, SHAPE, size, **options) as batches:
            for batch in batches:
                again = batches.replay(batch.augmentation)
                npt.assert_array_equal(again.data[0], batch.data[0])
                npt.assert_array_equal(again.label[0], batch.label[0])
                for key, image, row in zip(
                    batch.index.tolist(), batch.data[0], batch.label[0], strict=True
                ):
                    before = rows.setdefault(key, (image.copy(), row.copy()))
                    npt.assert_array_equal(image, before[0])
                    npt.assert_array_equal(row, before[1])
    assert len(rows) == 40


def test_states_and_parts_are_those_of_every_iterator(boxed):
    with make(boxed, shuffle=True, **OPTIONS["all"]) as one:
        for _ in range(5):
            one.next()
        state, expected = one.state_dict(), one.next()
    with make(boxed, shuffle=True, **OPTIONS["all"]) as two:
        two.load_state_dict(state)
        npt.assert_array_equal(two.next().label[0], expected.label[0])
    keys = []
    for part in range(2):
        with make(boxed, num_parts=2, part_index=part) as batches:
            keys += [key for b in batches for key in b.index[: 3 - b.pad].tolist()]
    assert sorted(keys) == list(range(40))


def test_means_and_deviations_follow_the_rules_of_mxnet(three):
    plain = only(three).data[0].asnumpy()
    got = only(three, mean_r=10, mean_g=-5, std_g=4, std_b=-2, scale=0.5).data[0]
    mean, std = np.array([10, -5, 0]), np.array([1, 4, 1])
    expected = (plain - mean[:, None, None]) / std[:, None, None] * 0.5
    npt.assert_allclose(got, expected, rtol=1e-5)
    npt.assert_array_equal(only(three, mean_r=-10).data[0], plain)


def test_a_mean_image_is_made_and_used(three, tmp_path):
    path = tmp_path / "mean"
    plain = only(three).data[0].asnumpy()
    got = only(three, mean_img=path).data[0]
    npt.assert_allclose(got, plain - plain.mean(axis=0), atol=1e-3)
    npt.assert_array_equal(
        only(three, mean_img=tmp_path / "none", mean_r=1).data[0][:, 1], plain[:, 1]
    )
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resize_mode": "crop"}, "resize_mode must be one of force, shrink, fit"),
        ({"rand_crop_prob": 1, "crop_emit_mode": "any"}, "crop_emit_mode must be one of"),
        ({"rand_crop_prob": 1, "num_crop_sampler": 3, "min_crop_scales": (0, 1)}, "1 value or 3"),
        ({"rand_crop_prob": 1, "max_crop_scales": 2}, r"max_crop_scales must be in \[0, 1\]"),
        ({"rand_crop_prob": 1, "min_crop_overlaps": 0.5, "max_crop_overlaps": 0.2}, "is less than"),
        ({"rand_crop_prob": 1, "max_crop_trials": 2.5}, "max_crop_trials must be integers"),
        ({"max_random_hue": 9, "data_shape": (1, 8, 8)}, "max_random_hue needs .* 3 channels"),
        ({"aug_seq": "aug_default"}, "aug_seq must be one of det_aug_default"),
        ({"rand_mirror_prob": "often"}, "rand_mirror_prob must be a number"),
    ],
)
def test_a_wrong_parameter_is_named(three, options, message):
    with pytest.raises(ValueError, match=message):
        make(three, **options)


def test_an_unknown_parameter_is_an_error(three):
    with pytest.raises(TypeError, match="'rand_mirror'; did you mean 'rand_mirror_prob'"):
        make(three, rand_mirror=True)


def test_an_old_script_runs(three):
    it = gpuio.io.ImageDetRecordIter(
        path_imgrec=str(three), batch_size=2, data_shape=(3, 30, 30), mean_r=123, mean_g=117,
        mean_b=104, label_pad_width=-1, label_width=-1, preprocess_threads=4, rand_crop_prob=0.8,
        num_crop_sampler=5, min_crop_scales="(0.3, 0.3, 0.3, 0.3, 1e-3)", max_crop_trials=25,
        min_crop_overlaps=[0.1, 0.3, 0.5, 0.7, 0.9], rand_mirror_prob=0.5, shuffle=True,
    )  # fmt: skip
    assert sum(2 - batch.pad for batch in it) == 3
    it.close()


@pytest.mark.parametrize("channels", [1, 4])
def test_gray_and_alpha_pictures_move_alike(tmp_path, channels):
    path = tmp_path / "other.rec"
    write_rec(path, [encode(draw(40, 50, channels))] * 3, labels=LABELS)
    options = {**OPTIONS["all"], "data_shape": (channels, 20, 20)}
    batch = only(path, **options, max_random_contrast=0.5, random_contrast_prob=1)
    assert batch.data[0].shape == (3, channels, 20, 20)
    assert (batch.label[0][:, 0] == channels).all()


def test_no_more_is_decoded_than_a_crop_needs(tmp_path):
    path = tmp_path / "large.rec"
    image = encode(draw(300, 400), "JPEG")
    write_rec(path, [image] * 6, labels=[[2, 5, 0, 0.1, 0.1, 0.9, 0.9]] * 6)
    with make(path, rand_crop_prob=1, max_crop_scales=0.5, rand_mirror_prob=0.5) as batches:
        found = sum((b.augmentation["crop_box"][:, 2] > 0).sum() for b in batches)
        assert batches.stats()["decoded_in_part"] == found > 0


def test_an_image_that_cannot_be_had_may_be_zeros_without_objects(tmp_path):
    path = tmp_path / "wrong.rec"
    write_rec(path, [encode(draw(20, 20))] * 3, labels=[LABELS[0], [2, 5, 1], LABELS[2]])
    batch = only(path, on_error="zero", **OPTIONS["all"])
    assert not batch.data[0][1].any()
    assert batch.label[0][1, 3:].tolist() == [0, *[-1] * 12]


@pytest.mark.parametrize("edge", [-1, 45])
def test_colours_come_after_the_first_resize_and_before_the_last(three, edge):
    options = {"max_random_hue": 1, "random_hue_prob": 1, "resize": edge, "rand_mirror_prob": 1}
    shifts = {"hue": [0, 30, 0], "lightness": [0, 0, -90], "contrast": [0.5, 0, -0.25]}
    color = np.zeros((3, 2), COLOR_STEP)
    color["kind"][1:, 0], color["kind"][::2, 1] = ColorKind.HLS, ColorKind.BRIGHTNESS
    color["a"] = [[0, 1.5], [30, 1], [0, 0.75]]
    color["b"][:, 0] = shifts["lightness"]
    with make(three, **options) as batches:
        record = {"record": np.arange(3), "color_saturation": np.zeros(3, int)}
        got = batches.replay({**record, **{k: np.array(v) for k, v in shifts.items()}}).data[0]
    for number, size in enumerate([(40, 60), (50, 30), (20, 24)]):
        picture = draw(*size, seed=number)
        if edge > 0:
            size = [edge * side // min(size) for side in size]
            picture = resize(picture, *size)
        color_image(picture.reshape(-1), color[number])
        expected = resize(np.ascontiguousarray(picture[:, ::-1]), *SHAPE[1:])
        npt.assert_array_equal(got[number], expected.transpose(2, 0, 1))


@pytest.mark.parametrize("channels", [1, 3])
def test_contrast_multiplies_levels_of_any_number_of_channels(tmp_path, channels):
    path = tmp_path / "even.rec"
    write_rec(path, [encode(np.full((20, 24, 3), 90, np.uint8))] * 3, labels=[LABELS[0]] * 3)
    shape = (channels, 20, 24)
    with make(path, data_shape=shape, max_random_contrast=1, random_contrast_prob=1) as batches:
        factors = {"record": np.arange(3), "contrast": np.array([-0.5, 0, 1])}
        got = batches.replay(factors).data[0].asnumpy()
    npt.assert_array_equal(got, np.array([45, 90, 180], np.float32).reshape(3, 1, 1, 1) + 0 * got)
