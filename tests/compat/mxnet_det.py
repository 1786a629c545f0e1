"""gpuio.ImageDetRecordIter against the real one: pixels and labels, with drawn parameters.

    python tests/compat/mxnet_det.py --mxnet-python /path/to/python-with-mxnet

Both load the same files. Half of the parameter sets leave nothing to chance; for the others
`mxnet_draws` draws what MXNet's generator draws, and gpuio replays that. Labels must be the same to
the last bit, and so must pixels be, but for colours, which may differ by a few levels where they
are enlarged; float32 values to 1e-5. Where a picture does not fill the output, MXNet leaves what
was there, which is not compared. Not collected by pytest: it needs MXNet 1.9.1, and that an old
Python.

Source of the order of draws: MXNet 1.9.1, src/io/image_det_aug_default.cc.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import subprocess
import sys
import tempfile
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
from mxnet_random import F32, Engine

IMAGES = 16  # in each file
SEED = 233  # of MXNet's only thread
SEVERAL = ("scales", "aspect_ratios", "overlaps", "sample_coverages", "object_coverages")


def picture(rng, height, width, channels):
    """Waves, an edge and noise: smooth and sharp parts, as photographs have them."""
    y, x = np.mgrid[:height, :width]
    planes = []
    for _ in range(channels):
        a, b = rng.uniform(4, 60, 2)
        plane = 128 + 100 * np.sin(x / a + y / b)
        planes.append(np.where(x * a > y * b, plane, 255 - plane))
    noise = rng.normal(0, 8, (height, width, channels))
    return np.clip(np.stack(planes, axis=-1) + noise, 0, 255).astype(np.uint8)


def make_files(folder):
    """`color.rec` and `alpha.rec`, and a list with other labels; sizes of the images by name."""
    from PIL import Image

    from gpuio.testing import write_rec

    rng = np.random.default_rng(0)
    sizes = {}
    for name, channels in (("color", 3), ("alpha", 4)):
        sizes[name] = rng.integers(40, 240, (IMAGES, 2)).tolist()
        images = []
        for number, (height, width) in enumerate(sizes[name]):
            file = io.BytesIO()
            kind = "JPEG" if channels == 3 and number % 2 else "PNG"
            Image.fromarray(picture(rng, height, width, channels)).save(file, kind)
            images.append(file.getvalue())
        write_rec(folder / f"{name}.rec", images, labels=[label(rng) for _ in images])
    lines = [f"{n}\t" + "\t".join(map(str, label(rng).tolist())) + "\tx\n" for n in range(IMAGES)]
    (folder / "other.lst").write_text("".join(lines))
    return sizes


def label(rng):
    """One to six objects, one in eight of them empty, with headers and objects of some width."""
    count, extra, header = rng.integers(1, 7), rng.integers(0, 3), rng.integers(0, 4)
    start = rng.integers(0, 48, (count, 2))
    size = rng.integers(4, 40, (count, 2)) * (rng.random((count, 1)) > 1 / 8)
    edges = np.concatenate([start, np.minimum(start + size, 64)], axis=1) / 64
    objects = np.concatenate(
        [rng.integers(0, 20, (count, 1)), edges, rng.integers(0, 9, (count, extra))], axis=1
    )
    head = [2 + header, 5 + extra, *rng.integers(0, 99, header)]
    return np.concatenate([head, objects.ravel()]).astype(F32)


# Parameters


def fraction(rng, low, high):
    """A multiple of 1/64: its text is read alike by all."""
    return float(rng.integers(math.ceil(low * 64), int(high * 64) + 1)) / 64


def span(rng, low, high):
    """Two different numbers in order."""
    while True:
        a, b = sorted((fraction(rng, low, high), fraction(rng, low, high)))
        if a < b:
            return a, b


def draw_parameters(rng, random):
    channels = int(rng.choice([3, 3, 3, 1, 4]))
    p = {
        "data_shape": (channels, *rng.integers(16, 150, 2).tolist()),
        "inter_method": int(rng.choice([1, 2, 3, 4, 9, *[10] * random])),
        "resize_mode": str(rng.choice(["force", "shrink", "fit"])),
    }
    if rng.random() < 0.5:
        p["resize"] = int(rng.integers(30, 200))
    if rng.random() < 0.5:
        p["rand_mirror_prob"] = fraction(rng, 0.2, 0.8) if random else 1.0
    if random and rng.random() < 0.5:
        p["rand_pad_prob"] = fraction(rng, 0.3, 1)
        p["max_pad_scale"], p["fill_value"] = fraction(rng, 1.1, 3), int(rng.integers(0, 256))
    if random and rng.random() < 0.7:
        p.update(draw_crops(rng))
    if random and rng.random() < 0.3:
        p["max_random_contrast"], p["random_contrast_prob"] = fraction(rng, 0.1, 0.9), 0.5
        if channels == 3 and rng.random() < 0.5:
            for name, most in (("hue", 90), ("saturation", 120), ("illumination", 120)):
                p[f"max_random_{name}"] = int(rng.integers(1, most))
                p[f"random_{name}_prob"] = fraction(rng, 0, 1)
    if rng.random() < 0.4:
        for channel in "rgba":
            p[f"mean_{channel}"] = fraction(rng, -20, 255)
            p[f"std_{channel}"] = float(rng.choice([0, fraction(rng, 0.5, 80)]))
        p["scale"] = float(rng.choice([1, 0.25, 3]))
    if rng.random() < 0.2:
        p["path_imglist"] = "other.lst"
    if rng.random() < 0.3:
        p["label_pad_width"], p["label_pad_value"] = 60, 7.5
    return p


def draw_crops(rng):
    count = int(rng.choice([1, 2, 3]))
    p = {"rand_crop_prob": fraction(rng, 0.3, 1), "num_crop_sampler": count}
    for name, (low, high) in zip(
        SEVERAL, [(0.25, 1), (0.5, 2), (0, 1), (0, 1), (0, 1)], strict=True
    ):
        if rng.random() < 0.6:
            pairs = [span(rng, low, high) for _ in range(count)]
            if name.endswith(("overlaps", "coverages")):
                pairs = [(a / 4, b) if rng.random() < 0.7 else (a / 4, 1.0) for a, b in pairs]
            p[f"min_crop_{name}"], p[f"max_crop_{name}"] = map(list, zip(*pairs, strict=True))
    if "min_crop_scales" not in p:
        p["min_crop_scales"], p["max_crop_scales"] = [0.25] * count, [1.0] * count
    p["max_crop_trials"] = rng.integers(1, 30, count).tolist()
    p["crop_emit_mode"] = str(rng.choice(["center", "overlap"]))
    p["emit_overlap_thresh"] = fraction(rng, 0, 0.6)
    return p


def arguments_of(parameters, folder):
    """What both iterators are called with."""
    arguments = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in parameters.items()
    }
    name = "alpha" if parameters["data_shape"][0] == 4 else "color"
    arguments["path_imgrec"] = str(folder / f"{name}.rec")
    if "path_imglist" in arguments:
        arguments["path_imglist"] = str(folder / arguments["path_imglist"])
    return {**arguments, "batch_size": IMAGES}


# What MXNet draws


def mxnet_draws(p, plan, sizes, labels):
    """What every image gets from MXNet, by name of gpuio's augmentation.

    Args:
        p: Parameters.
        plan: gpuio's plan of them.
        sizes: (height, width) of every image.
        labels: Labels of every image.
    """
    from gpuio.transforms.object_crop import CropObjects

    crops = next((op for op in plan.ops if isinstance(op, CropObjects)), None)
    chance, rows = Engine(SEED), []
    for size, row in zip(sizes, labels, strict=True):
        rows.append(_draw_image(p, crops, size, row, chance))
    names = {name for row in rows for name in row}
    return {name: np.array([row[name] for row in rows]) for name in names}


def _draw_image(p, crops, size, label, chance):
    from gpuio.kernels.objects import drop_empty, mirror_objects, project_objects

    (height, width), drawn = size, {}
    anything = p["inter_method"] == 10
    labels, widths = label[None].copy(), np.array([len(label)])
    drop_empty(labels, widths)
    if "resize" in p:
        if anything:
            drawn["resize_interpolation"] = chance.integer(0, 4)
        edge = p["resize"]
        height, width = (
            (edge * height // width, edge) if height > width else (edge, edge * width // height)
        )
    names = {"hue": "hue", "saturation": "color_saturation", "illumination": "lightness"}
    if any(p.get(f"random_{name}_prob", 0) > 0 for name in (*names, "contrast")):
        shifts = {
            name: chance.uniform(-1, 1) * F32(p.get(f"max_random_{name}", 0))
            for name in (*names, "contrast")
        }
        for name, shift in shifts.items():
            on = chance.unit() < F32(p.get(f"random_{name}_prob", 0))
            value = shift if name == "contrast" else int(shift)
            drawn[names.get(name, name)] = value if on else 0
    if p.get("rand_mirror_prob", 0) > 0:
        drawn["mirror"] = chance.unit() < F32(p["rand_mirror_prob"])
        mirror_objects(labels, widths, np.array([drawn["mirror"]]))
    if p.get("rand_pad_prob", 0) > 0:
        drawn["pad_box"] = np.zeros(3, F32)
        if chance.unit() < F32(p["rand_pad_prob"]):
            scale = chance.uniform(1, p["max_pad_scale"])
            if scale >= F32(1.05):
                x, y = (chance.uniform(0, scale - F32(1)) for _ in range(2))
                drawn["pad_box"] = np.array([scale, x, y])
                project_objects(labels, widths, np.array([[-x, -y, scale, scale]], F32))
                sides = (F32(side) for side in (y, scale - y - F32(1), x, scale - x - F32(1)))
                lengths = zip(sides, (height, height, width, width), strict=True)
                borders = [int(part * F32(side)) for part, side in lengths]
                height, width = height + sum(borders[:2]), width + sum(borders[2:])
    if crops is not None:
        drawn["crop_box"] = np.zeros(4, F32)
        if chance.unit() < F32(p["rand_crop_prob"]):
            drawn["crop_box"] = _draw_crop(crops, F32(width) / F32(height), labels, widths, chance)
    if anything and _resizes(p, drawn, height, width):
        drawn["crop_interpolation"] = chance.integer(0, 4)
    elif anything:
        drawn["crop_interpolation"] = 1
    return drawn


def _draw_crop(crops, aspect, labels, widths, chance):
    from gpuio.kernels.objects import CENTER, OVERLAP, draw_crop, suits
    from gpuio.transforms.object_crop import table

    samplers, box = table(crops.samplers), np.zeros(4, F32)
    mode, threshold = OVERLAP if crops.emit == "overlap" else CENTER, F32(crops.threshold)
    for which in chance.shuffled(len(samplers)):
        for _ in range(samplers[which]["trials"]):
            draw_crop(np.array([chance.unit() for _ in range(4)]), samplers[which], aspect, box)
            if suits(labels[0], widths[0], box, samplers[which], mode, threshold):
                return box
    return np.zeros(4, F32)


def _resizes(p, drawn, height, width):
    """Whether MXNet asks for an interpolation at the end."""
    if p["resize_mode"] != "shrink":
        return True
    _, _, wide, high = drawn.get("crop_box", np.zeros(4))
    if wide > 0:
        height, width = int(F32(high) * F32(height)), int(F32(wide) * F32(width))
    return height > p["data_shape"][1] or width > p["data_shape"][2]


# Both sides


def run_mxnet(folder):
    """What MXNet makes of every case: arrays, or the text of its error."""
    np.bool = bool  # MXNet 1.9.1 still asks for it
    import mxnet

    for number, parameters in enumerate(json.loads((folder / "cases.json").read_text())):
        path = folder / f"{number}.npz"
        try:
            batches = mxnet.io.ImageDetRecordIter(
                preprocess_threads=1, verbose=False, **arguments_of(parameters, folder)
            )
            batch = batches.next()
            np.savez(path, data=batch.data[0].asnumpy(), label=batch.label[0].asnumpy())
        except mxnet.MXNetError as error:
            path.with_suffix(".txt").write_text(str(error).strip().splitlines()[-1])


def labels_of(parameters, folder):
    from gpuio.formats.image_list import ImageList
    from gpuio.formats.image_record import unpack
    from gpuio.formats.recordio import RecordFile
    from gpuio.sources.recordio.source import RecordIOSource

    arguments = arguments_of(parameters, folder)
    if "path_imglist" in arguments:
        lines = ImageList.load(arguments["path_imglist"])
        return [lines.values[a:b] for a, b in pairwise(lines.starts)]
    dataset = RecordIOSource.open(arguments["path_imgrec"])
    with RecordFile(arguments["path_imgrec"]) as file:
        return [unpack(file.read(int(at))[0])[0].label for at in dataset.table.offsets]


def run_gpuio(parameters, folder, sizes, decoder):
    import gpuio

    with gpuio.ImageDetRecordIter(decoder=decoder, **arguments_of(parameters, folder)) as batches:
        name = "alpha" if parameters["data_shape"][0] == 4 else "color"
        labels = labels_of(parameters, folder)
        drawn = mxnet_draws(parameters, batches.plan, sizes[name], labels)
        batch = batches.replay({"record": np.arange(IMAGES), **drawn})
        return batch.data[0].asnumpy(), batch.label[0].asnumpy()


def compare(parameters, got, expected):
    """What differs, and the largest difference of the colours in levels."""
    (data, label), (data0, label0) = got, (expected["data"], expected["label"])
    if label.shape != label0.shape or not (label == label0).all():
        return "labels", 0
    std = np.array([parameters.get(f"std_{c}", 0) for c in "rgba"[: data.shape[1]]])
    level = parameters.get("scale", 1) / np.where(std > 0, std, 1)
    worst = relative = 0
    for image, image0, (_, rows, cols, *_) in zip(data, data0, label.astype(int), strict=True):
        apart = np.abs(image - image0)[:, :rows, :cols].astype(np.float64)
        size = np.maximum(np.abs(image0[:, :rows, :cols]), level[:, None, None])
        worst = max(worst, (apart / level[:, None, None]).max())
        relative = max(relative, (apart / size).max())
    colors = any(name.startswith("max_random") for name in parameters)
    return "pixels" if worst > 4 or (relative > 1e-5 and not colors) else "", worst


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mxnet-python", required=True, help="interpreter that can import mxnet")
    parser.add_argument("--cases", type=int, default=300, help="sets of parameters")
    parser.add_argument("--seed", type=int, default=0, help="of the parameters")
    parser.add_argument("--decoder", default="auto", help="gpuio's")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        run_mxnet(options.inside)
        return 0
    rng = np.random.default_rng(options.seed)
    cases = [draw_parameters(rng, number % 2 == 1) for number in range(options.cases)]
    found, worst, wrong = Counter(), 0, []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sizes = make_files(folder)
        (folder / "cases.json").write_text(json.dumps(cases))
        command = [options.mxnet_python, __file__, "--mxnet-python", "", "--inside", folder]
        subprocess.run(command, check=True)
        for number, parameters in enumerate(cases):
            path = folder / f"{number}.npz"
            if not path.exists():
                wrong.append(f"MXNet: {path.with_suffix('.txt').read_text()}: {parameters}")
                continue
            got = run_gpuio(parameters, folder, sizes, options.decoder)
            what, levels = compare(parameters, got, np.load(path))
            found["exact" if levels < 1e-3 else "to a few levels"] += not what
            worst = max(worst, levels)
            if what:
                wrong.append(f"{what} differ, by {levels:.4g} levels: {parameters}")
    print("\n".join(wrong))
    counts = ", ".join(f"{count} {name}" for name, count in sorted(found.items()))
    print(f"equal: {counts}; largest difference {worst:.3g} levels; {len(wrong)} differ")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
