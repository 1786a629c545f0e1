"""gpuio rec2idx: the .idx of a .rec."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = (
        "Exit status: 0, or 2 if the .rec is damaged (`gpuio verify` tells where) or the .idx "
        "cannot be written."
    )
    parser.add_argument("record", metavar="RECORD", help="the .rec")
    parser.add_argument("index", metavar="INDEX", help="the .idx to write")
    parser.add_argument(
        "--keys",
        choices=("position", "id"),
        default="position",
        help="key of each record: its position, counted from 0, as mxnet's rec2idx writes it, or "
        "the id in its header, as im2rec writes it (default: position)",
    )


def run(args: argparse.Namespace) -> int:
    """Write the index; the exit status."""
    from gpuio.format.index import Index

    index = Index.scan(args.record)
    if args.keys == "id":
        from gpuio.cli.headers import read_headers
        from gpuio.errors import CorruptRecordError

        headers = read_headers(args.record, index.offsets)
        for offset in index.offsets[headers.nbytes < 0][:1].tolist():
            reason = "no image record, so it has no id; use --keys position"
            raise CorruptRecordError(reason, path=args.record, offset=offset)
        index = Index(headers.ids, index.offsets)
    index.save(args.index)
    print(f"{args.index}: {len(index)} records")
    return 0
