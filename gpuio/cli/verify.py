"""gpuio verify: list the damaged records and images of .rec files."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from gpuio.cli import files
from gpuio.cli.progress import progress_bar
from gpuio.core.parallel_map import in_order
from gpuio.core.threads import available_cores
from gpuio.errors import CorruptRecordError, DecodeError, FormatError
from gpuio.formats.codec import imdecode
from gpuio.formats.image_record import unpack
from gpuio.formats.index import Index
from gpuio.formats.recordio import RecordFile
from gpuio.storage.shards import beside, exist, sizes_of

_BLOCK: Final = 32  # images that a thread checks at a time
_EPILOG: Final = """\
Damage is listed as `offset TAB key TAB reason`, with offsets in bytes. Keys come from the .idx
beside the .rec if it exists, otherwise from the record.

JSON has for each file: file and error, or
  file, bytes, records (whole ones), images_checked (null with --frames-only)
  index: file and entries, or null if there is none
  damage: a list of offset, key (or null) and reason

Exit status: 0 if nothing is damaged, 1 if anything is, 2 if a FILE cannot be read or is no RecordIO
file.
"""


class Fault(NamedTuple):
    """One damaged record: its byte offset, its key if that is known, and the reason."""

    offset: int
    key: int | None
    reason: str


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _EPILOG
    files.configure(parser)
    parser.add_argument(
        "--frames-only",
        action="store_true",
        help="check the frames of the records and the .idx, but decode no images",
    )


def run(args: argparse.Namespace) -> int:
    """List the damage and return the exit status."""
    say = (lambda _: None) if args.json else print  # JSON is the only output then
    return files.run(args, partial(check, frames_only=args.frames_only, say=say))


def check(
    path: str, *, frames_only: bool, say: Callable[[str], object]
) -> tuple[dict[str, Any], int]:
    """The JSON report about a .rec, and the exit status.

    Args:
        path: The .rec.
        frames_only: Check the frames only, without decoding images.
        say: Called with each line of the report as text.

    Raises:
        FormatError: The file is no RecordIO file, or its .idx cannot be parsed.
        OSError: The file cannot be read.
    """
    start = time.perf_counter()
    nbytes = sizes_of([path])[0]
    offsets, damages = files.scan(path)
    speed = nbytes / 1e9 / max(time.perf_counter() - start, 1e-9)
    megabytes = f"{nbytes / 1e6:.1f} MB"
    say(f"{path}: {len(offsets)} whole records, {megabytes}, {speed:.1f} GB/s")
    faults = [Fault(d.offset, None, f"{d.reason}; lost until byte {d.resumed}") for d in damages]
    idx = beside(path, ".idx")
    index = Index.load(idx) if exist([idx]) else None
    if index is not None:
        say(f"{idx}: {len(index)} entries")
        faults += check_index(index, offsets, {fault.offset for fault in faults})
    if not frames_only:
        start = time.perf_counter()
        images, damaged = check_images(path, offsets)
        faults += damaged
        rate = images / max(time.perf_counter() - start, 1e-9)
        say(f"{path}: {images} images checked, {rate:.0f} images/s")
    keys = _keys(index, faults)
    faults = [
        fault._replace(key=keys.get(fault.offset, fault.key))
        for fault in sorted(faults, key=lambda fault: fault.offset)
    ]
    for fault in faults:
        say(f"{fault.offset}\t{'-' if fault.key is None else fault.key}\t{fault.reason}")
    say(f"{path}: {f'{len(faults)} damaged' if faults else 'no damage'}")
    report = {
        "file": path,
        "bytes": nbytes,
        "records": len(offsets),
        "images_checked": None if frames_only else images,
        "index": None if index is None else {"file": idx, "entries": len(index)},
        "damage": [fault._asdict() for fault in faults],
    }
    return report, 1 if faults else 0


def check_index(index: Index, offsets: npt.NDArray[np.int64], known: set[int]) -> list[Fault]:
    """Entries of an index that point to no record, and the first record that has no entry.

    Args:
        index: The index to check.
        offsets: (N,) int64 byte offsets of the whole records.
        known: Byte offsets of damage that is already listed.
    """
    lost = ~np.isin(index.offsets, offsets)
    entries = [*zip(index.offsets[lost].tolist(), index.keys[lost].tolist(), strict=True)]
    reason = "in the .idx, but no record starts here"
    faults = [Fault(offset, key, reason) for offset, key in entries if offset not in known]
    missing = offsets[~np.isin(offsets, index.offsets)]
    if len(missing) > len(entries):  # each wrong entry accounts for one of them
        reason = f"not in the .idx, which lacks {len(missing)} of {len(offsets)} whole records"
        advice = "make a new one with `gpuio rec2idx`"
        faults.append(Fault(int(missing[0]), None, f"{reason}; {advice}"))
    return faults


def check_images(path: str, offsets: npt.NDArray[np.int64]) -> tuple[int, list[Fault]]:
    """Decode the images of the records at the byte `offsets`: their number, and the damaged ones.

    Records that hold labels and no image are neither: face recognition sets begin and end with
    such records.
    """
    images, faults = 0, []
    blocks = (offsets[first : first + _BLOCK] for first in range(0, len(offsets), _BLOCK))
    with RecordFile(path) as file, progress_bar(len(offsets), "images", "verify") as progress:
        work = partial(_check_block, file)
        ready = in_order(work, blocks, threads=available_cores(), name="gpuio-verify")
        with closing(ready) as results:
            for count, some, found in results:
                images += some
                faults += found
                progress(count)
    return images, faults


def _check_block(file: RecordFile, offsets: npt.NDArray[np.int64]) -> tuple[int, int, list[Fault]]:
    """The numbers of records and of images at the byte `offsets`, and the damaged ones."""
    images, faults = len(offsets), []
    for offset in offsets.tolist():
        key = None
        try:
            header, image = unpack(file.read(offset)[0])
            key = header.id
            if image or not header.flag:
                imdecode(image, -1)
            else:
                images -= 1
        except (FormatError, DecodeError) as error:
            reason = error.reason if isinstance(error, CorruptRecordError) else str(error)
            faults.append(Fault(offset, key, reason))
    return len(offsets), images, faults


def _keys(index: Index | None, faults: list[Fault]) -> dict[int, int]:
    """Keys of the damaged records by byte offset, for those in the index."""
    if index is None or not faults:
        return {}
    wanted = np.isin(index.offsets, [fault.offset for fault in faults])
    return dict(zip(index.offsets[wanted].tolist(), index.keys[wanted].tolist(), strict=True))
