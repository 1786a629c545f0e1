"""gpuio im2rec: make lists of images, pack lists into .rec and .idx, as MXNet's im2rec.py."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from gpuio.cli import arguments
from gpuio.cli.progress import progress_bar
from gpuio.core.threads import available_cores
from gpuio.errors import FormatError
from gpuio.formats.image_list import ImageList
from gpuio.pack.listing import EXTENSIONS, find_images, find_lists, make_lists
from gpuio.pack.packing import PackOptions, PackReport, check_root, pack_list
from gpuio.pack.shards import pack_shards
from gpuio.storage.paths import is_url
from gpuio.storage.shards import beside

_SHARD: Final = 10_000  # images in a shard: one thread packs about as many in a minute

_EPILOG: Final = """\
With --list, PREFIX.lst (or its parts) is written. Without it, the lists of PREFIX are packed:
PREFIX.lst, PREFIX_train.lst, PREFIX_val.lst, PREFIX_test.lst and PREFIX_0.lst and so on, or every
list in PREFIX if that is a folder. With --num-shards or --ray each list becomes a set of shards,
PREFIX-00000-of-00128.rec and .idx and so on: neighbouring lines of the list, the same with and
without Ray. A set is read as one data set, by its pattern: "PREFIX-*.rec".

A JPEG that --baseline or --optimize cannot transcode, as it is damaged or coded in an unusual way,
is stored as it is and reported.

Exit status: 0 if all images were packed, 1 if some were left out because they cannot be read (each
is reported). 2 for wrong arguments, a missing folder or list, a list that cannot be parsed or of
which no image could be packed, and while another process writes the same files; old files stay.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _EPILOG
    parser.add_argument(
        "prefix",
        metavar="PREFIX",
        type=arguments.path,
        help="path or URL of the .lst, .rec and .idx, without these suffixes",
    )
    parser.add_argument("root", metavar="ROOT", type=arguments.path, help="folder of the images")
    _configure_lists(parser.add_argument_group("making lists"))
    _configure_packing(parser.add_argument_group("packing"))
    _configure_shards(parser.add_argument_group("packing in shards"))


def run(args: argparse.Namespace) -> int:
    """Make lists or pack them, and return the exit status."""
    if not is_url(args.prefix):
        args.prefix = os.path.abspath(args.prefix)  # noqa: PTH100  a Path would spoil a URL
    return _list(args) if args.list else _pack(args)


