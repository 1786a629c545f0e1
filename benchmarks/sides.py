"""One side of a comparison, alone in a process: told over a pipe how many images to deliver.

    python sides.py SIDE SETTINGS     # SETTINGS is JSON

Each line that comes in is a number of images; each line that goes out is JSON about them. Nothing
is imported but what the side needs, so the interpreter of any environment will do. A side delivers
batches without end, one epoch after the other. Some are taken before the clock starts, so that
what was read ahead does not count, and the answer comes when the process has come to rest, so that
it does not disturb the next side.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

MEAN = (123.68, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)
REST = 0.05  # seconds without work that count as rest


class Clock:
    """Time since it was made, on the wall and on all cores."""

    def __init__(self):
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def result(self, images):
        """Both, with what was done."""
        wall, cpu = time.perf_counter() - self.wall, time.process_time() - self.cpu
        return {"images": images, "seconds": wall, "cpu": cpu}


class Side:
    """Base: batches without end."""

    def __init__(self, settings):
        self.versions = {}
        self.settings = settings
        self.shape = tuple(settings["shape"])
        self.batch_size = settings["batch_size"]
        self.threads = settings["threads"]
        self.edge = settings["resize"]
        self.augment = settings.get("augment", {})

    def keywords(self):
        """What ImageRecordIter, ours and MXNet's, does to an image."""
        normalize = {
            f"{name}_{channel}": value
            for name, values in (("mean", MEAN), ("std", STD))
            for channel, value in zip("rgb", values)  # noqa: B905  also for the oldest Python
        }
        plain = {"resize": self.edge, "rand_crop": True, "rand_mirror": True}
        return {**plain, **normalize, **self.augment}

    def batch(self):
        """The next batch, ready, as something that NumPy takes."""
        raise NotImplementedError

    def warm(self):
        """Batches after which nothing that was read ahead is left."""
        return 8

    def check(self, count):
        """Mean, deviation and shape of the next `count` images, which also compiles all code."""
        import numpy as np

        done, mean, square, shape = 0, 0.0, 0.0, ()
        while done < count:
            pixels = np.asarray(self.batch())
            shape = pixels.shape
            done += len(pixels)
            mean += float(pixels.mean(dtype=np.float64)) * len(pixels)
            square += float((pixels.astype(np.float32) ** 2).mean(dtype=np.float64)) * len(pixels)
        mean, square = mean / done, square / done
        deviation = (square - mean**2) ** 0.5
        return {"images": done, "mean": mean, "std": deviation, "shape": list(shape)}

    def time(self, count):
        """What a `Clock` says about at least `count` images."""
        for _ in range(self.warm()):
            self.batch()
        done, clock = 0, Clock()
        while done < count:
            done += len(self.batch())
        return clock.result(done)


class Gpuio(Side):
    """gpuio.ImageRecordIter."""

    def __init__(self, settings):
        super().__init__(settings)
        import gpuio

        self.iterator = gpuio.ImageRecordIter(
            [settings["rec"]] * settings["epoch"],
            self.shape,
            self.batch_size,
            shuffle=True,
            **{
                "device": "cpu",
                "preprocess_threads": self.threads,
                **settings.get("options", {}),
            },
            **self.keywords(),
        )

    def batch(self):
        if not self.iterator.iter_next():
            self.iterator.reset()
            assert self.iterator.iter_next()
        return self.iterator.getdata()[0]

    def time(self, count):
        return {**super().time(count), "stats": self.iterator.stats()}


class GpuioBesideThread(Gpuio):
    """gpuio, with a thread that runs pure Python, as a training loop might."""

    def time(self, count):
        stop, turns = threading.Event(), [0]

        def spin():
            total = 0
            while not stop.is_set():
                for number in range(1000):
                    total += number
                turns[0] += 1

        thread = threading.Thread(target=spin)
        thread.start()
        try:
            return {**super().time(count), "turns": turns[0], "cpu": None}
        finally:
            stop.set()
            thread.join()


class GpuioBesideProcess(Gpuio):
    """gpuio, with the same in another process: it takes the core, but not the GIL."""

    def time(self, count):
        other = subprocess.Popen([sys.executable, "-c", "while True: sum(range(1000))"])
        try:
            return super().time(count)
        finally:
            other.kill()
            other.wait()


