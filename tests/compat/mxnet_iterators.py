"""gpuio's iterators over arrays and text against MXNet's, batch by batch.

    python tests/compat/mxnet_iterators.py --mxnet-python /path/to/python-with-mxnet

The same iterators are made in both interpreters, from the same files and arrays. What their
batches hold must be the same. Not collected by pytest: it needs MXNet 1.9.1, which in turn needs
an old NumPy. With SciPy beside MXNet, matrices in CSR form are compared in `NDArrayIter` too.
"""

# ruff: noqa: NPY002  MXNet shuffles with NumPy's global generator

from __future__ import annotations

import argparse
import itertools
import random
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

EPOCHS = 3


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mxnet-python", required=True, metavar="PYTHON")
    parser.add_argument("--write", metavar="FILE", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.write:
        write(args.write)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        files(Path(folder))
        found = {}
        for name, python in (("mxnet", args.mxnet_python), ("gpuio", sys.executable)):
            out = Path(folder) / f"{name}.npz"
            command = (python, str(Path(__file__).resolve()), "--mxnet-python", name)
            subprocess.run([*command, "--write", str(out)], cwd=folder, check=True)
            with np.load(out) as arrays:
                found[name] = dict(arrays)
    return compare(found["mxnet"], found["gpuio"])


def compare(theirs, ours) -> int:
    """Print what differs; the exit status."""
    bad = 0
    if not any(map(sparse, theirs)):
        print("no SciPy beside MXNet: NDArrayIter is not compared with matrices in CSR form")
        ours = {name: array for name, array in ours.items() if not sparse(name)}
    for name in sorted({*theirs, *ours}):
        a, b = theirs.get(name), ours.get(name)
        if a is None or b is None:
            problem = f"only in {'gpuio' if a is None else 'MXNet'}"
        elif a.shape != b.shape or a.dtype != b.dtype:
            problem = f"{a.dtype}{a.shape} in MXNet, {b.dtype}{b.shape} in gpuio"
        elif not (np.allclose(a, b, 3e-7, 0) if is_text(name, a) else np.array_equal(a, b)):
            problem = f"{a} in MXNet, {b} in gpuio".replace("\n", " ")
        else:
            continue
        bad += 1
        print(f"{name}: {problem}")
    print(f"{len(theirs)} arrays compared, {bad} differ")
    return int(bool(bad))


def is_text(name: str, values: np.ndarray) -> bool:
    """Whether these are numbers from text, which MXNet does not round to the nearest float."""
    return name.startswith(("CSVIter", "LibSVMIter")) and values.dtype == np.float32


def sparse(name: str) -> bool:
    return name.startswith("NDArrayIter csr")


def files(folder: Path) -> None:
    """The files that iterators read."""
    choose = random.Random(0)
    for count in (4, 7, 12):
        rows = [[round(choose.uniform(-9, 9), 3) for _ in range(6)] for _ in range(count)]
        whole = [[choose.randrange(-(2**31), 2**31) for _ in range(6)] for _ in range(count)]
        labels = [[choose.randrange(9) for _ in range(2)] for _ in range(count)]
        for name, table in (("float", rows), ("int", whole), ("label", labels)):
            text = "\n".join(",".join(map(str, row)) for row in table)
            (folder / f"{name}{count}.csv").write_text(text + "\n")
        for name, columns in (("data", 8), ("target", 3)):
            lines = []
            for row in range(count):
                used = sorted(choose.sample(range(columns), choose.randrange(columns)))
                pairs = "".join(f" {place}:{choose.uniform(-9, 9):.3f}" for place in used)
                lines.append(f"{row}{pairs}\n")
            (folder / f"{name}{count}.libsvm").write_text("".join(lines))
    for count in (23, 3000, 70000):
        pixels = choose.randbytes(count * 6)
        (folder / f"image{count}").write_bytes(struct.pack(">4i", 2051, count, 2, 3) + pixels)
        labels = bytes(number % 251 for number in range(count))
        (folder / f"label{count}").write_bytes(struct.pack(">2i", 2049, count) + labels)


class Record:
    """What iterators gave, by name."""

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}

    def describe(self, name: str, it) -> None:
        for kind in ("provide_data", "provide_label"):
            for number, desc in enumerate(getattr(it, kind)):
                dtype = np.dtype(getattr(desc, "dtype", np.float32)).name
                text = f"{desc[0]} {tuple(desc[1])} {dtype} {getattr(desc, 'layout', None)}"
                self.arrays[f"{name} {kind} {number}"] = np.array(text)

    def epoch(self, name: str, it, *, index: bool = False) -> None:
        pads = []
        for number, batch in enumerate(it):
            for kind in ("data", "label"):
                for place, array in enumerate(getattr(batch, kind)):
                    self.arrays[f"{name} {number} {kind} {place}"] = array.asnumpy()
            pads.append(batch.pad)
            if index:
                self.arrays[f"{name} {number} index"] = np.asarray(batch.index, np.int64)
        self.arrays[f"{name} pads"] = np.array(pads, np.int64)

    def epochs(self, name: str, it, count: int = EPOCHS) -> None:
        self.describe(name, it)
        for epoch in range(count):
            self.epoch(f"{name} epoch {epoch}", it)
            it.reset()