def _configure_lists(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--list", action="store_true", help="make lists; without it, pack them")
    group.add_argument(
        "--exts",
        nargs="+",
        default=list(EXTENSIONS),
        metavar="E",
        help=f"extensions of image files (default: {' '.join(EXTENSIONS)})",
    )
    group.add_argument("--chunks", type=int, default=1, metavar="N", help="number of lists")
    group.add_argument(
        "--train-ratio",
        type=float,
        default=1.0,
        metavar="R",
        help="share of the images for training, 0 to 1 (default: 1)",
    )
    group.add_argument(
        "--test-ratio",
        type=float,
        default=0.0,
        metavar="R",
        help="share of the images for testing; the rest is for validation (default: 0)",
    )
    group.add_argument(
        "--recursive",
        action="store_true",
        help="go into folders, label images by folder and print `folder label`; without it, take "
        "the files in ROOT and label them 0",
    )
    group.add_argument(
        "--no-shuffle",
        dest="shuffle",
        action="store_false",
        help="keep the order of names; without it, lists are shuffled, always to the same order",
    )


def _configure_packing(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--pass-through",
        action="store_true",
        help="store the files unchanged; of the options below, only --baseline, --optimize and "
        "--pack-label change anything then",
    )
    group.add_argument(
        "--baseline",
        action="store_true",
        help="with --pass-through: turn progressive JPEGs into baseline ones, which are faster to "
        "decode. Nothing is lost: coefficients, pixels and metadata stay the same",
    )
    group.add_argument(
        "--optimize",
        action="store_true",
        help="with --pass-through: make Huffman tables for each JPEG that is not progressive, "
        "where that saves bytes. Nothing is lost",
    )
    group.add_argument(
        "--resize",
        type=int,
        default=0,
        metavar="S",
        help="make the shorter side S pixels long (default: 0, leave it)",
    )
    group.add_argument(
        "--center-crop", action="store_true", help="cut a centred square, before resizing"
    )
    group.add_argument(
        "--quality",
        type=int,
        default=95,
        metavar="Q",
        help="quality of JPEG, 1 to 100; for PNG the compression level, 0 to 9, where 9 takes ten "
        "times as long as 3 (default: 95; 9 for PNG)",
    )
    group.add_argument(
        "--num-thread",
        type=int,
        metavar="T",
        help="threads; the result is the same for any number (default: all cores, "
        f"{available_cores()}; with --ray, 1 for each shard)",
    )
    group.add_argument(
        "--color",
        type=int,
        default=1,
        choices=(-1, 0, 1),
        help="1: colour, 0: gray, -1: as stored, with alpha (default: 1)",
    )
    group.add_argument(
        "--encoding",
        default=".jpg",
        choices=(".jpg", ".png"),
        help="format to store (default: .jpg)",
    )
    group.add_argument(
        "--overwrite",
        action="store_true",
        help="replace a .rec even by one with fewer than half of its images",
    )
    group.add_argument(
        "--pack-label",
        action="store_true",
        help="store all labels of a line; without it, the first",
    )


def _configure_shards(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--num-shards",
        type=int,
        metavar="N",
        help=f"cut each list into N shards (default: 1 file; with --ray, {_SHARD} images a shard)",
    )
    group.add_argument(
        "--ray",
        nargs="?",
        const="auto",
        metavar="ADDRESS",
        help="pack the shards on a Ray cluster: that of RAY_ADDRESS or of this machine, or the one "
        "at ADDRESS. ROOT and PREFIX must be the same on all its machines: shared folders, or "
        "URLs. Give it last, or as --ray=ADDRESS",
    )


def _list(args: argparse.Namespace) -> int:
    found = find_images(args.root, recursive=args.recursive, extensions=args.exts)
    if not found.paths:
        where = "under" if args.recursive else "directly in"
        hint = "" if args.recursive else "; --recursive goes into folders"
        raise FormatError(f"{args.root}: no {' '.join(args.exts)} files {where} it{hint}")
    for label, folder in enumerate(found.folders):
        print(folder, label)
    counts = make_lists(
        args.prefix,
        found,
        shuffle=args.shuffle,
        chunks=args.chunks,
        train_ratio=args.train_ratio,
        test_ratio=args.test_ratio,
    )
    for path, count in counts.items():
        print(f"{path}: {count} images", file=sys.stderr)
    lost = len(found.paths) - sum(counts.values())
    if lost:
        print(f"{lost} images are in no list: the ratios were rounded down", file=sys.stderr)
    return 0


def _pack(args: argparse.Namespace) -> int:
    for name in ("num_thread", "num_shards"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be at least 1, got {value}")
    options = PackOptions(
        pass_through=args.pass_through,
        baseline=args.baseline,
        optimize=args.optimize,
        center_crop=args.center_crop,
        resize=args.resize,
        color=args.color,
        encoding=args.encoding,
        quality=args.quality,
        pack_label=args.pack_label,
    )
    check_root(args.root)
    lists = find_lists(args.prefix)
    if not lists:
        hint = f"make one with: gpuio im2rec --list {args.prefix} {args.root}"
        raise FileNotFoundError(f"{args.prefix}.lst: no such list; {hint}")
    reports = [_pack_one(path, args, options) for path in lists]
    return 1 if any(report.skipped for report in reports) else 0


def _pack_one(path: str, args: argparse.Namespace, options: PackOptions) -> PackReport:
    start = time.perf_counter()
    images = ImageList.load(path)
    repeated = len(images) - len(set(images.ids.tolist()))
    if repeated:
        print(
            f"{path}: {repeated} of {len(images)} lines repeat an id, so the keys of the index "
            "will not be unique: readers by key find one record for each",
            file=sys.stderr,
        )
    pack, count = _packer(args, len(images))
    prefix = beside(path, "")
    with progress_bar(len(images), "images", Path(prefix).name) as progress:
        report = pack(
            images,
            args.root,
            prefix,
            options=options,
            progress=progress,
            overwrite=args.overwrite,
        )
    for image in report.skipped:
        print(f"skipped {image.path}: {image.reason}", file=sys.stderr)
    for kept in report.not_transcoded:
        print(f"stored as it is {kept.path}: {kept.reason}", file=sys.stderr)
    shards = "" if count is None else f"-*-of-{count:05d}"
    rate = report.packed / max(time.perf_counter() - start, 1e-9)
    transcoded = f"{report.transcoded} transcoded, " if options.baseline or options.optimize else ""
    print(
        f"{prefix}{shards}.rec: {report.packed} images, {len(report.skipped)} skipped, "
        f"{transcoded}{report.nbytes / 1e6:.1f} MB, {rate:.0f} images/s"
    )
    return report


def _packer(args: argparse.Namespace, lines: int) -> tuple[Callable[..., PackReport], int | None]:
    """The function that packs a list of so many lines, and the number of shards, or None."""
    count, threads = args.num_shards, args.num_thread
    if args.ray is not None:
        from gpuio.pack.ray import pack_on_ray

        if count is None:
            count = max(1, -(-lines // _SHARD))
        pack = partial(pack_on_ray, count=count, address=args.ray, threads=threads or 1)
        return pack, count
    if count is not None:
        return partial(pack_shards, count=count, threads=threads), count
    return partial(pack_list, threads=threads), None
