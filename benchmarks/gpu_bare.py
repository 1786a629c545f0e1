"""Bare nvImageCodec: decoding alone, as fast as this GPU can, and the bound for gpuio.

python gpu_bare.py Bare SETTINGS     # SETTINGS is JSON
"""

from __future__ import annotations

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import sides
from gpu_sides import CHANNELS, encoded
from sides import Clock, Side

WAYS = {
    "default": "",
    "legacy": "nvjpeg_hw_decoder:force_legacy_batch=1",
    "single": "nvjpeg_hw_decoder:force_batch_single=1",
}
"""nvImageCodec's ways to give a batch to the engines, and its option for each."""

PLAIN = ":fancy_upsampling=0"


class Lane:
    """A decoder with a device of its own, and a thread that reads headers ahead, as gpuio does.

    Args:
        name: Of the device.
        threads: CPU threads.
        rec: Any .rec, for messages.
        batch_size: Images.
        options: Of the decoder.
    """

    def __init__(self, name, threads, rec, batch_size, options):
        from gpuio.devices import make_device
        from gpuio.pipeline.decode.base import DecoderOptions
        from gpuio.pipeline.decode.nvimgcodec_gpu import NvImageCodecGpuDecoder
        from gpuio.sources.recordio.source import RecordIOSource

        self.device = make_device(name, threads)
        told = DecoderOptions(self.device, CHANNELS, RecordIOSource.open(rec, ""))
        self.decoder = NvImageCodecGpuDecoder(told, **options)
        self.pool = ThreadPoolExecutor(1)
        self.failed = 0
        with self.device.scope():
            self.decoder.prepare(batch_size)

    def run(self, turns):
        """Decode batches until there are none, and wait for the device."""
        with self.device.scope():
            waiting = None
            for batch in turns:
                headers, waiting = waiting, self.pool.submit(self.decoder.open, batch)
                if headers is not None:
                    self.decode(headers.result())
            if waiting is not None:
                self.decode(waiting.result())
            self.device.record().synchronize()

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


class Bare(Side):
    """Bare nvImageCodec: its C API for whole batches from memory, called by gpuio's decode stage.

    `options`: `decoders`, how many work at once, each in a thread with its part of the CPU threads;
    `way`, one of `WAYS`; `fancy`, whether colours are smoothed; `pinned`, whether images are in
    pinned memory; and the decoders' own. `images` among the settings says how many different images
    are taken in turn.
    """

    def __init__(self, settings):
        super().__init__(settings)
        import numpy as np

        from gpuio.pipeline.read.reader import RecordBatch, Samples

        given = dict(settings["options"])
        pinned, count = given.pop("pinned", True), given.pop("decoders", 1)
        way = WAYS[given.pop("way", "default")]
        plain = "" if given.pop("fancy", True) else PLAIN
        given["settings"] = " ".join(filter(None, (way, plain, given.get("settings"))))
        threads = max(1, self.threads // count)
        self.lanes = []
        for _ in range(count):
            lane = Lane(settings["device"], threads, settings["rec"], self.batch_size, given)
            self.lanes.append(lane)
        images = encoded(settings["rec"], settings["images"])
        images = [images[k % len(images)] for k in range(max(len(images), self.batch_size))]
        nbytes = np.array([len(image) for image in images], np.int64)
        starts, total = np.cumsum(nbytes) - nbytes, int(nbytes.sum())
        make = self.lanes[0].device.empty_host
        self.memory = make(total) if pinned else np.empty(total, np.uint8)
        self.memory[:] = np.frombuffer(b"".join(images), np.uint8)
        self.batches = []
        for first in range(0, len(images) - self.batch_size + 1, self.batch_size):
            part = slice(first, first + self.batch_size)
            ids = np.arange(first, first + self.batch_size)
            samples = Samples(ids, ids, np.zeros((len(ids), 1), np.float32), 0)
            address = (self.memory.ctypes.data + starts[part]).astype(np.uint64)
            self.batches.append(RecordBatch(samples, address, nbytes[part], None))
        self.pool = ThreadPoolExecutor(count)

    def check(self, count):
        self.time(count)
        return {}

    def time(self, count):
        needed = -(-count // self.batch_size)
        turns = Turns(itertools.islice(itertools.cycle(self.batches), needed))
        clock = Clock()
        for done in [self.pool.submit(lane.run, turns) for lane in self.lanes]:
            done.result()
        result = clock.result(needed * self.batch_size)
        return {**result, "failed": sum(lane.failed for lane in self.lanes), "stats": self.stats()}

    def stats(self):
        """The decoders' figures: counts added up, all else as the first one has it."""
        first, *others = [lane.decoder.stats() for lane in self.lanes]
        counts = {"hardware", "hybrid", "cpu", "portable", "unwritten"} & first.keys()
        return first | {k: first[k] + sum(other[k] for other in others) for k in counts}

    def close(self):
        """Give the decoders back."""
        self.pool.shutdown()
        for lane in self.lanes:
            lane.close()


class Turns:
    """An iterator that several threads take from."""

    def __init__(self, of):
        self.lock, self.of = threading.Lock(), of

    def __iter__(self):
        with suppress(StopIteration):
            while True:
                with self.lock:
                    item = next(self.of)
                yield item


if __name__ == "__main__":
    sides.main({"Bare": Bare})
