"""gpuio rec2idx: make the .idx of a .rec."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Final

import numpy as np

from gpuio.cli import arguments
from gpuio.cli.headers import read_headers
from gpuio.cli.progress import progress_bar
from gpuio.core.threads import available_cores
from gpuio.errors import CorruptRecordError, FormatError
from gpuio.formats.index import LARGEST_KEY, Index
from gpuio.storage.paths import is_url
from gpuio.storage.shards import beside, sizes_of

_SHOWN: Final = 20  # damaged places that are listed


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = (
        "If the .rec is damaged or cut off, the .idx names its whole records, and the damaged "
        "places are listed. Exit status: 0, also if only the end of the .rec is missing; 1 if a "
        "place before the end is damaged; 2 if there is no whole record or the .idx cannot be "
        "written."
    )
    parser.add_argument("record", metavar="RECORD", type=arguments.path, help="the .rec")
    parser.add_argument(
        "index",
        metavar="INDEX",
        type=arguments.path,
        nargs="?",
        help="the .idx to write (default: the name of the .rec with .idx)",
    )
    parser.add_argument(
        "--keys",
        choices=("position", "id"),
        default="position",
        help="key of each record: its position, counted from 0, as mxnet's rec2idx writes it, or "
        "the id in its header, as im2rec writes it (default: position)",
    )
    parser.add_argument(
        "--checkpoints",
        action="store_true",
        help="write RECORD's name with .checkpoints, too: where rows begin in each baseline JPEG, "
        "so that crops are decoded in part from the first epoch on; all images are read for that, "
        "an INDEX that is there is left as it is, and a damaged RECORD has none",
    )


def run(args: argparse.Namespace) -> int:
    """Write the index and return the exit status."""
    path = args.index or beside(args.record, ".idx")
    if path.endswith(".rec") or _is_same_file(path, args.record):
        raise ValueError(f"{path} is a .rec, and INDEX is the .idx to write")
    index, damages = Index.scan_whole(args.record)
    if damages and not len(index):
        raise CorruptRecordError(damages[0].reason, path=args.record, offset=damages[0].offset)
    if args.keys == "id":
        headers = read_headers(args.record, index.offsets)
        for offset in index.offsets[headers["nbytes"] < 0][:1].tolist():
            reason = "no image record, so it has no id; use --keys position"
            raise CorruptRecordError(reason, path=args.record, offset=offset)
        for row in np.flatnonzero(headers["id"] > LARGEST_KEY)[:1].tolist():
            where = f"{args.record}: record at byte {index.offsets[row]}"
            reason = (
                f"its id {headers['id'][row]} is above {LARGEST_KEY}, the largest key of an index"
            )
            raise FormatError(f"{where}: {reason}; use --keys position")
        index = Index(headers["id"].astype(np.int64), index.offsets)
    _write(path, index, args, damaged=bool(damages))
    for damage in damages[:_SHOWN]:
        where = f"{args.record}: record at byte {damage.offset}"
        print(f"{where}: {damage.reason}; lost until byte {damage.resumed}", file=sys.stderr)
    if damages:
        places = f"{len(damages)} damaged place{'s' if len(damages) > 1 else ''}"
        print(f"{args.record}: {places}, left out of the index", file=sys.stderr)
    # A missing end is no failure: the index covers the file as far as it goes. Damage before the
    # end means that records are missing from the index.
    (size,) = sizes_of([args.record])
    return 1 if any(damage.resumed < size for damage in damages) else 0


def _write(path: str, index: Index, args: argparse.Namespace, *, damaged: bool) -> None:
    """Write the index, and the checkpoints where they are asked for."""
    if args.checkpoints and Path(path).exists():  # its keys may be others
        print(f"{path} is there and left as it is")
    else:
        index.save(path)
        print(f"{path}: {len(index)} records")
    if args.checkpoints and damaged:
        print(f"{args.record} is damaged: no checkpoints are written", file=sys.stderr)
    elif args.checkpoints:
        _write_checkpoints(args.record, len(index))


def _write_checkpoints(record: str, count: int) -> None:
    """Write the checkpoints of a .rec, and say how many images have some."""
    if is_url(record):
        raise ValueError(f"{record}: checkpoints are written beside files on disk only")
    from gpuio.pipeline.decode import checkpoint_file  # and the compiler: not for an index alone

    with progress_bar(count, "images", "checkpoints") as advance:
        known = checkpoint_file.write(record, available_cores(), advance)
    print(f"{beside(record, checkpoint_file.SUFFIX)}: {known} images")


def _is_same_file(index: str, record: str) -> bool:
    """Whether both names lead to the same file on disk."""
    try:
        return Path(index).samefile(record)
    except OSError:
        return False
