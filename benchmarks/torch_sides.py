"""The sides of torch_loader.py: loaders for PyTorch, over one folder of JPEG files."""

from __future__ import annotations

import importlib.metadata
import io
import random
from pathlib import Path

import cv2
import numpy as np
import sides
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

DISTRIBUTIONS = ("torch", "pillow", "opencv-python-headless", "webdataset", "litdata")


class Transform:
    """JPEG bytes to a normalized tensor: shorter edge, random crop, random mirror."""

    def __init__(self, settings):
        self.pixels = {"pillow": pillow, "opencv": opencv}[settings["options"]["decoder"]]
        self.edge, (_, self.height, self.width) = settings["resize"], settings["shape"]
        self.mean, self.factor = np.float32(sides.MEAN), 1 / np.float32(sides.STD)

    def __call__(self, data):
        pixels = self.pixels(data, self.edge)
        y = random.randint(0, pixels.shape[0] - self.height)
        x = random.randint(0, pixels.shape[1] - self.width)
        pixels = pixels[y : y + self.height, x : x + self.width]
        if random.random() < 0.5:
            pixels = pixels[:, ::-1]
        image = np.empty((3, self.height, self.width), np.float32)
        np.subtract(pixels.transpose(2, 0, 1), self.mean[:, None, None], out=image)
        image *= self.factor[:, None, None]
        return torch.from_numpy(image)


def scaled(height, width, edge):
    """Width and height with a shorter edge of `edge`."""
    short = min(height, width)
    return width * edge // short, height * edge // short


def pillow(data, edge):
    """Decoded and resized by Pillow, as torchvision does with images of Pillow's."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    if edge > 0:
        image = image.resize(scaled(image.height, image.width, edge), Image.Resampling.BILINEAR)
    return np.asarray(image)


def opencv(data, edge):
    """Decoded and resized by OpenCV in one thread, as there is a worker for each core."""
    cv2.setNumThreads(0)
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    if edge > 0:
        pixels = cv2.resize(pixels, scaled(*pixels.shape[:2], edge))
    return pixels


class Files(Dataset):
    """A folder of files called `NUMBER.jpg`."""

    def __init__(self, folder, transform):
        self.paths = sorted(Path(folder).glob("*.jpg"))
        self.transform = transform

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, number):
        path = self.paths[number]
        return self.transform(path.read_bytes()), int(path.stem) % 1000


class Loader(sides.Side):
    """Base: `self.loader` gives `(images, labels)`, epoch after epoch."""

    def __init__(self, settings):
        super().__init__(settings)
        for name in DISTRIBUTIONS:
            try:
                self.versions[name] = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                continue
        self.loader = self.make()
        self.batches = iter(self.loader)

    def make(self):
        """The loader."""
        raise NotImplementedError

    def workers(self):
        """Keywords of a DataLoader: a worker for each core."""
        return {"num_workers": self.threads, "persistent_workers": True, "prefetch_factor": 2}

    def batch(self):
        try:
            images, _ = next(self.batches)
        except StopIteration:
            self.batches = iter(self.loader)
            images, _ = next(self.batches)
        return images

    def time(self, count):
        return {**super().time(count), "cpu": None}  # that of workers is not known


class GpuioTorch(Loader):
    """gpuio.ImageRecordIter(...).torch()."""

    def make(self):
        return sides.Gpuio({**self.settings, "options": {}}).iterator.torch()


class TorchFiles(Loader):
    """DataLoader over files."""

    def make(self):
        dataset = Files(self.settings["files"], Transform(self.settings))
        return DataLoader(dataset, self.batch_size, shuffle=True, drop_last=True, **self.workers())


class Webdataset(Loader):
    """WebDataset over tar files, resampled, so that there is no end of an epoch to wait for."""

    def make(self):
        import webdataset

        shards = sorted(str(path) for path in Path(self.settings["tars"]).glob("*.tar"))
        dataset = (
            webdataset.WebDataset(shards, resampled=True, shardshuffle=False)
            .shuffle(1000)
            .to_tuple("jpg", "cls")
            .map_tuple(Transform(self.settings), int)
            .batched(self.batch_size, partial=False)
        )
        return webdataset.WebLoader(dataset, batch_size=None, shuffle=False, **self.workers())


class Litdata(Loader):
    """LitData over chunks of its own."""

    def make(self):
        import litdata

        transform = Transform(self.settings)

        class Chunks(litdata.StreamingDataset):
            def __getitem__(self, number):
                data, label = super().__getitem__(number)
                return transform(data), label

        chunks = Chunks(self.settings["chunks"], shuffle=True, drop_last=True)
        return litdata.StreamingDataLoader(chunks, batch_size=self.batch_size, **self.workers())


SIDES = {side.__name__: side for side in (GpuioTorch, TorchFiles, Webdataset, Litdata)}


if __name__ == "__main__":
    sides.main(SIDES)
