"""Make a data set from photographs: list them, pack them, load an epoch and draw a batch.

    python examples/demo.py demo

Everything is written to the folder given. Needs `pip install 'gpuio[demo]'`; nothing is downloaded.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from tqdm import tqdm

import gpuio

BATCH: Final = 64
SHAPE: Final = (3, 224, 224)
SHORTER_EDGE: Final = 256  # pixels
MEAN: Final = (123.68, 116.779, 103.939)  # of ImageNet, for red, green, blue
STD: Final = (58.393, 57.12, 57.375)


def main() -> int:
    """Run the demo; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out_dir", metavar="OUT_DIR", type=Path, help="folder to write to")
    parser.add_argument("--count", type=int, default=600, help="number of images (default: 600)")
    args = parser.parse_args()
    images, prefix = args.out_dir / "images", args.out_dir / "photos"
    rec, sheet = f"{prefix}.rec", args.out_dir / "sheet.png"

    say("Cut images out of photographs that come with Python packages")
    maker = Path(__file__).with_name("make_demo_images.py")
    call(sys.executable, str(maker), str(images), "--count", str(args.count))
    say("List them; each folder is a class")
    call("gpuio", "im2rec", "--list", "--recursive", str(prefix), str(images))
    say("Pack them into a .rec and a .idx")
    call("gpuio", "im2rec", str(prefix), str(images))
    say("Load one epoch in random order, resized, cropped, mirrored and normalized")
    load(rec, f"{prefix}.idx")
    say("Draw what a training loop sees")
    augmentation = ["--shuffle", "--resize", str(SHORTER_EDGE), "--rand-crop", "--rand-mirror"]
    call("gpuio", "show", rec, "-o", str(sheet), *augmentation)

    print(f"\nDone. Look at {sheet}. Next, try:")
    print(f"  {Path(sys.executable).parent}/gpuio info {rec}")
    print(f"  {Path(sys.executable).parent}/gpuio bench {rec} {' '.join(augmentation)}")
    return 0


def load(rec: str, idx: str) -> None:
    """Load an epoch as a training loop does, and print how fast that was."""
    start = time.perf_counter()
    with gpuio.ImageRecordIter(
        rec,
        SHAPE,
        BATCH,
        path_imgidx=idx,
        shuffle=True,
        resize=SHORTER_EDGE,
        rand_crop=True,
        rand_mirror=True,
        **dict(zip(("mean_r", "mean_g", "mean_b"), MEAN, strict=True)),
        **dict(zip(("std_r", "std_g", "std_b"), STD, strict=True)),
    ) as loader:
        next(loader)
        took = time.perf_counter() - start
        print(f"first batch after {took:.1f} s (kernels are compiled once, then kept on disk)")
        loader.hard_reset()
        seen = 0
        start = time.perf_counter()
        with tqdm(total=loader.num_records, unit=" images") as bar:
            for batch in loader:
                own = BATCH - batch.pad  # the last batch is filled up with repeats
                seen += own
                bar.update(own)
        rate = seen / (time.perf_counter() - start)
        threads = loader.stats()["threads"]
    print(f"{seen} images at {rate:.0f} images/s, on {threads} CPU threads")
    shape, labels = batch.data[0].shape, batch.label[0].astype(int).tolist()
    print(f"last batch: shape {shape}, mean {batch.data[0].mean():.3f}, first labels {labels[:8]}")


def say(text: str) -> None:
    """Print a heading."""
    print(f"\n== {text}", flush=True)


def call(program: str, *arguments: str) -> None:
    """Run a command and show it. `gpuio` is run as a module, so that it need not be on the path."""
    shown = "python" if program == sys.executable else program
    print(f"$ {shlex.join([shown, *arguments])}", flush=True)
    command = [sys.executable, "-m", "gpuio"] if program == "gpuio" else [program]
    subprocess.run([*command, *arguments], check=True)


if __name__ == "__main__":
    sys.exit(main())
