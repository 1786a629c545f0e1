"""What each pass over the pixels costs: milliseconds for an image on one core, beside OpenCV.

    python benchmarks/kernels.py
    python benchmarks/kernels.py --out kernels.json

Every step ends in the batch: resized, warped or copied, cropped, its colours changed, mirrored,
normalized, cast and laid out.
gpuio computes the pixels of the crop only, and in one pass; OpenCV has a call for each step, of
which the fastest known to us are used. Images and batch are larger than the caches, as in training.
Both take turns, and the median is shown.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import cv2
import machine
import numpy as np
import numpy.typing as npt

from gpuio.kernels.parallel import run_program
from gpuio.kernels.resample import finish, lend_memory, resample
from gpuio.kernels.steps import COLOR_STEP, STEP, ColorKind, OutputType, StepKind, resize_kinds
from gpuio.kernels.steps import STEPS as KINDS
from gpuio.kernels.warp import weight_table

MEAN = np.array([123.68, 116.28, 103.53], np.float32)
STD = np.array([58.395, 57.12, 57.375], np.float32)
CROP = 224
LARGE, SMALL, DOUBLE = (375, 500), (256, 341), (512, 682)  # heights and widths, in pixels
METHODS = {
    "nearest": (0, cv2.INTER_NEAREST),
    "bilinear": (1, cv2.INTER_LINEAR),
    "cubic": (2, cv2.INTER_CUBIC),
    "area": (3, cv2.INTER_AREA),
    "Lanczos": (4, cv2.INTER_LANCZOS4),
}
WARPS = {
    "nearest": (StepKind.WARP_NEAREST, cv2.INTER_NEAREST),
    "bilinear": (StepKind.WARP_LINEAR, cv2.INTER_LINEAR),
    "cubic": (StepKind.WARP_CUBIC, cv2.INTER_CUBIC),
    "Lanczos": (StepKind.WARP_LANCZOS, cv2.INTER_LANCZOS4),
}
ANGLE, SHEAR, FILL, MARGIN = 10, 0.1, 255, 12
COLORS = {
    "brightness, contrast, saturation": [
        (ColorKind.BRIGHTNESS, 1.2, 0, 0), (ColorKind.CONTRAST, 0.8, 0, 0),
        (ColorKind.SATURATION, 1.3, 0, 0),
    ],
    "hue, lightness, saturation": [(ColorKind.HLS, 9, 20, -15)],
    "lighting": [(ColorKind.SHIFT, 5.3, -3.7, 8.1)],
    "gray": [(ColorKind.GRAY, 0, 0, 0)],
}  # fmt: skip
DTYPES = {
    "float32": (OutputType.FLOAT32, np.float32),
    "float16": (OutputType.FLOAT16, np.float16),
    "int8": (OutputType.INT8, np.int8),
    "uint8": (OutputType.UINT8, np.uint8),
}

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Step:
    """One line of the table.

    Attributes:
        name: For the table.
        source: Height and width of the images.
        size: What they are resized to; the same for a copy.
        method: Of METHODS.
        dtype: Of DTYPES; None writes the whole resized image as pixels.
        mirror: Whether all images are mirrored.
        interleaved: Whether the batch is (N, H, W, C).
        warp: Of WARPS, turned and sheared about the middle instead of resized.
        border: Whether there is one, and the crop begins in its corner.
        color: Of COLORS.
    """

    name: str
    source: tuple[int, int] = SMALL
    size: tuple[int, int] = SMALL
    method: str = "bilinear"
    dtype: str | None = "float32"
    mirror: bool = False
    interleaved: bool = False
    warp: str | None = None
    border: bool = False
    color: str | None = None

    @property
    def corner(self) -> tuple[int, int]:
        """Where the crop begins, y and x."""
        top, left = ((side - CROP) // 2 for side in self.size)
        return (0, 0) if self.border else (top, left)


STEPS = (
    *(Step(f"resize, {name}", LARGE, SMALL, name) for name in METHODS),
    Step("resize, area by 2", DOUBLE, SMALL, "area"),
    Step("resize, whole, to pixels", LARGE, SMALL, dtype=None),
    Step("copy"),
    Step("copy, mirrored", mirror=True),
    Step("copy, NHWC", interleaved=True),
    Step("copy, float16", dtype="float16"),
    Step("copy, int8", dtype="int8"),
    Step("copy, uint8", dtype="uint8"),
    Step("copy, uint8, NHWC", dtype="uint8", interleaved=True),
    *(Step(f"warp, {name}", warp=name) for name in WARPS),
    Step("border", border=True),
    *(Step(f"copy, {name}", color=name) for name in COLORS),
)


def ours(step: Step, images: Pixels) -> tuple[Callable[[], None], npt.NDArray[np.generic]]:
    """gpuio's kernel on a batch, and where its output goes."""
    count = len(images)
    top, left = step.corner
    norm = np.concatenate([MEAN, [0], 1 / STD, [1], np.zeros(4)]).astype(np.float32)
    if step.dtype == "int8":
        norm[:4] = np.round(norm[:4])
    table = np.zeros(count, STEP)
    table["src"] = images.ctypes.data + np.arange(count) * images[0].nbytes
    table["src_pitch"] = images.strides[1]
    sizes = (np.array([s], np.int64).repeat(count, 0) for s in (step.source, step.size))
    table["kind"] = resize_kinds(*sizes, np.full(count, METHODS[step.method][0]))
    table["src_height"], table["src_width"] = step.source
    table["dst_height"], table["dst_width"] = step.size
    table["mirror"] = step.mirror
    table["norm"] = norm.ctypes.data
    matrix, color, weights = canvas_to_source(step), color_steps(step), None
    table["fill"] = FILL
    if step.warp is not None:
        table["kind"] = kind = WARPS[step.warp][0]
        table["matrix"] = matrix.ctypes.data
        weights = weight_table(KINDS[kind].taps) if KINDS[kind].weighs else None
        table["weights"] = 0 if weights is None else weights.ctypes.data
    if step.border:
        table["kind"], table["margin"] = StepKind.BORDER, MARGIN
        table["dst_height"], table["dst_width"] = (side + 2 * MARGIN for side in step.size)
    if step.color is not None:
        table["color"], table["color_count"] = color.ctypes.data, len(color)
    if step.dtype is None:
        out = np.empty((count, *step.size, 3), np.uint8)
        table["rows"], table["cols"] = step.size
        table["dst_pitch"] = out.strides[1]
        table["dst"] = out.ctypes.data + np.arange(count) * out[0].nbytes
        memory = lend_memory(table[:1], 3)
        table["taps"] = table["taps"][0]

        def run_resample() -> None:
            assert memory.size  # which the kernel has the address of
            resample(count, 1, table.ctypes.data, 3)

        return run_resample, out
    kind, dtype = DTYPES[step.dtype]
    out = np.empty((count, CROP, CROP, 3) if step.interleaved else (count, 3, CROP, CROP), dtype)
    table["y"], table["x"], table["rows"], table["cols"] = top, left, CROP, CROP
    table["dst"] = out.ctypes.data + np.arange(count) * out[0].nbytes

    scratch = lend_memory(table[:1], 3)
    table["taps"], table["scratch"] = table["taps"][0], table["scratch"][0]
    words = (table.ctypes.data, 3, kind, int(step.interleaved))

    def run() -> None:
        # What the kernel has the addresses of.
        held = (table, norm, matrix, color, weights, scratch)
        assert held
        run_program([(finish, words)], count, 1)

    return run, out


