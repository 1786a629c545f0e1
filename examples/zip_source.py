"""Train from a zip file of images: a source of one's own, in one class and one registration.

    python examples/zip_source.py pictures.zip

The pictures of a class lie in a folder of its name; the classes are numbered in the order of their
names. The zip should be made without compression (`zip -0 -r pictures.zip train`), since the images
are compressed already.
"""

from __future__ import annotations

import sys
from hashlib import blake2b
from pathlib import PurePosixPath
from typing import Final
from zipfile import BadZipFile, ZipFile

import numpy as np

import gpuio

SUFFIXES: Final = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


class ZipSource(gpuio.RecordSource):
    """The images of one zip file, in the order of their names.

    Args:
        options: With the path of the zip.
    """

    def __init__(self, options: gpuio.SourceOptions) -> None:
        (self.path,) = options.paths
        self._zip = ZipFile(self.path)  # any number of threads may read from it
        names = sorted(n for n in self._zip.namelist() if n.lower().endswith(SUFFIXES))
        self.members = [self._zip.getinfo(name) for name in names]
        folders = [PurePosixPath(name).parent.name for name in names]
        self.classes, numbers = np.unique(folders, return_inverse=True)
        self._labels = numbers.astype(np.float32)[:, None]

    def __len__(self) -> int:
        return len(self.members)

    def read(self, record: int) -> gpuio.EncodedImage:
        try:
            image = self._zip.read(self.members[record])
        except BadZipFile as error:
            raise gpuio.FormatError(f"{self.where(record)}: {error}") from error
        return gpuio.EncodedImage(image, self._labels[record], record)

    def where(self, record: int) -> str:
        return f"{self.path}: {self.members[record].filename}"

    def fingerprint(self) -> int:
        rows = [f"{member.filename} {member.CRC}" for member in self.members]
        return int.from_bytes(blake2b("\n".join(rows).encode(), digest_size=6).digest())


gpuio.register_source(".zip", ZipSource)


def main(path: str) -> int:
    """Read one epoch, and say what came; the exit status."""
    with gpuio.ImageRecordIter(
        path,
        data_shape=(3, 224, 224),
        batch_size=32,
        shuffle=True,
        resize=256,
        rand_crop=True,
        last_batch="short",
    ) as batches:
        for batch in batches:
            images, labels = batch.data[0], batch.label[0]
            print(f"{images.shape} images of classes {sorted(set(labels.asnumpy().tolist()))}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
