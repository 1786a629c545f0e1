"""Does DALI read what gpuio writes, with our index?

    python tests/compat/dali_recordio.py --dali-python DALI/bin/python

Run with gpuio's interpreter. DALI's runs `fn.readers.mxnet` on the CPU over files of ours, in
which one payload holds the magic number, with the index written beside them and with that of
`gpuio rec2idx`. DALI itself writes no .rec.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import gpuio
from gpuio import recordio
from gpuio.testing import draw, encode

COUNT = 9
SIDE = 40

READ = """
import json, sys
import numpy as np
from nvidia.dali import fn, pipeline_def, types

rec, idx, out, count = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])

@pipeline_def(batch_size=count, num_threads=1, device_id=None)
def read():
    data, label = fn.readers.mxnet(path=[rec], index_path=[idx], name="r")
    return fn.decoders.image(data, device="cpu", output_type=types.RGB), label

pipe = read()
pipe.build()
images, labels = pipe.run()
np.savez(out, images=np.stack([np.array(images[i]) for i in range(count)]),
         labels=np.stack([np.array(labels[i]) for i in range(count)]))
"""


def write(folder: Path, width: int) -> tuple[Path, Path]:
    """A .rec and .idx of PNGs with `width` labels; the magic stands in one picture."""
    rec, idx = folder / f"labels{width}.rec", folder / f"labels{width}.idx"
    with recordio.MXIndexedRecordIO(str(idx), str(rec), "w") as records:
        for key in range(COUNT):
            data = encode(draw(SIDE, SIDE, seed=key), "PNG")
            if key == 3:  # a comment behind the end of the picture, at a multiple of 4 bytes
                data += bytes(-len(data) % 4) + (0xCED7230A).to_bytes(4, "little") + b"tail"
            label = float(key) if width == 1 else [key + n / 10 for n in range(width)]
            records.write_idx(key, recordio.pack((0, label, key, 0), data))
    return rec, idx


def main() -> int:
    """The exit status: 1 if anything differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dali-python", required=True, help="interpreter that has DALI")
    args = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for width in (1, 4):
            rec, idx = write(folder, width)
            ours = _ours(rec, idx, width)
            for index in (idx, folder / "made.idx"):
                if index != idx:
                    command = [sys.executable, "-m", "gpuio", "rec2idx", str(rec), str(index)]
                    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
                out = folder / "dali.npz"
                command = [args.dali_python, "-c", READ, str(rec), str(index), str(out), str(COUNT)]
                subprocess.run(command, check=True)
                theirs = np.load(out)
                same = {
                    "pixels": bool((theirs["images"] == ours[0]).all()),
                    "labels": bool((theirs["labels"].reshape(ours[1].shape) == ours[1]).all()),
                }
                print(f"{width} labels, {index.name}: {json.dumps(same)}")
                failed += not all(same.values())
    return int(failed > 0)


def _ours(rec: Path, idx: Path, width: int) -> tuple[np.ndarray, np.ndarray]:
    shape = (3, SIDE, SIDE)
    with gpuio.ImageRecordIter(
        rec, shape, COUNT, path_imgidx=idx, label_width=width, dtype="uint8", layout="NHWC"
    ) as it:
        batch = next(it)
    return batch.data[0].asnumpy(), batch.label[0].asnumpy()


if __name__ == "__main__":
    sys.exit(main())
