"""How long it takes until millions of records can be read: the .idx parsed, the .rec scanned.

    python benchmarks/bench_index.py --out index.json

A data set of 42 million records is opened, and then all of it is looked at. "MB" is by how much a
process grew at most, "own" what is left of it once the work is done and shared with no other
process.

Each figure is from a fresh process, so that the growth of its memory is the index and nothing
else. The .idx is compared with the loop of mxnet.recordio, which makes a dict and a list. Files
are read from the page cache: what is measured is the parser, not the disk.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from gpuio.formats.index import Index
from gpuio.formats.mapping import KeyOffsets
from gpuio.formats.recordio import frame, scan
from gpuio.sources.recordio.source import RecordIOSource
from gpuio.storage.shards import shard_name


def parse(path: str) -> int:
    """The index as gpuio reads it."""
    return len(Index.load(path))


def parse_as_mxnet(path: str) -> int:
    """The loop of MXIndexedRecordIO.open in MXNet 1.9.1."""
    places, keys = {}, []
    with Path(path).open() as file:
        for line in iter(file.readline, ""):
            fields = line.strip().split("\t")
            key = int(fields[0])
            places[key] = int(fields[1])
            keys.append(key)
    return len(keys)


def look_up(path: str) -> int:
    """Open an index, and find one key: the first search makes a table of shuffled ones."""
    index = Index.load(path)
    offset = KeyOffsets(index.keys, index.offsets)[0]
    return len(index) if offset >= 0 else 0


def scan_as_python(path: str) -> int:
    """Head by head, as the readers do that people write by hand."""
    count = position = 0
    size = Path(path).stat().st_size
    with Path(path).open("rb") as file:
        while position < size:
            file.seek(position)
            head = file.read(8)
            assert head[:4] == b"\x0a\x23\xd7\xce"
            word = int.from_bytes(head[4:], "little")
            count += word >> 29 <= 1
            position += 8 + ((word & 0x1FFFFFFF) + 3 & ~3)
    return count


def scan_length(path: str) -> int:
    """Head by head, as gpuio does."""
    return len(scan(path))


def open_only(path: str) -> RecordIOSource:
    """A data set, by its index."""
    return RecordIOSource.open(path)


def open_and_use(path: str) -> RecordIOSource:
    """The same, and all of its index looked at."""
    dataset = RecordIOSource.open(path)
    assert dataset.keys is not None
    assert int(dataset.keys.max()) >= 0 < int(dataset.table.offsets.max())
    return dataset


TASKS: dict[str, Callable[[str], int | RecordIOSource]] = {
    task.__name__: task
    for task in (
        parse,
        parse_as_mxnet,
        look_up,
        open_only,
        open_and_use,
        scan_length,
        scan_as_python,
    )
}


def memory(kind: str) -> int:
    """Bytes of this process; 0 where the system does not tell.

    Args:
        kind: "VmHWM" for the most it has held, "RssAnon" for what it shares with no file.
    """
    status = Path("/proc/self/status")
    if not status.exists():
        return 0
    line = next(x for x in status.read_text().splitlines() if x.startswith(kind))
    return 1024 * int(line.split()[1])


def run(task: str, path: str) -> dict[str, float]:
    """One task, timed here."""
    before, own = memory("VmHWM"), memory("RssAnon")
    start = time.perf_counter()
    result = TASKS[task](path)
    seconds = time.perf_counter() - start
    return {
        "records": result if isinstance(result, int) else len(result),
        "seconds": seconds,
        "growth": memory("VmHWM") - before,
        "own": memory("RssAnon") - own,
    }


def measure(task: str, path: Path, repeats: int) -> dict[str, float]:
    """The fastest of several fresh processes."""
    command = [sys.executable, __file__, "--task", task, str(path)]
    results = []
    for _ in range(repeats):
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        results.append(json.loads(done.stdout))
    return min(results, key=lambda result: result["seconds"])


def write_index(path: Path, count: int, *, shuffled: bool) -> None:
    """An index as of images of 5 to 15 kB."""
    choose = np.random.default_rng(0)
    offsets = np.cumsum(4 * choose.integers(1250, 3750, count))
    keys = choose.permutation(count) if shuffled else np.arange(count)
    Index(keys, offsets - offsets[0]).save(path)


def write_data_set(folder: Path, count: int, files: int) -> None:
    """Shards with the .idx of `count` records; of each .rec only the first and last are there."""
    choose = np.random.default_rng(0)
    for number in range(files):
        begin, end = (n * count // files for n in (number, number + 1))
        ends = np.cumsum(4 * choose.integers(1250, 3750, end - begin))
        offsets = np.append(0, ends[:-1])
        prefix = folder / shard_name("train", number, files)
        Index(np.arange(begin, end), offsets).save(f"{prefix}.idx")
        with Path(f"{prefix}.rec").open("wb") as file:
            for offset in (0, int(offsets[-1])):
                file.seek(offset)
                file.write(frame(b""))
            file.truncate(int(ends[-1]))


def write_records(path: Path, nbytes: int, total: int) -> None:
    """About `total` bytes of records of about `nbytes`, random as JPEGs are."""
    choose = np.random.default_rng(0)
    lengths = choose.integers(nbytes // 2, nbytes * 3 // 2, max(1, min(1000, total // nbytes)))
    block = b"".join(frame(choose.bytes(int(length))) for length in lengths)
    with path.open("wb") as file:
        for _ in range(max(1, total // len(block))):
            file.write(block)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    parser.add_argument("--records", type=int, default=10_000_000, help="lines of the .idx")
    parser.add_argument("--large", type=int, default=42_000_000, help="records of the data set")
    parser.add_argument("--gigabytes", type=float, default=1.5, help="size of each .rec")
    parser.add_argument("--repeats", type=int, default=3, help="the fastest of so many counts")
    parser.add_argument("--folder", type=Path, help="where the files are made, and removed")
    parser.add_argument("--task", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.task:
        print(json.dumps(run(*arguments.task)))
        return
    rows = []

    def add(name: str, tasks: dict[str, str], path: Path) -> None:
        for label, task in tasks.items():
            result = measure(task, path, arguments.repeats)
            files = [path] if path.is_file() else path.glob("*.idx")
            size = sum(file.stat().st_size for file in files)
            rate = size / result["seconds"] / 1e9
            rows.append({"file": name, "reader": label, **result, "gigabytes_per_second": rate})
            print(
                f"{name:30} {label:24} {result['records']:>11,} {result['seconds']:>9.3f}"
                f" {result['growth'] / 1e6:>9.0f} {result['own'] / 1e6:>9.0f} {rate:>7.2f}",
                flush=True,
            )

    heads = f"{'records':>11} {'seconds':>9} {'MB':>9} {'own MB':>9} {'GB/s':>7}"
    print(f"{'file':30} {'reader':24} {heads}")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        path = Path(folder) / "a.idx"
        for kind in ("in order", "shuffled"):
            write_index(path, arguments.records, shuffled=kind == "shuffled")
            readers = {"gpuio": "parse", "gpuio, first key": "look_up"}
            add(f"idx, keys {kind}", readers | {"mxnet's loop": "parse_as_mxnet"}, path)
        path.unlink()
        for files in (1, 128):
            path = Path(folder) / str(files)
            path.mkdir()
            write_data_set(path, arguments.large, files)
            readers = {"opened": "open_only", "all of it": "open_and_use"}
            add(f"data set of {files} files", readers, path)
            shutil.rmtree(path)
        path = Path(folder) / "a.rec"
        readers = {"gpuio": "scan_length", "loop over heads": "scan_as_python"}
        for nbytes in (100_000, 8_000, 100):
            write_records(path, nbytes, int(arguments.gigabytes * 1e9))
            add(f"rec, records of {nbytes:,} bytes", readers, path)
    if arguments.out:
        machine = {"cpus": os.cpu_count(), "machine": platform.machine(), "numpy": np.__version__}
        arguments.out.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
