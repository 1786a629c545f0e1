"""Make a folder of images to try gpuio with, cut out of photographs in Python packages.

    python examples/make_demo_images.py images --count 600
    gpuio im2rec --list --recursive demo images
    gpuio im2rec demo images

Each photograph is a class, and a folder. The pieces are the same on every run. Needs
`pip install 'gpuio[demo]'`; nothing is downloaded.

Photographs: scikit-image, released into the public domain or under CC0 by NASA (astronaut,
hubble_deep_field), S. van der Walt (chelsea), R. Michetti (coffee), M. Häggström (retina) and
SpaceX (rocket); scikit-learn, under CC BY 2.0 by danielbuechele (china) and vultilion (flower).
"""

from __future__ import annotations

import argparse
import sys
from importlib.resources import files
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

PHOTOGRAPHS: Final = (
    ("skimage.data", "astronaut.png"),
    ("skimage.data", "chelsea.png"),
    ("skimage.data", "coffee.png"),
    ("skimage.data", "hubble_deep_field.jpg"),
    ("skimage.data", "retina.jpg"),
    ("skimage.data", "rocket.jpg"),
    ("sklearn.datasets.images", "china.jpg"),
    ("sklearn.datasets.images", "flower.jpg"),
)
ASPECTS: Final = (4 / 3, 4 / 3, 3 / 2, 3 / 4, 2 / 3, 1, 16 / 9)
SIDES: Final = (150, 500)  # pixels
QUALITY: Final = 90
SEED: Final = 0


def main() -> int:
    """Write the images; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out_dir", metavar="OUT_DIR", type=Path, help="folder to write to")
    parser.add_argument("--count", type=int, default=600, help="number of images (default: 600)")
    args = parser.parse_args()
    rng = np.random.default_rng(SEED)
    photographs = [load(package, name) for package, name in PHOTOGRAPHS]
    for number in range(args.count):
        photograph = number % len(PHOTOGRAPHS)
        folder = args.out_dir / Path(PHOTOGRAPHS[photograph][1]).stem
        folder.mkdir(parents=True, exist_ok=True)
        piece = cut(photographs[photograph], rng)
        piece.save(folder / f"{number:05}.jpg", quality=QUALITY)
    print(f"{args.out_dir}: {args.count} images in {len(PHOTOGRAPHS)} classes")
    return 0


def load(package: str, name: str) -> Image.Image:
    """A photograph from an installed package."""
    with files(package).joinpath(name).open("rb") as file:
        return Image.open(file).convert("RGB")


def cut(photograph: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A piece of `photograph`: random place, size and shape, half of them mirrored."""
    aspect = rng.choice(ASPECTS)
    longer = rng.integers(SIDES[0] * 16 // 9 + 1, SIDES[1], endpoint=True)
    size = np.array([longer, longer / aspect] if aspect >= 1 else [longer * aspect, longer])
    # Up to twice the size is cut out and shrunk, so that pieces differ in detail.
    scale = min(rng.uniform(1, 2), *(np.array(photograph.size) / size))
    margin = np.maximum(np.array(photograph.size) - scale * size, 0)
    left, top = (rng.random(2) * margin).tolist()
    right, bottom = np.minimum((left, top) + scale * size, photograph.size).tolist()
    shape = (int(size[0]), int(size[1]))
    piece = photograph.resize(shape, Image.Resampling.LANCZOS, box=(left, top, right, bottom))
    return piece.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else piece


if __name__ == "__main__":
    sys.exit(main())