def write(path: str) -> None:
    """Go through all iterators of the library in this interpreter."""
    try:
        import mxnet as mx
    except ImportError:
        import gpuio as mx
    record = Record()
    for case in (arrays, matrices, csv, libsvm, mnist, wrappers, context):
        case(mx, record)
    np.savez(path, **record.arrays)


def arrays(mx, record: Record) -> None:
    """NDArrayIter, with the batch sizes, orders and kinds of source that both take."""
    for count, size, last, shuffle in itertools.product(
        (1, 4, 10, 12), (1, 3, 4, 12, 25), ("pad", "discard", "roll_over"), (False, True)
    ):
        if last == "roll_over" and size > count:
            continue  # an error in MXNet
        np.random.seed(count * size)
        data = np.arange(count * 6).reshape(count, 2, 3)
        it = mx.io.NDArrayIter(data, np.arange(count), size, shuffle, last)
        name = f"NDArrayIter {count} {size} {last} {shuffle}"
        record.epochs(name, it)
        if last != "roll_over":
            next(iter(it), None)
            it.reset()
            record.epoch(f"{name} after one batch", it)
        it.hard_reset()
        record.epoch(f"{name} after hard_reset", it)
        record.arrays[f"{name} next draw"] = np.random.rand(1)
    sources = {
        "a list": ([np.arange(5), np.ones((5, 2), np.uint8)], np.arange(5, dtype=np.int64)),
        "a list of one": ([np.arange(5)], None),
        "a dict": ({"z": np.arange(5), "b": np.ones((5, 2))}, {"y": [1, 2, 3, 4, 5]}),
        "an NDArray": (mx.nd.array(np.arange(5), dtype="int32"), mx.nd.ones((5, 1))),
        "an array of int8": (np.arange(5, dtype=np.int8), None),
    }
    for name, (data, label) in sources.items():
        record.epochs(f"NDArrayIter {name}", mx.io.NDArrayIter(data, label, 2))
    it = mx.io.NDArrayIter(
        {"a": np.arange(5), "b": np.arange(9)}, np.arange(7), 2, False, "discard"
    )
    record.epochs("NDArrayIter longer others", it)
    np.random.seed(1)
    it = mx.io.NDArrayIter(*sources["a dict"], batch_size=2, shuffle=True)
    record.epochs("NDArrayIter a dict shuffled", it)
    data, label = np.arange(24).reshape(4, 3, 2), np.arange(8).reshape(4, 2)
    it = mx.io.NDArrayIter(data, label, 3, data_name="x", label_name="y", layout="NTC")
    record.epochs("NDArrayIter names and layout", it)
    it = mx.io.NDArrayIter(np.arange(48).reshape(4, 4, 3), None, 3, layout="TNC")
    record.epochs("NDArrayIter TNC", it)
    it = mx.io.NDArrayIter(np.arange(10), np.arange(10), 4)
    for name in ("num_data", "num_source", "cursor", "batch_size"):
        record.arrays[f"NDArrayIter {name}"] = np.array(getattr(it, name))


