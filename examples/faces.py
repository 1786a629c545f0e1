"""Write a set of faces and read it as training scripts for MXNet do; only the import differs.

    python examples/faces.py faces

Record 0 says where the images end. Records from 1 on are images, with the number of a person as
label; after them comes a record for each person, which says where the images of that person begin
and end. The faces are drawn. Needs `pip install 'gpuio[cpu]'`.
"""

from __future__ import annotations

import argparse
import io
import numbers
import sys
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image, ImageDraw

import gpuio as mx

SIDE: Final = 112  # pixels


def main() -> int:
    """Make the set, and read it in random order; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out_dir", metavar="OUT_DIR", type=Path, help="folder to write to")
    parser.add_argument("--persons", type=int, default=20, help="number of persons (default: 20)")
    parser.add_argument("--images", type=int, default=5, help="images of each person (default: 5)")
    args = parser.parse_args()
    write(args.out_dir, args.persons, args.images)
    faces = FaceDataset(args.out_dir)
    order = np.random.default_rng(0).permutation(len(faces))
    labels = [faces[place][1] for place in order]
    image, label = faces[0]
    print(f"{len(faces)} faces of {len(set(labels))} persons; the first, of person {label:.0f}:")
    print(f"shape {image.shape}, mean {image.mean():.1f}; persons {faces.persons()} have as many")
    return 0


def write(folder: Path, persons: int, images: int) -> None:
    """Write train.rec and train.idx."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    end = 1 + persons * images
    paths = str(folder / "train.idx"), str(folder / "train.rec")
    with mx.recordio.MXIndexedRecordIO(*paths, "w") as records:

        def add(key: int, label: Any, data: bytes = b"") -> None:
            header = mx.recordio.IRHeader(0, label, key, 0)
            records.write_idx(key, mx.recordio.pack(header, data))

        add(0, [end, end + persons])
        for person in range(persons):
            shade = rng.integers(60, 220, 3)
            for number in range(images):
                add(1 + person * images + number, float(person), draw(shade, rng))
        for person in range(persons):
            add(end + person, [1 + person * images, 1 + (person + 1) * images])


def draw(shade: np.ndarray[Any, Any], rng: np.random.Generator) -> bytes:
    """A JPEG of a drawn face of one colour, near the centre."""
    picture = Image.fromarray(rng.integers(0, 50, (SIDE, SIDE, 3), np.uint8))
    pen = ImageDraw.Draw(picture)
    x, y = rng.integers(-8, 9, 2) + SIDE // 2
    pen.ellipse((x - 36, y - 46, x + 36, y + 46), fill=tuple(shade.tolist()))
    for eye in (x - 15, x + 15):
        pen.ellipse((eye - 5, y - 16, eye + 5, y - 8), fill="black")
    pen.arc((x - 16, y + 4, x + 16, y + 26), 20, 160, fill="black", width=3)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=95)
    return file.getvalue()


class FaceDataset:
    """Faces by number, as scripts for MXNet read them."""

    def __init__(self, root: Path) -> None:
        path_imgidx = str(root / "train.idx")
        path_imgrec = str(root / "train.rec")
        self.imgrec = mx.recordio.MXIndexedRecordIO(path_imgidx, path_imgrec, "r")
        header, _ = mx.recordio.unpack(self.imgrec.read_idx(0))
        if header.flag > 0:
            self.header0 = (int(header.label[0]), int(header.label[1]))
            self.imgidx = np.array(range(1, int(header.label[0])))
        else:
            self.imgidx = np.array(list(self.imgrec.keys))

    def __len__(self) -> int:
        return len(self.imgidx)

    def __getitem__(self, index: int) -> tuple[np.ndarray[Any, Any], float]:
        idx = self.imgidx[index]
        header, img = mx.recordio.unpack(self.imgrec.read_idx(idx))
        label = header.label
        if not isinstance(label, numbers.Number):
            label = label[0]
        return mx.image.imdecode(img).asnumpy(), label

    def persons(self) -> dict[int, int]:
        """How many images each person has."""
        counts = {}
        for identity in range(*self.header0):
            header, _ = mx.recordio.unpack(self.imgrec.read_idx(identity))
            first, end = header.label
            counts[identity - self.header0[0]] = int(end - first)
        return counts


if __name__ == "__main__":
    sys.exit(main())