def canvas_to_source(step: Step) -> npt.NDArray[np.float64]:
    """(2, 3) places in the image by places on the canvas, both x and y in pixels."""
    height, width = step.size
    forward = cv2.getRotationMatrix2D((width / 2, height / 2), ANGLE, 1)
    forward[0] += SHEAR * forward[1]
    forward[0, 2] -= SHEAR * height / 2
    return np.ascontiguousarray(cv2.invertAffineTransform(forward))


def color_steps(step: Step) -> npt.NDArray[np.void]:
    """What becomes of the colours, as kernels take it."""
    return np.array(COLORS.get(step.color or "", []), COLOR_STEP)


def recolored(crop: Pixels, name: str) -> Pixels:
    """The same with OpenCV."""
    given = COLORS[name]
    if name == "hue, lightness, saturation":
        hls = cv2.cvtColor(crop, cv2.COLOR_RGB2HLS)
        shifts = given[0][1:]
        hls = cv2.add(hls, np.array([*shifts, 0], float))
        cv2.min(hls, (180, 255, 255, 255), dst=hls)
        return cv2.cvtColor(hls, cv2.COLOR_HLS2RGB)
    if name == "lighting":
        return cv2.add(crop, np.array([*given[0][1:], 0]))
    if name == "gray":
        return cv2.transform(crop, np.array([[0.21, 0.72, 0.07]] * 3, np.float32))
    b, c, s = (factor for _, factor, *_ in given)
    bright = cv2.addWeighted(crop, b, crop, 0, 0)
    # MXNet's gray exchanges the weights of red and blue.
    mean = cv2.mean(cv2.cvtColor(bright, cv2.COLOR_BGR2GRAY))[0]
    plain = cv2.addWeighted(bright, c, bright, 0, (1 - c) * mean)
    gray = cv2.cvtColor(cv2.cvtColor(plain, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2RGB)
    return cv2.addWeighted(plain, s, gray, 1 - s, 0)


def theirs(step: Step, images: Pixels) -> tuple[Callable[[], None], npt.NDArray[np.generic]]:
    """The same step with OpenCV, image by image."""
    count = len(images)
    height, width = step.size
    top, left = step.corner
    method = METHODS[step.method][1]
    matrix = canvas_to_source(step)
    matrix[:, 2] += matrix[:, :2] @ (left, top)  # of the crop alone
    if step.dtype is None:
        pixels = np.empty((count, height, width, 3), np.uint8)

        def resize_all() -> None:
            for image, into in zip(images, pixels, strict=True):
                cv2.resize(image, (width, height), dst=into, interpolation=method)

        return resize_all, pixels
    dtype = DTYPES[step.dtype][1]
    out = np.empty((count, CROP, CROP, 3) if step.interleaved else (count, 3, CROP, CROP), dtype)
    # Mean and gain as one multiplication and one addition, in place.
    gain, offset = 1 / STD, -MEAN / STD
    if step.dtype == "int8":
        gain, offset = np.ones(3, np.float32), -np.round(MEAN)
    planes = [np.empty((CROP, CROP), np.uint8) for _ in range(3)]
    wide = np.empty((CROP, CROP, 3), np.float32)
    kind = {np.float32: cv2.CV_32F, np.int8: cv2.CV_8S}.get(dtype)

    def run() -> None:
        for image, into in zip(images, out, strict=True):
            whole = image
            if step.source != step.size:
                whole = cv2.resize(image, (width, height), interpolation=method)
            if step.warp is not None:
                flags = WARPS[step.warp][1] | cv2.WARP_INVERSE_MAP
                crop = cv2.warpAffine(
                    image, matrix, (CROP, CROP), flags=flags, borderValue=[FILL] * 3
                )
            elif step.border:
                inner, outer = image[: CROP - MARGIN, : CROP - MARGIN], (MARGIN, 0, MARGIN, 0)
                crop = cv2.copyMakeBorder(inner, *outer, cv2.BORDER_CONSTANT, value=[FILL] * 3)
            else:
                crop = whole[top : top + CROP, left : left + CROP]
            if step.color is not None:
                crop = recolored(crop, step.color)
            if step.mirror:
                crop = cv2.flip(crop, 1)
            if step.interleaved and dtype is np.uint8:
                into[:] = crop
            elif step.interleaved:
                np.multiply(crop, gain, out=wide)
                np.add(wide, offset, out=into)
            elif dtype is np.uint8:
                cv2.split(crop, list(into))
            else:
                cv2.split(crop, planes)
                for c in range(3):
                    if kind is None:
                        into[c] = cv2.addWeighted(
                            planes[c], gain[c], planes[c], 0, offset[c], dtype=cv2.CV_32F
                        )
                    else:
                        cv2.addWeighted(
                            planes[c], gain[c], planes[c], 0, offset[c], dst=into[c], dtype=kind
                        )

    return run, out


def measure(step: Step, count: int, rounds: int) -> dict[str, float | str]:
    """Milliseconds for an image, of both."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (8, step.source[0] // 8 + 1, step.source[1] // 8 + 1, 3), np.uint8)
    smooth = [cv2.resize(image, step.source[::-1]) for image in small]
    images = np.stack([smooth[k % len(smooth)] for k in range(count)])
    sides = {"gpuio": ours(step, images), "opencv": theirs(step, images)}
    times: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, (run, _) in sides.items():
            begin = time.process_time()
            run()
            if number:
                times[name].append((time.process_time() - begin) / count * 1000)
    mine, other = (out.astype(np.float32) for _, out in sides.values())
    levels = STD.min() if step.dtype in ("float32", "float16") else 1
    difference = float(np.abs(mine - other).max() * levels)
    ratios = [b / a for a, b in zip(times["gpuio"], times["opencv"], strict=True)]
    return {
        "step": step.name,
        **{name: round(median(values), 4) for name, values in times.items()},
        "times_faster": round(median(ratios), 2),
        "levels_apart": round(difference, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    parser.add_argument("--images", type=int, default=64, help="in a batch (default: 64)")
    parser.add_argument("--rounds", type=int, default=15, help="(default: 15)")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    rows = []
    print(
        f"{LARGE[0]} x {LARGE[1]} to {SMALL[0]} x {SMALL[1]} pixels, crop of {CROP} x {CROP}, RGB"
    )
    print(
        f"{'ms for an image on one core':38} {'gpuio':>8} {'OpenCV':>8} {'ratio':>7} {'levels':>7}"
    )
    for step in STEPS:
        row = measure(step, args.images, args.rounds)
        rows.append(row)
        print(
            f"{row['step']:38} {row['gpuio']:8.3f} {row['opencv']:8.3f} "
            f"{row['times_faster']:7.2f} {row['levels_apart']:7.2f}",
            flush=True,
        )
    if args.out:
        report = {"machine": machine.describe(), "opencv": cv2.__version__, "rows": rows}
        args.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
