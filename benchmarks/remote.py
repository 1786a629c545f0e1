"""Images per second from a store with latency, beside those from disk.

    python benchmarks/remote.py --rec train.rec --out remote.json

The store is a process of its own on this machine: a web server for ranges that waits before each
answer, once as plain HTTP and once asked as S3, with signed URLs. Both orders and both sides take
turns; ratios are taken within a round, and the table has their medians.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import mmap
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import machine
from records import load, save, shrink

from gpuio import ImageRecordIter

SERVER_PORT = re.compile(r"listening on (\d+)")
TARGET = 0.8


class Ranges(asyncio.Protocol):
    """HTTP/1.1, as far as ranges of files need it: every answer comes `latency` s late."""

    folder, latency, files = Path(), 0.0, {}

    def connection_made(self, transport):
        self.transport, self.left = transport, b""

    def data_received(self, data):
        self.left += data
        while b"\r\n\r\n" in self.left:
            head, _, self.left = self.left.partition(b"\r\n\r\n")
            asyncio.get_running_loop().call_later(self.latency, self.answer, head)

    def answer(self, head):
        name = head.split(b" ", 2)[1].partition(b"?")[0].rpartition(b"/")[2].decode()
        path = self.folder / name
        if name not in self.files and path.is_file():
            with path.open("rb") as file:
                self.files[name] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        data = self.files.get(name)
        found = re.search(rb"(?i)\r\nrange: bytes=(\d+)-(\d+)", head)
        if data is None or found is None:
            self.transport.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            return
        first, last = int(found[1]), min(int(found[2]), len(data) - 1)
        lines = (
            "HTTP/1.1 206 Partial Content",
            'ETag: "one"',
            f"Content-Length: {last + 1 - first}",
            f"Content-Range: bytes {first}-{last}/{len(data)}",
        )
        self.transport.write("\r\n".join((*lines, "", "")).encode() + data[first : last + 1])


async def serve(folder, latency):
    Ranges.folder, Ranges.latency = folder, latency
    server = await asyncio.get_running_loop().create_server(Ranges, "127.0.0.1", 0)
    print("listening on", server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def epoch(it, batches):
    """Images per second over so many batches, from the first one on."""
    it.reset()
    next(it)
    begin, count = time.perf_counter(), 0
    for _ in range(batches):
        count += len(next(it).data[0])
    return count / (time.perf_counter() - begin)


def measure(records, port, args):
    """Rows of the table: medians over the rounds."""
    batches = records.count // args.batch_size - 2
    s3 = {"key": "a", "secret": "b", "endpoint_url": f"http://127.0.0.1:{port}"}
    name = Path(records.path).name
    sides = {
        "disk": (records.path, {}),
        "HTTP": (f"http://127.0.0.1:{port}/{name}", {}),
        "S3": (f"s3://bucket/{name}", {"storage_options": s3}),
    }
    rows = []
    for shuffle in (False, True):
        common = {
            "data_shape": (3, 224, 224),
            "batch_size": args.batch_size,
            "shuffle": shuffle,
            "rand_crop": True,
            "rand_mirror": True,
            "preprocess_threads": args.threads,
        }
        iters = {
            side: ImageRecordIter(path, **common, **own) for side, (path, own) in sides.items()
        }
        rates = {side: [] for side in sides}
        for it in iters.values():
            epoch(it, min(batches, 4))
        for number in range(args.rounds):
            for side in sorted(sides, reverse=bool(number % 2)):
                rates[side].append(epoch(iters[side], batches))
        for it in iters.values():
            it.close()
        for side, found in rates.items():
            ratios = [a / b for a, b in zip(found, rates["disk"], strict=True)]
            order = "shuffled" if shuffle else "in order"
            rows.append(
                {"data": records.name, "order": order, "from": side, "images_per_s": median(found)}
                | {"of_disk": median(ratios)}
            )
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rec", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--latency", type=float, default=0.02, help="seconds (default: 0.02)")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--count", type=int, default=1600, help="records (default: 1600)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=machine.cores())
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        asyncio.run(serve(args.serve, args.latency))
        return
    with tempfile.TemporaryDirectory() as folder:
        pictures = load(args.rec, Path(folder))
        data = [
            save("large", pictures, args.count, Path(folder)),
            save("small", [shrink(picture) for picture in pictures], args.count, Path(folder)),
        ]
        command = [sys.executable, __file__, "--serve", folder, "--latency", str(args.latency)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            try:
                port = int(SERVER_PORT.match(server.stdout.readline())[1])
                rows = [row for records in data for row in measure(records, port, args)]
            finally:
                server.kill()
    for row in rows:
        print(
            "{data:6} {order:9} {from:5} {images_per_s:8.0f} images/s {of_disk:6.2f}".format(**row)
        )
    worst = min(row["of_disk"] for row in rows)
    print(f"at least {worst:.2f} of disk with {1000 * args.latency:.0f} ms; target {TARGET}")
    if args.out:
        report = {"machine": machine.describe(), "threads": args.threads, "latency": args.latency}
        args.out.write_text(json.dumps(report | {"rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
