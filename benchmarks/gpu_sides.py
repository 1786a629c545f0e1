"""The sides that gpu.py compares, each alone in a process, as sides.py has those of cpu.py.

    python gpu_sides.py SIDE SETTINGS     # SETTINGS is JSON

Bare decoding through gpuio's decode stage is in gpu_bare.py, DALI and torchvision in gpu_peers.py.

`device` among the settings is that of gpuio: "cuda:0"; or "simulated" for a trial without a GPU,
where the others use the CPU.
"""

from __future__ import annotations

import itertools
import sys
import time

import sides
from gpu_child import answer
from sides import MEAN, STD, Clock, Side

CHANNELS = 3


def gpu(settings):
    """The number of the GPU, None for a trial without one."""
    kind, _, number = settings["device"].partition(":")
    return int(number or 0) if kind == "cuda" else None


def encoded(rec, count):
    """The first `count` images of a .rec, as they are stored."""
    from gpuio.formats.image_record import unpack
    from gpuio.recordio import MXRecordIO

    with MXRecordIO(rec, "r") as records:
        return [bytes(unpack(record)[1]) for record in itertools.islice(records, count)]


def make_loader(settings, **options):
    """gpuio's iterator with the steps that all sides do."""
    import gpuio

    mean = dict(zip(("mean_r", "mean_g", "mean_b"), MEAN, strict=True))
    std = dict(zip(("std_r", "std_g", "std_b"), STD, strict=True))
    given = {
        "path_imgidx": f"{settings['rec'][:-3]}idx",
        "shuffle": True,
        "resize": settings["resize"],
        "rand_crop": True,
        "rand_mirror": True,
        "dtype": "float16",
        "device": settings["device"],
        "preprocess_threads": settings["threads"],
    }
    return gpuio.ImageRecordIter(
        settings["rec"],
        tuple(settings["shape"]),
        settings["batch_size"],
        **(given | mean | std | options),
    )


class OnDevice(Side):
    """Base: batches that a GPU may still be writing when they are handed out.

    Attributes:
        crops: Images of the output for each one that is decoded.
    """

    crops = 1

    def host(self, batch):
        """A batch, once it is written, as a NumPy array."""
        raise NotImplementedError

    def wait(self):
        """Until all that was handed out is written."""

    def check(self, count):
        take = self.batch
        self.batch = lambda: self.host(take())
        try:
            return super().check(count)
        finally:
            del self.batch

    def time(self, count):
        for _ in range(self.warm()):
            self.batch()
        self.wait()
        done, clock = 0, Clock()
        while done < count:
            done += len(self.batch())
        self.wait()
        return clock.result(done * self.crops)


class Gpuio(OnDevice):
    """gpuio.ImageRecordIter; `options` are more of its parameters."""

    def __init__(self, settings):
        super().__init__(settings)
        self.loader = make_loader(settings, **settings["options"])
        self.last = None

    def batch(self):
        if not self.loader.iter_next():
            self.loader.reset()
            assert self.loader.iter_next()
        self.last = self.loader.getdata()[0]
        return self.last

    def host(self, batch):
        return batch.asnumpy()

    def wait(self):
        if self.last is not None:
            self.last.wait_to_read()

    def time(self, count):
        return {**super().time(count), "stats": self.loader.stats()}

    def close(self):
        """Give the loader back."""
        self.loader.close()


class Binding(Side):
    """Bare nvImageCodec through its own Python module, which allocates what it decodes to."""

    def __init__(self, settings):
        super().__init__(settings)
        from nvidia import nvimgcodec

        self.versions = {"nvimgcodec": nvimgcodec.__version__}
        self.images = encoded(settings["rec"], settings["images"])
        self.kept = []
        self.gpu, given = gpu(settings), {"max_num_cpu_threads": self.threads}
        if self.gpu is not None:
            self.decoder = nvimgcodec.Decoder(device_id=self.gpu, **given)
        else:
            alone = [nvimgcodec.Backend(nvimgcodec.BackendKind.CPU_ONLY)]
            device = nvimgcodec.NVIMGCODEC_DEVICE_CPU_ONLY
            self.decoder = nvimgcodec.Decoder(device_id=device, backends=alone, **given)
        self.params = nvimgcodec.DecodeParams(apply_exif_orientation=False)

    def check(self, count):
        self.time(count)
        return {}

    def time(self, count):
        done, failed, clock = 0, 0, Clock()
        turn = itertools.cycle(self.images)
        while done < count:
            batch = list(itertools.islice(turn, self.batch_size))
            images = self.decoder.decode(batch, params=self.params)
            failed += sum(image is None for image in images)
            self.kept = [images, *self.kept[:2]]
            done += len(batch)
        if self.gpu is not None:
            import cupy

            cupy.cuda.Device(self.gpu).synchronize()
        return {**clock.result(done), "failed": failed}


def rate(side, seconds):
    """Images per second of a side, over about so many seconds, and what it says besides."""
    begin = time.perf_counter()
    side.time(side.batch_size)
    first = side.batch_size / (time.perf_counter() - begin)
    result = side.time(max(side.batch_size, int(first * seconds)))
    return {
        "images_per_second": round(result["images"] / result["seconds"], 1),
        "cores": round(result["cpu"] / result["seconds"], 2),
        "failed": result.get("failed", 0),
    }


def pinned(settings):
    """Images per second of gpuio, by the part that the engines are pinned to."""
    for share in settings["shares"]:
        side = Gpuio(settings | {"options": {"engine_share": share}})
        try:
            yield {"share": share, **rate(side, settings["seconds"])}
        finally:
            side.close()


if __name__ == "__main__":
    if sys.argv[1] == "pinned":
        answer({"pinned": pinned})
    else:
        sides.main({side.__name__: side for side in (Gpuio, Binding)})
