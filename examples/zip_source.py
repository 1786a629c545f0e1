"""Load a zip file of images: a source of your own, made of a class and its registration.

    python examples/zip_source.py pictures.zip

The pictures of a class lie in a folder of its name; the classes are numbered in the order of their
names. The zip should be made without compression (`zip -0 -r pictures.zip train`), since the images
are compressed already.
"""

from __future__ import annotations

import argparse
import os
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
        if len(options.paths) != 1:
            raise ValueError(f"a zip is one data set, got {len(options.paths)}: {options.paths}")
        (self.path,) = options.paths
        self._opened: dict[int, ZipFile] = {}
        try:
            members = self._zip.infolist()
        except (BadZipFile, NotImplementedError) as error:
            raise gpuio.FormatError(f"{self.path}: {error}") from error
        # Of members with the same name, the last one counts.
        named = {m.filename: m for m in members if m.filename.lower().endswith(SUFFIXES)}
        self.members = [named[name] for name in sorted(named)]
        folders = [PurePosixPath(member.filename).parent.name for member in self.members]
        self.classes, numbers = np.unique(folders, return_inverse=True)
        self._labels = numbers.astype(np.float32)[:, None]

    @property
    def _zip(self) -> ZipFile:
        """The zip, opened once in each process: forked ones would share its place in the file.

        Any number of threads may read from it.
        """
        process = os.getpid()
        if process not in self._opened:
            self._opened = {process: ZipFile(self.path)}
        return self._opened[process]

    def __len__(self) -> int:
        return len(self.members)

    def read(self, record: int) -> gpuio.EncodedImage:
        try:
            image = self._zip.read(self.members[record])
        except OSError:
            raise
        except Exception as error:  # of the zip, or of what decompresses its members
            reason = str(error) or type(error).__name__
            raise gpuio.FormatError(f"{self.where(record)}: {reason}") from error
        return gpuio.EncodedImage(image, self._labels[record], record)

    def where(self, record: int) -> str:
        return f"{self.path}: {self.members[record].filename}"

    def fingerprint(self) -> int:
        rows = [f"{member.filename} {member.CRC}" for member in self.members]
        return int.from_bytes(blake2b("\n".join(rows).encode(), digest_size=6).digest())


gpuio.register_source(".zip", ZipSource)


def main() -> int:
    """Read one epoch, and print what each batch holds; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("zip", metavar="ZIP", help="images, with a folder for each class")
    args = parser.parse_args()
    with gpuio.ImageRecordIter(
        args.zip,
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
    sys.exit(main())