class Bare(Side):
    """Base: whole images decoded from memory, and nothing else."""

    def __init__(self, settings):
        super().__init__(settings)
        from gpuio.formats.image_record import unpack
        from gpuio.recordio import MXRecordIO

        with MXRecordIO(settings["rec"], "r") as records:
            self.images = [bytes(unpack(record)[1]) for record in records]

    def check(self, count):
        self.time(count)
        return {}

    def time(self, count):
        done, clock = 0, Clock()
        while done < count:
            self.all()
            done += len(self.images)
        return clock.result(done)

    def all(self):
        """Decode every image once."""
        raise NotImplementedError


class BareSimplejpeg(Bare):
    """libjpeg-turbo through simplejpeg, in Python threads, each with a buffer that stays warm.

    Images that it does not decode to colours, such as CMYK, are decoded by gpuio's portable codec.
    """

    def __init__(self, settings):
        super().__init__(settings)
        import simplejpeg

        from gpuio.formats.codec import decode_rgb

        self.decode, self.decode_other = simplejpeg.decode_jpeg, decode_rgb
        nbytes = [self.nbytes(data) for data in self.images]
        self.images = [(data, size > 0) for data, size in zip(self.images, nbytes)]  # noqa: B905
        self.buffers = [bytearray(max(nbytes)) for _ in range(self.threads)]
        self.pool = ThreadPoolExecutor(self.threads)

    def nbytes(self, data):
        """Bytes of the pixels of an image; 0 if simplejpeg does not decode it to colours."""
        import simplejpeg

        try:
            height, width, space, _ = simplejpeg.decode_jpeg_header(data, strict=False)
        except (ValueError, KeyError):  # as its binding fails: for subsampled CMYK, for one
            return 0
        return 0 if space in ("CMYK", "YCCK") else 3 * height * width

    def all(self):
        list(self.pool.map(self.some, range(self.threads)))

    def some(self, number):
        decode, buffer = self.decode, self.buffers[number]
        for data, plain in self.images[number :: self.threads]:
            if plain:
                decode(data, buffer=buffer, strict=False)
            else:
                self.decode_other(data, 3)


class BareNvimgcodec(Bare):
    """libjpeg-turbo within nvImageCodec, called from compiled threads by gpuio's decode stage."""

    def __init__(self, settings):
        super().__init__(settings)
        import numpy as np

        from gpuio.devices.cpu import CpuDevice
        from gpuio.pipeline.decode.base import DecoderOptions
        from gpuio.pipeline.decode.nvimgcodec import NvImageCodecDecoder
        from gpuio.pipeline.read.reader import RecordBatch, Samples
        from gpuio.sources.recordio.source import RecordIOSource

        count = len(self.images)
        self.memory = [np.frombuffer(data, np.uint8) for data in self.images]
        ids = np.arange(count)
        samples = Samples(ids, ids, np.zeros((count, 1), np.float32), 0)
        address = np.array([array.ctypes.data for array in self.memory], np.uint64)
        nbytes = np.array([len(array) for array in self.memory], np.int64)
        self.records = RecordBatch(samples, address, nbytes, None)
        self.device = CpuDevice(self.threads)
        dataset = RecordIOSource.open(settings["rec"], "")
        self.decoder = NvImageCodecDecoder(DecoderOptions(self.device, 3, dataset))

    def all(self):
        import numpy as np

        from gpuio.pipeline.decode.jobs import DecodeJobs

        headers = self.decoder.open(self.records)
        box = np.concatenate([np.zeros_like(headers.size), headers.size], axis=1)
        box[[*headers.pixels, *headers.later]] = 0  # `open` has decoded these, or `retry` will
        jobs = DecodeJobs(headers, box, 3)
        self.device.work().start(self.decoder.decode(jobs), jobs.nbytes).join()
        while again := self.decoder.retry(self.records, jobs):
            jobs.drop(again)
        done = self.decoder.decoded(jobs)
        done[[*headers.pixels, *jobs.retried]] = True
        faults = [*map(str, self.records.samples.faults.values())]
        assert not faults, faults
        assert done.all()
        self.decoder.release(headers)


