"""Load a folder of images, with a folder for each class, by both iterators of MXNet.

    python examples/folders.py IMAGES OUT_DIR

IMAGES is a tree such as that of Caltech 101; `python examples/make_demo_images.py images` makes a
small one. Needs `pip install 'gpuio[cpu]'`.
"""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

import gpuio as mx
from gpuio.cli import main as gpuio

SHAPE: Final = (3, 224, 224)
BATCH: Final = 16
COLUMNS: Final = 4


def main() -> int:
    """Pack, load by both iterators, and save a picture of each first batch; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", metavar="IMAGES", type=Path, help="folder of folders")
    parser.add_argument("out_dir", metavar="OUT_DIR", type=Path, help="folder to write to")
    args = parser.parse_args()
    args.out_dir.mkdir(parents=True, exist_ok=True)
    prefix, root = str(args.out_dir / "train"), str(args.images)
    for command in (["im2rec", "--list", "--recursive", prefix, root], ["im2rec", prefix, root]):
        if status := gpuio(command):
            return status

    fast = mx.io.ImageRecordIter(
        path_imgrec=f"{prefix}.rec",
        path_imgidx=f"{prefix}.idx",
        data_shape=SHAPE,
        batch_size=BATCH,
        shuffle=True,
        resize=256,
        rand_crop=True,
        rand_mirror=True,
    )
    random.seed(0)
    flexible = mx.image.ImageIter(
        BATCH,
        SHAPE,
        path_imgrec=f"{prefix}.rec",
        path_imgidx=f"{prefix}.idx",
        shuffle=True,
        aug_list=[
            mx.image.ResizeAug(256),
            mx.image.RandomCropAug(SHAPE[:0:-1]),
            mx.image.HorizontalFlipAug(0.5),
        ],
    )
    for name, loader in (("ImageRecordIter", fast), ("ImageIter", flexible)):
        with loader:
            batch = next(loader)
        path = args.out_dir / f"{name}.png"
        tiled(batch.data[0].asnumpy()).save(path)
        print(f"{path}: labels {batch.label[0].asnumpy().astype(int).tolist()}")
    return 0


def tiled(batch: np.ndarray[Any, Any]) -> Image.Image:
    """(N, 3, H, W) pixels on one sheet."""
    rows = np.clip(batch, 0, 255).astype(np.uint8).transpose(0, 2, 3, 1)
    lines = [np.concatenate(rows[n : n + COLUMNS], axis=1) for n in range(0, len(rows), COLUMNS)]
    return Image.fromarray(np.concatenate(lines))


if __name__ == "__main__":
    sys.exit(main())
