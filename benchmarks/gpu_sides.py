"""The sides that gpu.py compares, each alone in a process, as sides.py has those of cpu.py.

    python gpu_sides.py SIDE SETTINGS     # SETTINGS is JSON

`device` among the settings is that of gpuio: "cuda:0"; or "simulated" for a trial without a GPU,
where the others use the CPU.
"""

from __future__ import annotations

import itertools
import time
from concurrent.futures import ThreadPoolExecutor

import sides
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
    """Base: batches that a GPU may still be writing when they are handed out."""

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
        return clock.result(done)


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


class Stage(Side):
    """Bare nvImageCodec: its C API for whole batches from memory, called by gpuio's decode stage.

    `options`: `kinds`, `chunk`, `settings` and `share` of the decoder; `pinned`, whether the
    images are in pinned memory. Headers are read in a second thread, as gpuio does. `images` says
    how many different ones are taken in turn.
    """

    def __init__(self, settings):
        super().__init__(settings)
        import numpy as np

        from gpuio.devices import make_device
        from gpuio.pipeline.decode.base import DecoderOptions
        from gpuio.pipeline.decode.nvimgcodec_gpu import NvImageCodecGpuDecoder
        from gpuio.pipeline.read.reader import RecordBatch, Samples
        from gpuio.sources.recordio.source import RecordIOSource

        given = dict(settings["options"])
        pinned = given.pop("pinned", True)
        self.device = make_device(settings["device"], self.threads)
        images = encoded(settings["rec"], settings["images"])
        images = [images[k % len(images)] for k in range(max(len(images), self.batch_size))]
        nbytes = np.array([len(image) for image in images], np.int64)
        starts = np.cumsum(nbytes) - nbytes
        total = int(nbytes.sum())
        self.memory = self.device.empty_host(total) if pinned else np.empty(total, np.uint8)
        self.memory[:] = np.frombuffer(b"".join(images), np.uint8)
        self.batches = []
        for first in range(0, len(images) - self.batch_size + 1, self.batch_size):
            part = slice(first, first + self.batch_size)
            ids = np.arange(first, first + self.batch_size)
            samples = Samples(ids, ids, np.zeros((len(ids), 1), np.float32), 0)
            address = (self.memory.ctypes.data + starts[part]).astype(np.uint64)
            self.batches.append(RecordBatch(samples, address, nbytes[part], None))
        told = DecoderOptions(self.device, CHANNELS, RecordIOSource.open(settings["rec"], ""))
        self.decoder = NvImageCodecGpuDecoder(told, **given)
        self.pool = ThreadPoolExecutor(1)
        self.failed = 0
        with self.device.scope():
            self.decoder.prepare(self.batch_size)

    def check(self, count):
        self.time(count)
        return {}

    def time(self, count):
        with self.device.scope():
            done, clock = 0, Clock()
            while done < count:
                done += self.all()
            self.device.record().synchronize()
            result = clock.result(done)
        return {**result, "failed": self.failed, "stats": self.decoder.stats()}

    def all(self):
        """Decode every batch once; how many images that were."""
        waiting = self.pool.submit(self.decoder.open, self.batches[0])
        for number in range(len(self.batches)):
            headers = waiting.result()
            if number + 1 < len(self.batches):
                waiting = self.pool.submit(self.decoder.open, self.batches[number + 1])
            self.decode(headers)
        return len(self.batches) * self.batch_size

    def decode(self, headers):
        """One batch, on its way when this returns."""
        import numpy as np

        from gpuio.pipeline.decode.jobs import DecodeJobs

        box = np.concatenate([np.zeros_like(headers.size), headers.size], axis=1)
        box[list(headers.pixels)] = 0
        jobs = DecodeJobs(headers, box, CHANNELS)
        self.device.work().start(self.decoder.decode(jobs), jobs.nbytes).join()
        self.failed += int(((box[:, 2] > 0) & ~self.decoder.decoded(jobs)).sum())
        self.decoder.release(headers)

    def close(self):
        """Give the decoder back."""
        self.pool.shutdown()
        self.decoder.close()


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


class Dali(OnDevice):
    """DALI's `mixed` pipeline; `options` are those of its decoder."""

    def __init__(self, settings):
        super().__init__(settings)
        import nvidia.dali
        from nvidia.dali import fn, pipeline_def, types

        self.versions = {"dali": nvidia.dali.__version__}
        self.gpu, rec, edge = gpu(settings), settings["rec"], self.edge
        kind = "cpu" if self.gpu is None else "mixed"

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
            images = fn.decoders.image(
                data, device=kind, output_type=types.RGB, **settings["options"]
            )
            if edge > 0:
                images = fn.resize(
                    images, resize_shorter=edge, interp_type=types.INTERP_LINEAR, antialias=False
                )
            images = fn.crop_mirror_normalize(
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
            return images, labels

        self.pipeline = pipeline()
        self.pipeline.build()

    def batch(self):
        return self.pipeline.run()[0]

    def host(self, batch):
        import numpy as np

        return np.asarray((batch if self.gpu is None else batch.as_cpu()).as_tensor())


class Torchvision(OnDevice):
    """torchvision's decode_jpeg for lists, and transforms v2, one by one as sizes differ."""

    def __init__(self, settings):
        super().__init__(settings)
        import torch
        import torchvision
        from torchvision.transforms import v2

        self.versions = {"torch": torch.__version__, "torchvision": torchvision.__version__}
        self.torch, self.io = torch, torchvision.io
        self.device = "cpu" if gpu(settings) is None else settings["device"]
        self.images = itertools.cycle(
            [
                torch.frombuffer(bytearray(data), dtype=torch.uint8)
                for data in encoded(settings["rec"], settings["images"])
            ]
        )
        resize = [v2.Resize(self.edge, antialias=False)] if self.edge > 0 else []
        self.each = v2.Compose([*resize, v2.RandomCrop(self.shape[1:]), v2.RandomHorizontalFlip()])
        self.all = v2.Compose([v2.ToDtype(torch.float16), v2.Normalize(MEAN, STD)])

    def batch(self):
        data = list(itertools.islice(self.images, self.batch_size))
        pictures = self.io.decode_jpeg(data, self.io.ImageReadMode.RGB, device=self.device)
        return self.all(self.torch.stack([self.each(picture) for picture in pictures]))

    def host(self, batch):
        return batch.cpu().numpy()

    def wait(self):
        if self.device != "cpu":
            self.torch.cuda.synchronize(self.device)


def rate(side, seconds):
    """Images per second of a side, over about so many seconds, and what it says besides."""
    begin = time.perf_counter()
    side.time(side.batch_size)
    first = side.batch_size / (time.perf_counter() - begin)
    result = side.time(max(side.batch_size, int(first * seconds)))
    return {
        "images_per_second": round(result["images"] / result["seconds"], 1),
        "cores": round(result["cpu"] / result["seconds"], 2),
        "failed": result["failed"],
    }


if __name__ == "__main__":
    sides.main({side.__name__: side for side in (Gpuio, Stage, Binding, Dali, Torchvision)})