class MXNet(Side):
    """MXNet's ImageRecordIter; `options` are those that differ between its settings."""

    def __init__(self, settings):
        super().__init__(settings)
        import mxnet

        self.versions = {"mxnet": mxnet.__version__}
        self.iterator = mxnet.io.ImageRecordIter(
            path_imgrec=";".join([settings["rec"]] * settings["epoch"]),
            data_shape=self.shape,
            batch_size=self.batch_size,
            shuffle=True,
            verbose=False,
            **self.keywords(),
            **settings["options"],
        )

    def warm(self):
        return 24  # up to 16 batches wait, and some more between the threads

    def batch(self):
        try:
            batch = self.iterator.next()
        except StopIteration:
            self.iterator.reset()
            batch = self.iterator.next()
        data = batch.data[0]
        data.wait_to_read()
        return data

    def check(self, count):
        take = self.batch
        self.batch = lambda: take().asnumpy()
        try:
            return super().check(count)
        finally:
            del self.batch


class ImageIter(Side):
    """mx.image.ImageIter, of the module in `options`; their rest are its keywords."""

    def __init__(self, settings):
        super().__init__(settings)
        import importlib

        import numpy as np

        options = dict(settings["options"])
        name = options.pop("module")
        module = importlib.import_module(name)
        self.versions = {name: module.__version__}
        self.iterator = module.image.ImageIter(
            self.batch_size,
            self.shape,
            path_imgrec=settings["rec"],
            path_imgidx=f"{settings['rec'][:-3]}idx",
            shuffle=True,
            resize=max(self.edge, 0),
            rand_crop=True,
            rand_mirror=True,
            mean=np.array(MEAN),
            std=np.array(STD),
            inter_method=1,
            **options,
        )

    def warm(self):
        return 4  # the chunk that is handed out, and those that are drawn ahead of it

    def batch(self):
        try:
            batch = self.iterator.next()
        except StopIteration:
            self.iterator.reset()
            batch = self.iterator.next()
        data = batch.data[0]
        data.wait_to_read()
        return data

    def check(self, count):
        take = self.batch
        self.batch = lambda: take().asnumpy()
        try:
            return super().check(count)
        finally:
            del self.batch


class OwnAugmenter(ImageIter):
    """The same with an augmenter that is no part of the library, which changes nothing."""

    def __init__(self, settings):
        super().__init__(settings)
        self.iterator.auglist.append(lambda image: image)


