"""Load arrays, a .csv file and an iterator of your own, as scripts for MXNet do.

    python examples/in_memory.py

Only the import differs from such a script. No files are left on disk.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import numpy as np

import gpuio as mx

ROWS: Final = 100
COLUMNS: Final = 3
BATCH: Final = 30


def main() -> int:
    """Load the same data by three iterators; the exit status."""
    rng = np.random.default_rng(0)
    data = rng.random((ROWS, COLUMNS), np.float32)
    label = rng.integers(10, size=ROWS)

    say("From arrays: the last batch is filled up, pad says with how many rows")
    show(mx.io.NDArrayIter(data, label, batch_size=BATCH))

    say("Shuffled: full batches only; rows that are left over begin the next epoch")
    with mx.io.NDArrayIter(data, label, BATCH, shuffle=True, last_batch_handle="roll_over") as it:
        for _ in range(2):
            show(it)
            it.reset()

    say("From a .csv file, read ahead in a thread")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.csv"
        np.savetxt(path, data, delimiter=",")
        with mx.io.CSVIter(data_csv=path, data_shape=(COLUMNS,), batch_size=BATCH) as rows:
            show(rows)

    say("From an iterator of your own, joined with arrays, seven batches an epoch")
    joined = mx.io.PrefetchingIter([Noise(4, BATCH), mx.io.NDArrayIter(data, label, BATCH)])
    with mx.io.ResizeIter(joined, 7) as it:
        show(it)
    return 0


class Noise(mx.io.DataIter):
    """Batches of random numbers, with only those attributes that `PrefetchingIter` needs.

    Args:
        count: Batches in an epoch.
        batch_size: Rows in a batch.
    """

    def __init__(self, count: int, batch_size: int) -> None:
        super().__init__(batch_size)
        self.provide_data = [mx.io.DataDesc("noise", (batch_size, 2))]
        self.provide_label: list[Any] = []
        self.count = count
        self.reset()

    def reset(self) -> None:
        self.rng = np.random.default_rng(1)
        self.number = 0

    def next(self) -> mx.io.DataBatch:
        if self.number == self.count:
            raise StopIteration
        self.number += 1
        noise = mx.nd.array(self.rng.normal(size=self.provide_data[0].shape))
        return mx.io.DataBatch([noise], [])


def show(it: Any) -> None:
    """Print what an epoch gives."""
    print("  ", *it.provide_data, *it.provide_label)
    for number, batch in enumerate(it):
        print(f"   {number}: {batch} pad: {batch.pad}")


def say(text: str) -> None:
    """Print a heading."""
    print(f"\n{text}")


if __name__ == "__main__":
    sys.exit(main())