def matrices(mx, record: Record) -> None:
    """NDArrayIter with matrices in CSR form."""
    try:
        from scipy.sparse import csr_matrix
    except ImportError:
        return
    dense = np.arange(40).reshape(10, 4) % 3
    for shuffle in (False, True):
        np.random.seed(2)
        it = mx.io.NDArrayIter([csr_matrix(dense)], np.arange(10), 3, shuffle, "discard")
        record.epochs(f"NDArrayIter csr {shuffle}", it)


def csv(mx, record: Record) -> None:
    """CSVIter where no row is repeated from one epoch to the next."""
    shapes = ((6,), (2, 3), (1, 2, 3))
    for count, size, shape in itertools.product((4, 7, 12), (2, 3, 4, 5), shapes):
        if size > count:
            continue
        name = f"CSVIter {count} {size} {shape}"
        given = {"data_csv": f"float{count}.csv", "data_shape": shape, "batch_size": size}
        it = mx.io.CSVIter(**given)
        record.describe(name, it)
        record.epoch(name, it, index=True)
        if count % size == 0:
            it.reset()
            record.epoch(f"{name} second", it, index=True)
        it = mx.io.CSVIter(
            **given, label_csv=f"label{count}.csv", label_shape=(2,), data_name="d", label_name="l"
        )
        record.describe(f"{name} labels", it)
        record.epoch(f"{name} labels", it)
    for dtype in ("int32", "int64"):
        it = mx.io.CSVIter(data_csv="int4.csv", data_shape=(6,), batch_size=2, dtype=dtype)
        record.describe(f"CSVIter {dtype}", it)
        record.epoch(f"CSVIter {dtype}", it)
    it = mx.io.CSVIter(data_csv="float4.csv;float7.csv", data_shape=(6,), batch_size=11)
    record.epoch("CSVIter two files", it, index=True)


def libsvm(mx, record: Record) -> None:
    """LibSVMIter, likewise."""
    for count, size in itertools.product((4, 7, 12), (2, 3, 4)):
        given = {"data_libsvm": f"data{count}.libsvm", "data_shape": (8,), "batch_size": size}
        name = f"LibSVMIter {count} {size}"
        it = mx.io.LibSVMIter(**given)
        record.describe(name, it)
        record.epoch(name, it, index=True)
        it = mx.io.LibSVMIter(**given, label_libsvm=f"target{count}.libsvm", label_shape=(3,))
        record.describe(f"{name} labels", it)
        record.epoch(f"{name} labels", it)


