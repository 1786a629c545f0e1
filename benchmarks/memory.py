"""How much memory an iterator takes, epoch after epoch.

    python benchmarks/memory.py
    python benchmarks/memory.py --rec train.rec --epochs 20 --out memory.json

The iterator runs in a fresh process. After each epoch that process says what memory it holds, and
what it has held at most since the epoch before. Linux only.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import machine
import records

SHAPE = (3, 224, 224)
PAUSE = 1  # seconds, in each epoch, in which every queue fills: the most buffers are in use then
SLACK = 2**20, 0.01  # bytes, and a part, that memory may grow by and still be called flat


def resident() -> tuple[int, int]:
    """Bytes held now, and at most since the last call."""
    fields = {}
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        fields[name] = value.split()
    Path("/proc/self/clear_refs").write_text("5")  # begins a new VmHWM
    return 1024 * int(fields["VmRSS"][0]), 1024 * int(fields["VmHWM"][0])


def run(rec: str, epochs: int, batch_size: int) -> None:
    """Go through all epochs; one line of JSON for each."""
    import gpuio

    start, _ = resident()
    iterator = gpuio.ImageRecordIter(
        rec, SHAPE, batch_size, shuffle=True, resize=256, rand_crop=True, rand_mirror=True
    )
    for epoch in range(epochs):
        images = 0
        for number, batch in enumerate(iterator):
            images += len(batch.data[0]) - batch.pad
            if number == 1:
                time.sleep(PAUSE)
        now, peak = resident()
        row = {"epoch": epoch + 1, "images": images, "now": now, "peak": peak, "start": start}
        print(json.dumps(row), flush=True)
    iterator.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rec", type=Path, help="JPEGs to read (default: demo images are made)")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    parser.add_argument("--epochs", type=int, default=20, help="(default: 20)")
    parser.add_argument("--records", type=int, default=2000, help="in an epoch (default: 2000)")
    parser.add_argument("--batch-size", type=int, default=128, help="(default: 128)")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        run(args.child, args.epochs, args.batch_size)
        return
    if platform.system() != "Linux":
        raise SystemExit("memory is read from /proc, which only Linux has")
    rows = []
    print(f"{'epoch':>5} {'images':>8} {'MB now':>9} {'MB at most':>11}")
    with tempfile.TemporaryDirectory() as folder:
        pictures = records.load(args.rec, Path(folder))
        data = records.save("memory", pictures, args.records, Path(folder))
        command = [sys.executable, __file__, "--child", data.path]
        command += ["--epochs", str(args.epochs), "--batch-size", str(args.batch_size)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            for line in child.stdout:
                row = json.loads(line)
                rows.append(row)
                print(
                    f"{row['epoch']:>5} {row['images']:>8} {row['now'] / 1e6:>9.1f} "
                    f"{row['peak'] / 1e6:>11.1f}",
                    flush=True,
                )
        if child.returncode:
            raise SystemExit(f"the iterator ended with status {child.returncode}")
    verdict = judge(rows)
    print(verdict["words"])
    if args.out:
        report = {
            "machine": machine.describe(),
            "images": "given" if args.rec else "demo",
            "batch_size": args.batch_size,
            "rows": rows,
            "verdict": verdict,
        }
        args.out.write_text(json.dumps(report, indent=1) + "\n")


def judge(rows: list[dict[str, int]]) -> dict[str, float | bool | str]:
    """Whether memory is flat after the second epoch."""
    if len(rows) < 4:
        return {"words": "too few epochs to tell whether memory is flat"}
    second = rows[1]
    growth = {name: max(row[name] for row in rows[2:]) - second[name] for name in ("now", "peak")}
    flat = all(growth[name] <= SLACK[0] + SLACK[1] * second[name] for name in growth)
    word = "flat" if flat else "NOT flat"
    words = (
        f"memory is {word} after the second epoch: at most {growth['now'] / 1e6:+.1f} MB held, "
        f"{growth['peak'] / 1e6:+.1f} MB at the peak"
    )
    return {"flat": flat, "growth": growth["now"], "growth_of_peak": growth["peak"], "words": words}


if __name__ == "__main__":
    main()
