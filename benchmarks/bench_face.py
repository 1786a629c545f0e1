"""One face read as training scripts read it, beside OpenCV decoding the same bytes alone.

    python benchmarks/bench_face.py --out face.json

"gpuio" is `MXIndexedRecordIO.read_idx`, `unpack` and `mx.image.imdecode` of a 112 x 112 JPEG from
a file in the page cache; "OpenCV" is `cv2.imdecode` of bytes that are in memory, in one thread. The
two take turns image by image, so that what else the machine does hits both; figures are medians.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

import gpuio as mx
from gpuio.testing import draw

SIDE = 112  # pixels
COUNT = 64  # faces, small enough to stay in the cache
QUALITY = 95


def write(folder: Path) -> list[bytes]:
    """A .rec of faces, and the JPEGs in it."""
    jpegs = []
    for n in range(COUNT):
        picture = cv2.GaussianBlur(draw(SIDE, SIDE, seed=n), (3, 3), 0)
        jpegs.append(
            cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()
        )
    with mx.recordio.MXIndexedRecordIO(folder / "faces.idx", folder / "faces.rec", "w") as records:
        for n, jpeg in enumerate(jpegs):
            header = mx.recordio.IRHeader(0, float(n), n, 0)
            records.write_idx(n, mx.recordio.pack(header, jpeg))
    return jpegs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    parser.add_argument("--rounds", type=int, default=100, help="times each face is read")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    steps: dict[str, list[float]] = {"OpenCV": [], "gpuio": [], "read": [], "decode": []}
    clock = time.perf_counter
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        arrays = [np.frombuffer(jpeg, np.uint8) for jpeg in write(folder)]
        records = mx.recordio.MXIndexedRecordIO(folder / "faces.idx", folder / "faces.rec", "r")
        imdecode, unpack = mx.image.imdecode, mx.recordio.unpack
        for _ in range(arguments.rounds):
            for n, array in enumerate(arrays):
                begin = clock()
                expected = cv2.imdecode(array, cv2.IMREAD_COLOR)
                middle = clock()
                _, data = unpack(records.read_idx(n))
                read = clock()
                pixels = imdecode(data)
                end = clock()
                steps["OpenCV"].append(middle - begin)
                steps["gpuio"].append(end - middle)
                steps["read"].append(read - middle)
                steps["decode"].append(end - read)
        assert (np.asarray(pixels) == expected[..., ::-1]).all()
        records.close()
    figures = {step: 1e6 * statistics.median(times) for step, times in steps.items()}
    allowed = 1.1 * figures["OpenCV"] + 5
    result = {
        "microseconds": {step: round(value, 2) for step, value in figures.items()},
        "ratio": round(figures["gpuio"] / figures["OpenCV"], 3),
        "allowed": round(allowed, 2),
        "kept": figures["gpuio"] <= allowed,
        "machine": {"machine": platform.machine(), "opencv": cv2.__version__},
    }
    for step, value in figures.items():
        print(f"{step:8} {value:8.1f} us")
    print(f"ratio    {result['ratio']:8.3f}   at most 1.1 times OpenCV and 5 us: {result['kept']}")
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
