"""gpuio.ImageRecordIter against the real one, pixel by pixel, with drawn parameters.

    python tests/compat/mxnet_conformance.py --mxnet-python /path/to/python-with-mxnet

Both load the same files: half of the parameter sets leave nothing to chance, the other half do,
and there gpuio replays what MXNet's generator gives (`mxnet_augmentation`) in place of its own.
Geometry must be the same to the last bit, float32 values to 1e-5, colours to one level. Prints
the largest difference by step, and the parameters where there is one that must not be. Floats are
multiples of 1/256: of others MXNet reads the text with an error in the last bit of float32.
Not collected by pytest: it needs MXNet 1.9.1, which in turn needs an old Python and NumPy.

Source of the order of draws: MXNet 1.9.1, src/io/image_aug_default.cc and iter_image_recordio_2.cc.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import subprocess
import sys
import tempfile
from collections import defaultdict
from itertools import permutations
from pathlib import Path

import numpy as np
from mxnet_random import F32, Engine

IMAGES = 18  # in each file
SEED_OFFSET = 111  # what MXNet adds to seed_aug and the number of the record
EIGENVALUES = (55.46, 4.794, 1.148)  # of the lighting noise
EIGENVECTORS = ((-0.5675, 0.7192, 0.4009), (-0.5808, -0.0045, -0.8140), (-0.5836, -0.6948, 0.4203))

# Which step a parameter belongs to.
STEPS = {
    "resize": ("resize",),
    "rotate": ("rotate", "rotate_list", "max_rotate_angle"),
    "shear": ("max_shear_ratio",),
    "scale": ("max_random_scale",),
    "size limits": ("min_img_size", "max_img_size"),
    "pad": ("pad",),
    "random place": ("rand_crop",),
    "square crop": ("max_crop_size",),
    "random resized crop": ("random_resized_crop",),
    "brightness, contrast, saturation": ("brightness", "contrast", "saturation"),
    "hue, lightness, saturation": ("random_h", "random_s", "random_l"),
    "lighting": ("pca_noise",),
    "mirror": ("mirror", "rand_mirror"),
    "mean, std, scale": ("mean_r",),
    "mean image": ("mean_img",),
    "gain and offset": ("max_random_contrast", "max_random_illumination"),
}
COLORS = ("brightness, contrast, saturation", "hue, lightness, saturation", "lighting")


# Pictures


def picture(rng, height, width, channels):
    """Waves, an edge and noise: smooth and sharp parts, as photographs have them."""
    y, x = np.mgrid[:height, :width]
    planes = []
    for _ in range(channels):
        a, b, phase = [*rng.uniform(4, 60, 2).tolist(), rng.uniform(0, 6)]
        plane = 128 + 100 * np.sin(x / a + y / b + phase)
        planes.append(np.where(x * a > y * b, plane, 255 - plane))
    noise = rng.normal(0, 8, (height, width, channels))
    return np.clip(np.stack(planes, axis=-1) + noise, 0, 255).astype(np.uint8)


def encoded(pixels, kind, **options):
    from PIL import Image

    file = io.BytesIO()
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    if options.pop("palette", False):
        image = image.quantize(64)
    image.save(file, kind, **options)
    return file.getvalue()


def make_files(folder):
    """Two .rec files: `color` of all kinds of images, `alpha` of PNGs with four channels.

    Returns:
        Heights and widths of the images, by name of the file.
    """
    from PIL import Image

    from gpuio.testing import write_rec

    turned = Image.Exif()
    turned[0x0112] = 6
    kinds = [
        (3, "JPEG", {"quality": 90}),
        (3, "PNG", {}),
        (3, "JPEG", {"quality": 75, "subsampling": 0}),
        (1, "JPEG", {"quality": 90}),
        (4, "PNG", {}),
        (3, "JPEG", {"quality": 95, "progressive": True}),
        (1, "PNG", {}),
        (3, "JPEG", {"quality": 80, "exif": turned}),
        (3, "PNG", {"palette": True}),
    ]
    rng = np.random.default_rng(0)
    sizes = {}
    for name in ("color", "alpha"):
        shapes = [(20, 30), (31, 20), (300, 400), (397, 302)]
        shapes += rng.integers(24, 260, (IMAGES - len(shapes), 2)).tolist()
        images, sizes[name] = [], []
        for number, (height, width) in enumerate(shapes):
            channels, kind, options = kinds[number % len(kinds)]
            if name == "alpha":
                channels, kind, options = 4, "PNG", {}
            images.append(encoded(picture(rng, height, width, channels), kind, **options))
            sizes[name].append((width, height) if "exif" in options else (height, width))
        write_rec(folder / f"{name}.rec", images)
    return sizes


# Parameters


def chance(rng, p):
    return rng.random() < p


def fraction(rng, low, high):
    """A multiple of 1/256."""
    return int(rng.integers(math.ceil(low * 256), high * 256)) / 256


def span(rng, low, high):
    """Two of them, in order."""
    return sorted(fraction(rng, low, high) for _ in range(2))


def draw_parameters(rng, random):
    """Parameters of one iterator; `random` ones, or ones that leave nothing to chance."""
    channels = int(rng.choice([3, 3, 3, 3, 1, 4]))
    p = {
        "data_shape": (channels, *rng.integers(12, 150, 2).tolist()),
        "inter_method": int(rng.choice([0, 1, 2, 3, 4, 9, *[10] * random])),
        "fill_value": int(rng.integers(0, 256)),
    }
    square = chance(rng, 0.2)
    whole = not square and chance(rng, 0.2 + 0.2 * random)  # random_resized_crop
    if square or chance(rng, 0.5):
        p["resize"] = int(rng.integers(20, 200))
    if p["inter_method"] != 0 and chance(rng, 0.6):
        p.update(draw_affine(rng, random, scales=not (square or whole)))
    if chance(rng, 0.3):
        p["pad"] = int(rng.integers(1, 30))
    if square:
        sides = sorted(rng.integers(8, p["resize"] + 1, 2).tolist())
        p["min_crop_size"], p["max_crop_size"] = sides if random else sides[:1] * 2
    elif whole:
        p["random_resized_crop"] = True
        if random:
            p["min_random_area"], p["max_random_area"] = span(rng, 0.05, 1.3)
            p["min_aspect_ratio"], p["max_aspect_ratio"] = span(rng, 0.5, 2)
    if random and not whole and chance(rng, 0.7):
        p["rand_crop"] = True
    p.update(draw_color(rng) if random and channels == 3 else {})
    p.update(draw_output(rng, random, p["data_shape"]))
    return p


def draw_affine(rng, random, scales):
    p = {}
    if random:
        turn = rng.integers(3)
        if turn == 0:
            p["max_rotate_angle"] = int(rng.integers(1, 180))
        elif turn == 1:
            p["rotate_list"] = ",".join(map(str, rng.integers(-180, 180, 3)))
        if chance(rng, 0.5):
            p["max_shear_ratio"] = fraction(rng, 0, 0.5)
        if scales and chance(rng, 0.5):
            p["min_random_scale"], p["max_random_scale"] = span(rng, 0.5, 1.6)
        if scales and chance(rng, 0.5):
            p["min_aspect_ratio"], p["max_aspect_ratio"] = span(rng, 0.5, 1.8)
        elif scales and chance(rng, 0.3):
            p["max_aspect_ratio"] = fraction(rng, 0, 0.6)
    else:
        if chance(rng, 0.6):
            p["rotate"] = int(rng.choice([1, 30, 45, 90, 137, 180, 270, rng.integers(1, 360)]))
        if scales and chance(rng, 0.5):
            scale = fraction(rng, 0.4, 1.7)
            p["min_random_scale"] = p["max_random_scale"] = scale
        if scales and chance(rng, 0.5):
            ratio = fraction(rng, 0.5, 1.8)
            p["min_aspect_ratio"] = p["max_aspect_ratio"] = ratio
    if scales and chance(rng, 0.3):
        p["max_img_size"] = int(rng.integers(60, 300))
    if scales and chance(rng, 0.3):
        p["min_img_size"] = int(rng.integers(20, 60))
    return p


def draw_color(rng):
    p = {}
    kind = rng.integers(5)
    if kind in (0, 3):
        for name in ("brightness", "contrast", "saturation"):
            if chance(rng, 0.7):
                p[name] = fraction(rng, 0.05, 0.9)
    if kind in (1, 3):
        for name, most in (("random_h", 90), ("random_s", 120), ("random_l", 120)):
            if chance(rng, 0.7):
                p[name] = int(rng.integers(1, most))
    if kind in (2, 3):
        p["pca_noise"] = fraction(rng, 0.05, 1)
    return p


def draw_output(rng, random, shape):
    p = {"dtype": str(rng.choice(["float32", "float32", "uint8", "int8"]))}
    if chance(rng, 0.4):
        p["rand_mirror" if random else "mirror"] = True
    if chance(rng, 0.2):
        p["mean_img"] = "mean-{}x{}x{}".format(*shape)
    if chance(rng, 0.5):
        for channel in "rgba":
            p[f"mean_{channel}"] = fraction(rng, 0, 255)
            p[f"std_{channel}"] = fraction(rng, 0.5, 80)
        p["scale"] = float(rng.choice([1, 0.017, 1 / 255, 3]))
    if random and p["dtype"] == "float32" and chance(rng, 0.3):
        p["max_random_contrast"] = fraction(rng, 0, 0.5)
        p["max_random_illumination"] = fraction(rng, 0, 50)
    return p


def draw_cases(count, seed):
    """Half without chance, half with."""
    rng = np.random.default_rng(seed)
    cases = []
    for number in range(count):
        random = number >= count // 2
        parameters = draw_parameters(rng, random)
        if random:
            parameters["seed_aug"] = int(rng.integers(0, 2**30))
        cases.append(parameters)
    return cases


def arguments_of(parameters, folder):
    """What both iterators are called with."""
    arguments = dict(parameters)
    name = "alpha" if parameters["data_shape"][0] == 4 else "color"
    arguments["path_imgrec"] = str(folder / f"{name}.rec")
    if "mean_img" in arguments:
        arguments["mean_img"] = str(folder / arguments["mean_img"])
    return {**arguments, "data_shape": tuple(parameters["data_shape"]), "batch_size": IMAGES}


def steps_of(parameters):
    """Names of what is on."""
    steps = [step for step, names in STEPS.items() if any(map(parameters.get, names))]
    if "max_aspect_ratio" in parameters and "random_resized_crop" not in parameters:
        steps.append("aspect ratio")
    warps = {"rotate", "shear", "scale", "aspect ratio", "size limits"} & {*steps}
    method = parameters["inter_method"]
    steps.append(f"{'warp and crop' if warps else 'no warp'}, inter_method {method}")
    channels = parameters["data_shape"][0]
    return [*steps, f"to {parameters['dtype']}", f"{channels} channel{'s' * (channels > 1)}"]


# What MXNet draws


def mxnet_augmentation(p, size):
    """What MXNet draws for every image, as a table that `ImageRecordIter.replay` takes.

    Args:
        p: Parameters.
        size: (height, width) of every image.
    """
    images = []
    for number, (height, width) in enumerate(size):
        engine = Engine(number + p["seed_aug"] + SEED_OFFSET)
        drawn = {"record": number}
        _draw_geometry(p, height, width, engine, drawn)
        _draw_color(p, engine, drawn)
        if p.get("rand_mirror"):
            drawn["mirror"] = engine.coin()
        gain, offset = (
            F32(p.get("max_random_contrast", 0)),
            F32(p.get("max_random_illumination", 0)),
        )
        drawn["gain"] = engine.unit() * gain * F32(2) - gain + F32(1)
        drawn["offset"] = engine.unit() * offset * F32(2) - offset
        images.append(drawn)
    names = {name: value for drawn in images for name, value in drawn.items()}
    return {
        name: np.array([drawn.get(name, np.zeros_like(value)) for drawn in images])
        for name, value in names.items()
    }


def _aspect(p):
    most = p.get("max_aspect_ratio", 0)
    least = p.get("min_aspect_ratio")
    return (F32(1) - F32(most), F32(1) + F32(most)) if least is None else (F32(least), F32(most))


def _draw_geometry(p, height, width, engine, drawn):
    anything = p["inter_method"] == 10
    whole = p.get("random_resized_crop", False)
    if "resize" in p:
        edge = p["resize"]
        tall = height > width
        height, width = (edge * height // width, edge) if tall else (edge, edge * width // height)
        if anything:
            drawn["resize_interpolation"] = engine.integer(0, 4)
    aspect = _aspect(p)
    scales = p.get("min_random_scale", 1), p.get("max_random_scale", 1)
    limits = p.get("min_img_size", 0), p.get("max_img_size", 1e10)
    turned = any(map(p.get, ("max_rotate_angle", "rotate", "rotate_list", "max_shear_ratio")))
    stretched = scales != (1, 1) or limits != (0, 1e10) or (not whole and aspect != (1, 1))
    if turned or stretched:
        shear, turn = F32(p.get("max_shear_ratio", 0)), p.get("max_rotate_angle", 0)
        drawn["shear"] = engine.unit() * shear * F32(2) - shear
        drawn["angle"] = engine.integer(-turn, turn)
        if "rotate" in p:
            drawn["angle"] = p["rotate"]
        if "rotate_list" in p:
            angles = p["rotate_list"].split(",")
            drawn["angle"] = int(angles[engine.integer(0, len(angles) - 1)])
        drawn["scale"] = drawn["aspect_ratio"] = F32(1)
        if not whole:
            low, high = map(F32, scales)
            drawn["scale"] = engine.unit() * (high - low) + low
            drawn["aspect_ratio"] = engine.unit() * (aspect[1] - aspect[0]) + aspect[0]
        low, high = map(F32, limits)
        height, width = (
            int(max(low, min(high, drawn["scale"] * F32(side)))) for side in (height, width)
        )
        if anything:
            drawn["warp_interpolation"] = engine.integer(0, 4)
    height, width = height + 2 * p.get("pad", 0), width + 2 * p.get("pad", 0)
    _draw_crop(p, height, width, engine, drawn, aspect)


def _draw_crop(p, height, width, engine, drawn, aspect):
    anything, goal = p["inter_method"] == 10, p["data_shape"][1:]
    area = p.get("min_random_area", 1), p.get("max_random_area", 1)
    if "max_crop_size" in p:
        side = drawn["crop_size"] = engine.integer(p["min_crop_size"], p["max_crop_size"])
        if p.get("rand_crop"):
            drawn["crop_y"] = engine.integer(0, height - side)
            drawn["crop_x"] = engine.integer(0, width - side)
        if anything:
            drawn["crop_interpolation"] = engine.integer(0, 4)
        return
    if p.get("random_resized_crop") and (area != (1, 1) or aspect != (1, 1)):
        for _ in range(10):
            part, ratio = engine.uniform(*area), engine.uniform(*aspect)
            swap = engine.unit()
            goal_area = F32(height * width) * part
            tall = math.floor(np.sqrt(goal_area / ratio) + 0.5)
            wide = math.floor(np.sqrt(goal_area * ratio) + 0.5)
            if swap > 0.5:
                tall, wide = wide, tall
            if tall <= height and wide <= width:
                drawn["crop_window"] = tall, wide
                drawn["crop_y"] = engine.integer(0, height - tall)
                drawn["crop_x"] = engine.integer(0, width - wide)
                if anything:
                    drawn["crop_interpolation"] = engine.integer(0, 4)
                return
    if anything:
        drawn["enlarge_interpolation"] = engine.integer(0, 4)
    if p.get("rand_crop"):
        if height < goal[0]:
            width = int(F32(goal[0]) / F32(height) * F32(width))
            height = goal[0]
        if width < goal[1]:
            height = int(F32(goal[1]) / F32(width) * F32(height))
            width = goal[1]
        drawn["crop_y"] = engine.integer(0, height - goal[0])
        drawn["crop_x"] = engine.integer(0, width - goal[1])


def _draw_color(p, engine, drawn):
    jitter = ("brightness", "contrast", "saturation")
    if any(p.get(name, 0) > 0 for name in jitter):
        for name in jitter:
            drawn[name] = F32(1) + engine.uniform(-p.get(name, 0), p.get(name, 0))
        orders = list(permutations(range(3)))
        drawn["jitter_order"] = orders.index(tuple(engine.shuffled(3)))
    if any(map(p.get, ("random_h", "random_s", "random_l"))):
        shifts = (("hue", "random_h"), ("color_saturation", "random_s"), ("lightness", "random_l"))
        for name, key in shifts:
            unit = (engine.unit() + F32(4) * engine.unit()) / F32(5)
            most = F32(p.get(key, 0))
            drawn[name] = int(unit * most * F32(2) - most)
    if p.get("pca_noise", 0) > 0:
        (red, green), (blue, _) = engine.normals(), engine.normals()
        noise = np.array([red, green, blue], F32) * F32(p["pca_noise"])
        terms = np.array(EIGENVECTORS, F32) * np.array(EIGENVALUES, F32) * noise
        drawn["lighting"] = terms[:, 0] + terms[:, 1] + terms[:, 2]


# Both sides


def run_mxnet(folder):
    """What MXNet makes of every case: an array, or the text of its error."""
    np.bool = bool  # MXNet 1.9.1 still asks for it
    import mxnet

    for number, parameters in enumerate(json.loads((folder / "cases.json").read_text())):
        path = folder / f"{number}.npy"
        try:
            batches = mxnet.io.ImageRecordIter(
                preprocess_threads=1, verbose=False, **arguments_of(parameters, folder)
            )
            np.save(path, batches.next().data[0].asnumpy())
        except mxnet.MXNetError as error:
            path.with_suffix(".txt").write_text(str(error).strip().splitlines()[0])


def run_gpuio(parameters, folder, sizes, decoder):
    """What gpuio makes of one case."""
    import gpuio

    arguments = arguments_of(parameters, folder)
    with gpuio.ImageRecordIter(decoder=decoder, **arguments) as batches:
        if "seed_aug" not in parameters:
            return batches.next().data[0].asnumpy()
        name = "alpha" if parameters["data_shape"][0] == 4 else "color"
        augmentation = mxnet_augmentation(parameters, sizes[name])
        return batches.replay(augmentation).data[0].asnumpy()


def difference(got, expected, parameters):
    """Largest difference in levels of the picture, and relative to the value."""
    if parameters["dtype"] != "float32":
        return np.abs(got.astype(int) - expected.astype(int)).max(), 0
    std = [parameters.get(f"std_{channel}", 1) for channel in "rgba"[: got.shape[1]]]
    gain = (1 + parameters.get("max_random_contrast", 0)) * parameters.get("scale", 1)
    level = gain / np.array(std).reshape(-1, 1, 1)
    apart = np.abs(got.astype(np.float64) - expected)
    return (apart / level).max(), (apart / np.maximum(np.abs(expected), level)).max()


def compare(cases, folder, sizes, decoder):
    """The largest differences by step, and what must not be."""
    table, wrong = defaultdict(list), []
    for number, parameters in enumerate(cases):
        path = folder / f"{number}.npy"
        if not path.exists():
            wrong.append(f"MXNet refuses {parameters}: {path.with_suffix('.txt').read_text()}")
            continue
        got = run_gpuio(parameters, folder, sizes, decoder)
        levels, relative = difference(got, np.load(path), parameters)
        steps = steps_of(parameters)
        colors = [step for step in COLORS if step in steps]
        exact = levels < 0.5
        if not (relative <= 1e-5 and exact) and not (colors and levels <= 1 + 1e-3):
            wrong.append(f"{levels:.4g} levels, relative {relative:.2g}: {parameters}")
        for step in [*steps, "all with colours" if colors else "all without colours"]:
            table[step].append((levels, relative if exact else 0.0))
    return table, wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mxnet-python", required=True, help="interpreter that can import mxnet")
    parser.add_argument("--cases", type=int, default=400, help="sets of parameters")
    parser.add_argument("--seed", type=int, default=0, help="of the parameters")
    parser.add_argument("--decoder", default="auto", help="gpuio's")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        run_mxnet(options.inside)
        return 0
    from gpuio.formats import saved_array

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sizes, cases = make_files(folder), draw_cases(options.cases, options.seed)
        rng = np.random.default_rng(1)
        for parameters in cases:
            if "mean_img" in parameters:
                mean = rng.uniform(0, 255, parameters["data_shape"]).astype(F32)
                saved_array.save(folder / parameters["mean_img"], {"mean_img": mean})
        (folder / "cases.json").write_text(json.dumps(cases))
        command = [options.mxnet_python, __file__, "--mxnet-python", "", "--inside", folder]
        subprocess.run(command, check=True)
        table, wrong = compare(cases, folder, sizes, options.decoder)
    print(f"{'step':36} {'cases':>5} {'equal':>5} {'levels':>9} {'relative':>9}")
    for step, found in sorted(table.items()):
        levels, relative = np.array(found, float).T
        row = (len(levels), (levels == 0).sum(), levels.max(), relative.max())
        print("{:36} {:5} {:5} {:9.2g} {:9.2g}".format(step, *row))
    print("\n".join(wrong))
    print(f"{len(wrong)} of {len(cases)} cases differ")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
