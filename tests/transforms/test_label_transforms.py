"""Points and boxes go where the pixels go."""

from __future__ import annotations

import numpy as np
import numpy.testing as npt
import pytest

from gpuio import ImageRecordIter
from gpuio.errors import LabelError
from gpuio.testing import draw, encode, write_rec

COUNT = 12
WAYS = {
    "crop": {"rand_crop": True},
    "enlarged": {"data_shape": (3, 190, 220)},
    "resize": {"resize": 120, "rand_crop": True, "rand_mirror": True},
    "rotate": {"max_rotate_angle": 180},
    "affine": {
        "max_rotate_angle": 40, "max_shear_ratio": 0.3, "max_aspect_ratio": 0.3,
        "min_random_scale": 0.7, "max_random_scale": 1.4, "rand_mirror": True,
    },
    "pad": {"pad": 13, "rand_crop": True, "mirror": True},
    "square": {"resize": 120, "min_crop_size": 50, "max_crop_size": 110, "rand_crop": True},
    "resized crop": {
        "random_resized_crop": True, "min_random_area": 0.2, "max_random_area": 0.9,
        "min_aspect_ratio": 0.6, "max_aspect_ratio": 1.7, "rand_mirror": True,
    },
    "all": {
        "resize": 150, "max_rotate_angle": 30, "max_random_scale": 1.3, "pad": 10,
        "rand_crop": True, "rand_mirror": True, "data_shape": (3, 150, 170),
    },
}  # fmt: skip
ways = pytest.mark.parametrize("options", WAYS.values(), ids=list(WAYS))


@pytest.fixture(scope="module")
def maps(tmp_path_factory):
    """Pictures whose pixels say where they are: red is x, green is y, blue is 255."""
    path, rng = tmp_path_factory.mktemp("targets") / "maps.rec", np.random.default_rng(0)
    images, labels = [], []
    for _ in range(COUNT):
        height, width = rng.integers(100, 180, 2)
        y, x = np.mgrid[:height, :width]
        images.append(
            encode(np.stack([x, y, np.full_like(x, 255)], axis=2).astype(np.uint8), "BMP")
        )
        labels.append(rng.uniform(0, 1, 40))
    write_rec(path, images, labels=labels)
    return path, labels


def batch_of(path, options, **more):
    shape = options.get("data_shape", (3, 70, 90))
    options = {"label_width": 40, "fill_value": 0, **options, **more, "data_shape": shape}
    with ImageRecordIter(path, batch_size=COUNT, **options) as batches:
        return batches.next()


@ways
def test_points_stay_on_their_pixels(maps, options):
    path, labels = maps
    batch = batch_of(path, options, label_kind="points")
    sizes = [image.shape for image in whole(path)]
    seen = 0
    for image, got, label, size in zip(batch.data[0], batch.label[0], labels, sizes, strict=True):
        height, width = image.shape[1:]
        for (x, y), (u, v) in zip(label.reshape(-1, 2), got.reshape(-1, 2), strict=True):
            col, row = int(np.floor(u * width)), int(np.floor(v * height))
            if not (0 <= col < width and 0 <= row < height) or image[2, row, col] < 255:
                continue
            seen += 1
            # The pixel's centre is up to half a pixel off, on both sides, and levels are whole.
            npt.assert_allclose(
                image[:2, row, col], [x * size[1] - 0.5, y * size[0] - 0.5], atol=2.2
            )
    assert seen > 30


def whole(path):
    from gpuio.formats.codec import imdecode
    from gpuio.recordio import unpack
    from gpuio.sources.recordio.source import RecordIOSource

    dataset = RecordIOSource.open(path)
    return [imdecode(unpack(dataset.payload(n))[1]) for n in range(len(dataset))]


