"""Compare `gpuio im2rec` with mxnet's im2rec.py on drawn images. Not a test that pytest collects.

    python tests/compat/mxnet_im2rec.py --mxnet-python /path/to/an/environment/bin/python

That interpreter needs mxnet 1.9.1 and opencv-python. Lists, and .rec and .idx from JPEGs, must be
equal byte for byte; from PNGs, pixels, labels and keys must be.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from gpuio.cli import main as gpuio
from gpuio.formats.codec import imdecode
from gpuio.formats.image_record import unpack
from gpuio.formats.index import Index
from gpuio.formats.recordio import RecordFile

LISTS = [
    [],
    ["--recursive"],
    ["--recursive", "--no-shuffle"],
    ["--recursive", "--exts", ".png"],
    ["--recursive", "--chunks", "3"],
    ["--recursive", "--chunks", "5"],
    ["--recursive", "--train-ratio", "0.7"],
    ["--recursive", "--train-ratio", "0.6", "--test-ratio", "0.4"],
    ["--recursive", "--train-ratio", "0.5", "--test-ratio", "0.2", "--chunks", "2"],
    ["--recursive", "--train-ratio", "1", "--test-ratio", "0.2"],
    ["--recursive", "--train-ratio", "0", "--test-ratio", "0.5"],
]
PACKS = [
    ["--pass-through"],
    ["--pass-through", "--pack-label"],
    [],
    ["--pack-label"],
    ["--num-thread", "3"],
    ["--quality", "50"],
    ["--resize", "64"],
    ["--resize", "300"],
    ["--center-crop"],
    ["--center-crop", "--resize", "50"],
    ["--color", "0", "--resize", "70"],
    ["--color", "-1"],
    ["--color", "-1", "--encoding", ".png"],
    ["--encoding", ".png", "--quality", "3", "--resize", "64"],
]


def draw(root: Path) -> None:
    """A tree of small images: gray, alpha, palette, CMYK, all EXIF orientations."""
    rng = np.random.default_rng(0)
    for number in range(40):
        height, width = rng.integers(40, 200, 2)
        y, x = np.mgrid[:height, :width]
        waves = [128 + 110 * np.sin(x / rng.uniform(3, 30) + y / rng.uniform(3, 30))] * 3
        noise = rng.normal(0, 9, (height, width, 3))
        pixels = np.clip(np.stack(waves, -1) + noise, 0, 255).astype(np.uint8)
        folder = root / ("", "cats", "cats/old", "dogs")[number % 4]
        folder.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(pixels)
        exif = Image.Exif()
        if number % 3 == 0:
            exif[0x0112] = number % 8 + 1
        kind = ("RGB", "RGB", "L", "CMYK", "RGB")[number % 5]
        picture.convert(kind).save(folder / f"{number}.JPG", exif=exif, quality=85)
        kind = ("RGB", "RGBA", "L", "P", "LA")[number % 5]
        picture.convert(kind).save(folder / f"{number}.png")
    (root / "notes.txt").write_text("no image")


def mxnet_im2rec(python: str, *arguments: str | Path) -> str:
    """Run mxnet's script; what it prints."""
    code = "import mxnet, pathlib; print(pathlib.Path(mxnet.__file__).parent / 'tools/im2rec.py')"
    script = subprocess.check_output([python, "-c", code], text=True).split()[-1]
    return subprocess.check_output([python, script, *map(str, arguments)], text=True)


def compare_lists(python: str, images: Path, work: Path, options: list[str]) -> str | None:
    """What differs between the lists that both make, if anything."""
    theirs, ours = work / "theirs", work / "ours"
    for folder in (theirs, ours):
        folder.mkdir()
    mxnet_im2rec(python, "--list", theirs / "data", images, *options)
    if gpuio(["im2rec", "--list", str(ours / "data"), str(images), *options]):
        return "gpuio failed"
    names = [sorted(path.name for path in folder.iterdir()) for folder in (theirs, ours)]
    if names[0] != names[1]:
        return f"files {names[0]} and {names[1]}"
    different = [n for n in names[0] if (theirs / n).read_bytes() != (ours / n).read_bytes()]
    return f"content of {different}" if different else None


def compare_packs(
    python: str, images: Path, listing: str, work: Path, options: list[str]
) -> str | None:
    """What differs between the records that both pack from `listing`, if anything."""
    bases = [work / name / "data" for name in ("theirs", "ours")]
    for base in bases:
        base.parent.mkdir()
        base.with_suffix(".lst").write_text(listing)
    mxnet_im2rec(python, bases[0], images, *options)
    status = gpuio(["im2rec", str(bases[1]), str(images), *options])
    if status:
        return f"gpuio gave {status}"
    if ".png" in options:
        return _compare_pixels(*bases)
    different = [
        s for s in (".rec", ".idx") if len({b.with_suffix(s).read_bytes() for b in bases}) > 1
    ]
    return f"bytes of {different}" if different else None


def _compare_pixels(*bases: Path) -> str | None:
    indices = [Index.load(base.with_suffix(".idx")) for base in bases]
    if indices[0].keys.tolist() != indices[1].keys.tolist():
        return "keys"
    files = [RecordFile(base.with_suffix(".rec")) for base in bases]
    for row, key in enumerate(indices[0].keys.tolist()):
        records = [
            unpack(file.read(int(index.offsets[row]))[0])
            for file, index in zip(files, indices, strict=True)
        ]
        if records[0][0] != records[1][0]:
            return f"header of {key}"
        pixels = [imdecode(image, -1) for _, image in records]
        if not np.array_equal(*pixels):
            return f"pixels of {key}: {pixels[0].shape} and {pixels[1].shape}"
    return None


def listings(root: Path) -> tuple[str, str]:
    """Lists of the JPEGs and of all images, the latter with labels of several widths."""
    paths = sorted(path.relative_to(root) for path in root.rglob("*.*") if path.suffix != ".txt")
    lines = [f"{7 * i % 101}\t{i % 5}.000000\t{path}\n" for i, path in enumerate(paths)]
    wide = [
        f"{i}\t{i / 3:f}\t{path}\n" if i % 2 else f"{i}\t1.5\t-2\t{path}\n"
        for i, path in enumerate(paths)
    ]
    return "".join(line for line in lines if ".JPG" in line), "".join(wide)


def main() -> int:
    """Run all cases; 1 if any differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mxnet-python", required=True, help="interpreter that has mxnet")
    python = parser.parse_args().mxnet_python
    failures = 0
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "images"
        draw(images)
        jpegs, everything = listings(images)
        cases = [("list", options, None) for options in LISTS]
        cases += [("jpegs", options, jpegs) for options in PACKS]
        cases += [("all", options, everything) for options in PACKS]
        for number, (name, options, listing) in enumerate(cases):
            work = Path(folder) / str(number)
            work.mkdir()
            if listing is None:
                different = compare_lists(python, images, work, options)
            else:
                different = compare_packs(python, images, listing, work, options)
            failures += different is not None
            print(f"{name} {' '.join(options)}: {different or 'equal'}", flush=True)
    print(f"{failures} of {len(cases)} cases differ")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