def mnist(mx, record: Record) -> None:
    """MNISTIter with parts of equal length."""
    seeds = (0, 1, 7, 12345)
    for count, seed, flat in itertools.product((23, 3000, 70000), seeds, (False, True)):
        given = {"image": f"image{count}", "label": f"label{count}", "silent": True}
        given |= {"batch_size": max(5, count // 4), "flat": flat}
        it = mx.io.MNISTIter(**given, seed=seed)
        record.epochs(f"MNISTIter {count} {seed} {flat}", it, 2)
    given |= {"batch_size": 100, "num_parts": 7}
    for part in (0, 3, 6):
        for shuffle in (False, True):
            it = mx.io.MNISTIter(**given, part_index=part, shuffle=shuffle, seed=3)
            record.epochs(f"MNISTIter part {part} {shuffle}", it, 1)


def wrappers(mx, record: Record) -> None:
    """ResizeIter and PrefetchingIter, also over iterators of a script's own."""

    def inner(count: int = 10, last: str = "pad", name: str = "data"):
        data = np.arange(count * 2).reshape(count, 2)
        return mx.io.NDArrayIter({name: data}, {f"{name}_label": np.arange(count)}, 4, False, last)

    class Own(mx.io.DataIter):
        """The iterator of MXNet's tutorial, in small."""

        def __init__(self):
            super().__init__(2)
            self.number = 0
            self.provide_data = [mx.io.DataDesc("own", (2, 3))]
            self.provide_label = [("own_label", (2,))]

        def reset(self):
            self.number = 0

        def next(self):
            if self.number == 3:
                raise StopIteration
            self.number += 1
            data = [mx.nd.array(np.full((2, 3), self.number))]
            return mx.io.DataBatch(data, [mx.nd.array([0, self.number])], pad=0)

    class Plain:
        """No more than the four names that wrappers need, and the size that MXNet asks for."""

        batch_size = 2

        def __init__(self):
            self.provide_data, self.provide_label = [("plain", (2, 1))], []
            self.number = 0

        def reset(self):
            self.number = 0

        def next(self):
            if self.number == 3:
                raise StopIteration
            self.number += 1
            return mx.io.DataBatch([mx.nd.array([[self.number], [5]])], [], pad=0)

    for size, reset, last in itertools.product((0, 2, 3, 7), (True, False), ("pad", "roll_over")):
        it = mx.io.ResizeIter(inner(last=last), size, reset)
        record.epochs(f"ResizeIter {size} {reset} {last}", it)
    cases = {
        "one": lambda: mx.io.PrefetchingIter(inner()),
        "two": lambda: mx.io.PrefetchingIter([inner(), inner(name="x")]),
        "renamed": lambda: mx.io.PrefetchingIter(
            [inner(), inner()],
            rename_data=[{"data": "a"}, {"data": "b"}],
            rename_label=[{"data_label": "c"}, {"data_label": "d"}],
        ),
        "its own": lambda: mx.io.PrefetchingIter([Own(), Plain()]),
        "resized": lambda: mx.io.ResizeIter(mx.io.PrefetchingIter([Own(), Plain()]), 5),
        "prefetched": lambda: mx.io.PrefetchingIter(mx.io.ResizeIter(Own(), 5)),
        "plain resized": lambda: mx.io.ResizeIter(Plain(), 4),
    }
    for name, make in cases.items():
        it = make()
        record.epochs(f"wrapper {name}", it)
        record.arrays[f"wrapper {name} batch_size"] = np.array(it.batch_size)


def context(mx, record: Record) -> None:
    """Arrays and contexts."""
    nd, found = mx.nd, {}
    for name, source in {
        "float": 3.5, "int": 3, "list": [1, 2], "int64": np.arange(3), "empty": np.zeros((0, 3)),
        "nested": [[1, 2], [3, 4]], "NDArray": nd.array([1, 2], dtype="uint8"),
    }.items():  # fmt: skip
        found[f"array {name}"] = nd.array(source).asnumpy()
    found["dtype"] = nd.array([1, 2], dtype="int8").asnumpy()
    found["zeros"] = nd.zeros((2, 3)).asnumpy()
    found["ones"] = nd.ones(3, mx.cpu(), "uint8").asnumpy()
    found["asscalar"] = np.array([nd.array([1, 2])[1].asscalar(), nd.ones((1,)).asscalar()])
    target = nd.zeros((2,), dtype="int32")
    found["copyto"] = nd.array([1.5, 2]).copyto(target).asnumpy()
    found["names"] = np.array([str(mx.cpu()), str(mx.gpu(1)), str(nd.zeros(1).context)])
    found["equal"] = np.array([mx.cpu() == mx.cpu(0), mx.cpu() == mx.gpu(), mx.cpu(1) == mx.cpu()])
    found["type"] = np.array([mx.gpu(2).device_type, str(mx.gpu(2).device_id)])
    record.arrays |= {f"nd {name}": values for name, values in found.items()}


if __name__ == "__main__":
    sys.exit(main())
