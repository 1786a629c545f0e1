"""The warp: MXNet's matrix and canvas, and pictures for which one can say what must come out."""

from __future__ import annotations

import numpy as np
import numpy.testing as npt
import pytest

from gpuio.kernels.steps import StepKind
from gpuio.testing import draw
from gpuio.transforms.affine import Affine

F32 = np.float32
SIZES = np.random.default_rng(0).integers(5, 300, (200, 2))


def matrix_of(height, width, angle, shear, scale, ratio, limits):
    """Image to canvas, and the canvas: MXNet's formulas for one image, in float32."""
    turn = int(angle) * np.pi / 180
    a, b = F32(np.cos(turn)), F32(np.sin(turn))
    down = F32(2) * scale / (F32(1) + ratio)
    across = ratio * down
    low, high = F32(limits[0]), F32(limits[1])
    wide = max(low, min(high, scale * F32(width)))
    tall = max(low, min(high, scale * F32(height)))
    m = np.empty((2, 3), F32)
    m[0, :2] = down * a - shear * b * across, down * b + shear * a * across
    m[1, :2] = -b * across, a * across
    m[0, 2] = (wide - (m[0, 0] * F32(width) + m[0, 1] * F32(height))) / F32(2)
    m[1, 2] = (tall - (m[1, 0] * F32(width) + m[1, 1] * F32(height))) / F32(2)
    return m, (int(tall), int(wide))


@pytest.mark.parametrize(
    "op",
    [
        Affine(angles=(-180, 180)),
        Affine(angle_list=(7, -90, 200)),
        Affine(shear=0.4),
        Affine(scale=(0.5, 2)),
        Affine(ratio=(0.5, 2)),
        Affine(scale=(0.5, 2), limits=(40, 250.5)),
        Affine((-30, 30), (), 0.2, (0.7, 1.3), (0.8, 1.25), (50, 200)),
    ],
    ids=str,
)
def test_matrix_and_canvas_are_the_formulas(stage, op):
    made = stage.planned([op], SIZES)
    (step,) = made.geometry.steps
    still = {"aspect_ratio": np.ones(len(SIZES), F32)}  # not drawn without a range
    columns = [(still | made.sampled)[x] for x in ("angle", "shear", "scale", "aspect_ratio")]
    for place, drawn in enumerate(zip(*columns, strict=True)):
        matrix, size = matrix_of(*SIZES[place], *drawn, op.limits)
        assert tuple(step.size[place]) == size
        back = np.linalg.inv(np.vstack([matrix.astype(float), [0, 0, 1]]))[:2]
        npt.assert_allclose(step.matrix[place], back.ravel(), rtol=1e-9, atol=1e-9)


def once(stage, op, image):
    """The whole canvas."""
    canvas = stage.planned([op], [image.shape[:2]]).geometry.size[0]
    return np.moveaxis(
        stage.run(stage.ops_plan(op, shape=(image.shape[2], *canvas)), [image]).data[0], 0, -1
    )


@pytest.mark.parametrize("method", [0, 1, 2, 3, 4])
def test_a_positive_angle_turns_counter_clockwise(stage, method):
    image = draw(24, 24)
    got = once(stage, Affine(angles=(90, 90), fill=3, inter_method=method), image)
    # About the corner in the middle, not the middle of the pixels: one row falls out.
    npt.assert_array_equal(got[1:], np.rot90(image)[:-1])
    assert (got[0] == 3).all()


@pytest.mark.parametrize("method", [0, 1, 2, 3, 4])
def test_a_scale_of_two_keeps_every_pixel(stage, method):
    image = draw(15, 22)
    got = once(stage, Affine(scale=(2, 2), inter_method=method), image)
    assert got.shape == (30, 44, 3)
    npt.assert_array_equal(got[::2, ::2], image)


def test_the_canvas_does_not_grow_when_the_picture_is_turned(stage):
    assert once(stage, Affine(angles=(45, 45)), draw(20, 31)).shape == (20, 31, 3)


def test_an_aspect_ratio_changes_what_is_on_the_canvas_not_the_canvas(stage):
    image = np.full((40, 40, 3), 90, np.uint8)
    got = once(stage, Affine(ratio=(3, 3), fill=0), image)
    assert got.shape == image.shape
    assert (got[20] == 0).any()  # narrower: columns times a half
    assert (got[:, 20] == 90).all()  # higher: rows times three halves


def test_a_shear_moves_rows_in_proportion(stage):
    image = np.zeros((41, 41, 1), np.uint8)
    image[:, 20] = 200
    op = Affine(shear=0.5, fill=0)
    shear = stage.planned([op], [(41, 41)]).sampled["shear"][0]
    got = once(stage, op, image)[..., 0].astype(float)
    place = (got * np.arange(41)).sum(axis=1) / got.sum(axis=1)
    slope = np.polyfit(np.arange(41), place, 1)[0]
    assert slope == pytest.approx(shear, abs=0.01)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_pixels_outside_the_image_are_filled_and_transparent(stage, channels):
    got = once(stage, Affine(angles=(45, 45), fill=99), draw(30, 30, channels))
    npt.assert_array_equal(got[0, 0], [99, 99, 99, 0][:channels])


def test_sides_stay_within_their_limits(stage):
    made = stage.planned([Affine(scale=(0.1, 9), limits=(30, 70.9))], SIZES)
    assert made.geometry.size.min() >= 30
    assert made.geometry.size.max() <= 70


def test_interpolations_are_those_of_warps(stage):
    kinds = [
        stage.planned([Affine(angles=(5, 5), inter_method=method)], [(30, 40)])
        .geometry.steps[0]
        .kind[0]
        for method in (0, 1, 2, 3, 4)
    ]
    assert kinds == [
        StepKind.WARP_NEAREST,
        StepKind.WARP_LINEAR,
        StepKind.WARP_CUBIC,
        StepKind.WARP_LINEAR,
        StepKind.WARP_LANCZOS,
    ]


def test_by_size_means_cubic_to_enlarge_and_bilinear_to_shrink(stage):
    for scale, kind in (
        (2, StepKind.WARP_CUBIC),
        (0.5, StepKind.WARP_LINEAR),
        (1, StepKind.WARP_LINEAR),
    ):
        op = Affine(angles=(5, 5), scale=(scale, scale), inter_method=9)
        assert stage.planned([op], [(30, 40)]).geometry.steps[0].kind == kind