@pytest.fixture(scope="module")
def boxes(tmp_path_factory):
    """Black pictures with two white boxes each, of which one is small."""
    path, rng = tmp_path_factory.mktemp("targets") / "boxes.rec", np.random.default_rng(1)
    images, labels = [], []
    for number in range(COUNT):
        height, width = rng.integers(100, 180, 2)
        top, left = rng.integers(5, height // 2 - 30), rng.integers(5, width // 2 - 30)
        bottom, right = top + rng.integers(30, 70), left + rng.integers(30, 70)
        picture = np.zeros((height, width, 3), np.uint8)
        picture[top:bottom, left:right] = 255
        images.append(encode(picture, "BMP"))
        edges = [left / width, top / height, right / width, bottom / height]
        labels.append([number, *edges])
    write_rec(path, images, labels=labels)
    return path, labels


@ways
def test_boxes_are_around_their_pixels(boxes, options):
    path, _ = boxes
    options = {**options, "label_width": 5, "label_kind": "boxes", "crop_emit_mode": "overlap"}
    batch = batch_of(path, options, emit_overlap_thresh=0.5)
    angle = batch.augmentation.get("angle", np.zeros(COUNT))
    seen = 0
    for number, (image, row) in enumerate(zip(batch.data[0], batch.label[0], strict=True)):
        height, width = image.shape[1:]
        if row[0] == -1:
            assert (row == -1).all()
            continue
        assert row[0] == number
        assert (row[1:] >= 0).all()
        assert (row[1:] <= 1).all()
        ys, xs = np.nonzero(image[0] > 127)
        found = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
        around = row[1:] * [width, height, width, height]
        if angle[number] % 90 and "pad" in options and around.min() < options["pad"] + 2:
            continue  # a corner may be cut off before the border comes
        # Corners of turned boxes are dimmed or cut off, and enlarging spreads that.
        npt.assert_allclose(found, around, atol=6 if angle[number] % 90 else 3.5)
        seen += 1
    assert seen >= 3


def test_boxes_that_leave_the_picture_are_dropped(tmp_path):
    path = tmp_path / "a.rec"
    picture = np.zeros((100, 100, 3), np.uint8)
    objects = [[0, 0, 0, 0.2, 0.2], [1, 0.2, 0.2, 0.45, 0.45], [2, 0.4, 0.4, 0.6, 0.6],
               [3, 0.3, 0.3, 0.3, 0.5]]  # fmt: skip
    write_rec(path, [encode(picture)] * COUNT, labels=[np.ravel(objects)] * COUNT)
    options = {"data_shape": (3, 50, 50), "label_width": 20, "label_kind": "boxes"}
    got = batch_of(path, options).label[0][0].reshape(-1, 5)
    npt.assert_allclose(got[:2], [[1, 0, 0, 0.4, 0.4], [2, 0.3, 0.3, 0.7, 0.7]], atol=1e-6)
    assert (got[2:] == -1).all()
    options |= {"crop_emit_mode": "overlap", "emit_overlap_thresh": 0.7, "label_pad_value": 9}
    got = batch_of(path, options).label[0][0].reshape(-1, 5)
    assert got[:, 0].tolist() == [2, 9, 9, 9]
    options["emit_overlap_thresh"] = 0.6
    assert batch_of(path, options).label[0][0].reshape(-1, 5)[:, 0].tolist() == [1, 2, 9, 9]


def test_images_may_have_any_number_of_boxes(tmp_path, maps):
    path = tmp_path / "a.rec"
    one, two = [1, 0, 0, 1, 1], [1, 0, 0, 1, 1, 2, 0.25, 0.25, 0.5, 0.75]
    image = encode(np.zeros((40, 40, 3), np.uint8))
    write_rec(path, [image] * 3, labels=[one, two, [1, 2, 3]])
    with ImageRecordIter(
        path, (3, 40, 40), 3, label_width=-1, label_kind="boxes", on_error="skip", mirror=True
    ) as batches:
        assert batches.provide_label[0].shape == (3, 10)
        batch = batches.next()
        assert batch.pad == 1
        npt.assert_array_equal(batch.label[0][0], [*one, *[-1] * 5])
        npt.assert_array_equal(batch.label[0][1], [*one, 2, 0.5, 0.25, 0.75, 0.75])
        assert "its 3 labels are not boxes of 5 numbers" in str(batches.faults.first[0])
    with (
        ImageRecordIter(path, (3, 40, 40), 3, label_width=-1, label_kind="points") as batches,
        pytest.raises(LabelError, match="its 5 labels are not points of 2 numbers"),
    ):
        batches.next()


def test_points_of_a_list_may_be_of_any_number(tmp_path, maps):
    path, _ = maps
    (tmp_path / "a.lst").write_text(
        "".join(f"{n}\t" + "0.5\t0.25\t" * (1 + n % 2) + "x\n" for n in range(COUNT))
    )
    options = {"label_width": -1, "label_kind": "points", "path_imglist": tmp_path / "a.lst"}
    batch = batch_of(path, {**options, "random_resized_crop": True, "data_shape": (3, 20, 20)})
    assert batch.label[0].shape == (COUNT, 4)
    assert (batch.label[0][::2, 2:] == -1).all()


def test_values_stay_as_they_are(maps):
    path, labels = maps
    npt.assert_array_equal(batch_of(path, WAYS["all"]).label[0], np.array(labels, np.float32))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_kind": "masks"}, "label_kind must be one of values, boxes, points"),
        ({"label_kind": "boxes", "label_width": 6}, "a multiple of 5 for boxes, got 6"),
        ({"label_kind": "values", "label_width": -1}, "label_width=-1 needs label_kind='boxes'"),
        ({"label_kind": "boxes", "label_width": 5, "crop_emit_mode": "x"}, "crop_emit_mode"),
    ],
)
def test_a_wrong_parameter_is_named(maps, options, message):
    with pytest.raises(ValueError, match=message):
        ImageRecordIter(maps[0], (3, 20, 20), 4, **options)


def test_labels_of_a_detection_set_are_recognized(tmp_path):
    path = tmp_path / "det.rec"
    write_rec(path, [encode(draw(20, 20))], labels=[[2, 5, 1, 0, 0, 0.5, 0.5]])
    with (
        ImageRecordIter(path, (3, 20, 20), 1, label_kind="boxes", label_width=-1) as batches,
        pytest.raises(LabelError, match=r"labels are not boxes of 5 .* with ImageDetRecordIter"),
    ):
        batches.next()


def test_masks_follow_by_replay_with_the_nearest_pixel(boxes, tmp_path):
    """A .rec of masks, in the order of the images, gets what the images got."""
    path, _ = boxes
    masks = [encode((picture[:, :, :1] > 0).astype(np.uint8) * 7) for picture in whole(path)]
    write_rec(tmp_path / "masks.rec", masks)
    options = {**WAYS["all"], "fill_value": 0, "shuffle": True}
    with (
        ImageRecordIter(path, batch_size=4, label_width=5, **options) as images,
        ImageRecordIter(
            tmp_path / "masks.rec", batch_size=4, inter_method=0, dtype="uint8",
            **{**options, "data_shape": (1, *options["data_shape"][1:])},
        ) as mask_of,
    ):  # fmt: skip
        for batch in images:
            same = {k: v for k, v in batch.augmentation.items() if "interpolation" not in k}
            mask = mask_of.replay(same).data[0][:, 0]
            assert np.isin(mask, [0, 7]).all()
            image = batch.data[0][:, 0]
            # Where an image is all black or all white, away from edges, so is its mask.
            sure = (image == 0) | (image == 255)
            assert (((image > 127) == (mask == 7)) | ~sure).mean() > 0.998