class Dali(Side):
    """DALI's CPU pipeline, with the operators and settings of its documentation."""

    def __init__(self, settings):
        super().__init__(settings)
        import nvidia.dali
        from nvidia.dali import fn, pipeline_def, types

        self.versions = {"dali": nvidia.dali.__version__}
        rec = settings["rec"]

        @pipeline_def(
            batch_size=self.batch_size,
            num_threads=self.threads,
            device_id=None,
            prefetch_queue_depth=2,
            exec_dynamic=True,
        )
        def pipeline():
            encoded, labels = fn.readers.mxnet(
                path=[rec], index_path=[f"{rec[:-3]}idx"], random_shuffle=True
            )
            images = fn.crop_mirror_normalize(
                self.images(encoded),
                crop=self.shape[1:],
                crop_pos_x=fn.random.uniform(range=(0, 1)),
                crop_pos_y=fn.random.uniform(range=(0, 1)),
                mirror=fn.random.coin_flip(),
                mean=list(MEAN),
                std=list(STD),
                dtype=types.FLOAT,
                output_layout="CHW",
            )
            return images, labels

        self.pipeline = pipeline()
        self.pipeline.build()

    def images(self, encoded):
        """What is cropped, mirrored and normalized."""
        from nvidia.dali import fn, types

        images = fn.decoders.image(encoded, device="cpu", output_type=types.RGB)
        if self.edge > 0:
            images = fn.resize(images, resize_shorter=self.edge, **self.bilinear())
        return images

    def bilinear(self):
        """How all sides resize."""
        from nvidia.dali import types

        return {"interp_type": types.INTERP_LINEAR, "antialias": False}

    def batch(self):
        return self.pipeline.run()[0].as_tensor()

    def time(self, count):
        for _ in range(self.warm()):
            self.batch()
        batches = -(-count // self.batch_size)
        clock = Clock()
        for _ in range(batches):
            self.batch()
        return clock.result(batches * self.batch_size)


class DaliAugment(Dali):
    """The same with the operators that are nearest to gpuio's keywords, the fastest order first."""

    def images(self, encoded):
        from nvidia.dali import fn, types

        given = self.augment
        height, width = self.shape[1:]
        if "random_resized_crop" in given:
            images = fn.decoders.image_random_crop(
                encoded,
                device="cpu",
                output_type=types.RGB,
                random_area=[given["min_random_area"], given["max_random_area"]],
                random_aspect_ratio=[given["min_aspect_ratio"], given["max_aspect_ratio"]],
                num_attempts=10,
            )
            images = fn.resize(images, resize_x=width, resize_y=height, **self.bilinear())
        else:
            images = super().images(encoded)
        if "max_rotate_angle" in given:
            images = self.warped(images)
        if "brightness" in given:
            images = fn.crop(
                images,
                crop=(height, width),
                crop_pos_x=fn.random.uniform(range=(0, 1)),
                crop_pos_y=fn.random.uniform(range=(0, 1)),
            )
            factors = {
                name: fn.random.uniform(range=(1 - given[name], 1 + given[name]))
                for name in ("brightness", "contrast", "saturation")
            }
            images = fn.color_twist(images, **factors)
        return images

    def warped(self, images):
        """Turned and sheared about the middle, and cropped at random, in one warp."""
        from nvidia.dali import fn, types

        angle, shear = self.augment["max_rotate_angle"], self.augment["max_shear_ratio"]
        height, width = self.shape[1:]
        size = images.shape(dtype=types.FLOAT)
        center = fn.stack(size[1], size[0]) / 2
        place = fn.random.uniform(range=(0, 1)), fn.random.uniform(range=(0, 1))
        left, top = place[0] * (size[1] - width), place[1] * (size[0] - height)
        factors = fn.stack(fn.random.uniform(range=(-shear, shear)), types.Constant(0.0))
        matrix = fn.transforms.shear(shear=factors, center=center)
        turn = fn.random.uniform(range=(-angle, angle))
        matrix = fn.transforms.rotation(matrix, angle=turn, center=center)
        matrix = fn.transforms.translation(matrix, offset=-fn.stack(left, top))
        return fn.warp_affine(
            images, matrix=matrix, size=(height, width), inverse_map=False, fill_value=255,
            interp_type=types.INTERP_LINEAR,
        )  # fmt: skip


SIDES = {
    side.__name__: side
    for side in (
        Gpuio,
        GpuioBesideThread,
        GpuioBesideProcess,
        BareSimplejpeg,
        BareNvimgcodec,
        MXNet,
        ImageIter,
        OwnAugmenter,
        Dali,
        DaliAugment,
    )
}


def rest():
    """Wait until this process does nothing any more: queues are full, threads asleep."""
    while True:
        before = work()
        time.sleep(REST)
        if work() - before < REST / 20:
            return


def work():
    """CPU seconds of this process, and of those that it has started by multiprocessing."""
    total = time.process_time()
    if "multiprocessing" in sys.modules:
        for child in sys.modules["multiprocessing"].active_children():
            stat = Path(f"/proc/{child.pid}/stat")
            if stat.exists():
                user, system = stat.read_text().rpartition(")")[2].split()[11:13]
                total += (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
    return total


def main(sides):
    """Answer what is asked for, as a side of these."""
    # Libraries print; the answers go to where the output was, and all else to the errors.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    side = sides[sys.argv[1]](json.loads(sys.argv[2]))
    checked = side.check(side.settings["check"])
    rest()
    print(json.dumps({**checked, "versions": side.versions}), file=answers)
    for line in sys.stdin:
        result = side.time(int(line))
        rest()
        print(json.dumps(result), file=answers)


if __name__ == "__main__":
    main(SIDES)
