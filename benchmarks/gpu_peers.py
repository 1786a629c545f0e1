"""What gpu.py compares gpuio with: DALI and torchvision, each alone in a process.

python gpu_peers.py SIDE SETTINGS          # SETTINGS is JSON
python gpu_peers.py dali SETTINGS          # how fast DALI is with which settings
"""

from __future__ import annotations

import itertools
import sys

import sides
from gpu_child import answer
from gpu_sides import OnDevice, encoded, gpu, rate
from sides import MEAN, STD

LOADS = (0.3, 0.5, 0.65, 0.8, 0.9, 1.0)
"""`hw_decoder_load`: DALI's default is 0.65."""


class Dali(OnDevice):
    """DALI's `mixed` pipeline; `options` are those of its decoder, and `crops` of each image."""

    def __init__(self, settings):
        super().__init__(settings)
        import nvidia.dali
        from nvidia import nvimgcodec  # noqa: F401  DALI looks for it beside itself alone
        from nvidia.dali import fn, pipeline_def, types

        self.versions = {"dali": nvidia.dali.__version__}
        self.gpu, rec, edge = gpu(settings), settings["rec"], self.edge
        kind = "cpu" if self.gpu is None else "mixed"
        options = dict(settings["options"])
        crops = self.crops = options.pop("crops", 1)

        @pipeline_def(
            batch_size=self.batch_size,
            num_threads=self.threads,
            device_id=self.gpu,
            prefetch_queue_depth=2,
            exec_dynamic=True,
        )
        def pipeline():
            data, labels = fn.readers.mxnet(
                path=[rec], index_path=[f"{rec[:-3]}idx"], random_shuffle=True
            )
            images = fn.decoders.image(data, device=kind, output_type=types.RGB, **options)
            if edge > 0:
                images = fn.resize(
                    images, resize_shorter=edge, interp_type=types.INTERP_LINEAR, antialias=False
                )
            outputs = [
                fn.crop_mirror_normalize(
                    images,
                    crop=self.shape[1:],
                    crop_pos_x=fn.random.uniform(range=(0, 1)),
                    crop_pos_y=fn.random.uniform(range=(0, 1)),
                    mirror=fn.random.coin_flip(),
                    mean=list(MEAN),
                    std=list(STD),
                    dtype=types.FLOAT16,
                    output_layout="CHW",
                )
                for _ in range(crops)
            ]
            return (*outputs, labels)

        self.pipeline = pipeline()
        self.pipeline.build()

    def batch(self):
        return self.pipeline.run()[0]

    def host(self, batch):
        import numpy as np

        return np.asarray((batch if self.gpu is None else batch.as_cpu()).as_tensor())


class Torchvision(OnDevice):
    """torchvision's decode_jpeg for lists, and transforms v2, one by one as sizes differ.

    `options` has `crops` of each image.
    """

    def __init__(self, settings):
        super().__init__(settings)
        import torch
        import torchvision
        from torchvision.transforms import v2

        self.versions = {"torch": torch.__version__, "torchvision": torchvision.__version__}
        self.torch, self.io = torch, torchvision.io
        self.device = "cpu" if gpu(settings) is None else settings["device"]
        self.crops = settings["options"].get("crops", 1)
        self.images = itertools.cycle(
            [
                torch.frombuffer(bytearray(data), dtype=torch.uint8)
                for data in encoded(settings["rec"], settings["images"])
            ]
        )
        resized = v2.Resize(self.edge, antialias=False)
        self.resize = resized if self.edge > 0 else lambda picture: picture
        self.crop = v2.Compose([v2.RandomCrop(self.shape[1:]), v2.RandomHorizontalFlip()])
        self.all = v2.Compose([v2.ToDtype(torch.float16), v2.Normalize(MEAN, STD)])

    def batch(self):
        data = list(itertools.islice(self.images, self.batch_size))
        pictures = self.io.decode_jpeg(data, self.io.ImageReadMode.RGB, device=self.device)
        sized = [self.resize(picture) for picture in pictures]
        for _ in range(self.crops):
            batch = self.all(self.torch.stack([self.crop(picture) for picture in sized]))
        return batch

    def host(self, batch):
        return batch.cpu().numpy()

    def wait(self):
        if self.device != "cpu":
            self.torch.cuda.synchronize(self.device)


def dali(settings):
    """Images per second of DALI, smooth colours and not, by the part that the engines get."""
    for smooth, load in itertools.product((True, False), settings.get("loads", LOADS)):
        options = {"jpeg_fancy_upsampling": smooth, "hw_decoder_load": load}
        side = Dali(settings | {"options": options})
        found = rate(side, settings["seconds"])
        del side
        yield {"fancy": smooth, "share": load, **found}


if __name__ == "__main__":
    if sys.argv[1] == "dali":
        answer({"dali": dali})
    else:
        sides.main({side.__name__: side for side in (Dali, Torchvision)})
