"""Decoding alone, from memory and with nothing behind it: the bound for gpuio.

    python gpu_bare.py SIDE SETTINGS     # SETTINGS is JSON

`Bare` is nvImageCodec as it is, `Stage` is gpuio's decoder.
"""

from __future__ import annotations

import itertools
from collections import deque
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import sides
from gpu_chain import Chain
from gpu_sides import CHANNELS, encoded
from sides import Clock, Side

from gpuio.devices import make_device
from gpuio.pipeline.decode.base import DecoderOptions
from gpuio.pipeline.decode.jobs import DecodeJobs
from gpuio.pipeline.decode.nvimgcodec_gpu import NvImageCodecGpuDecoder
from gpuio.pipeline.read.reader import RecordBatch, Samples
from gpuio.sources.recordio.source import RecordIOSource


class Decoding(Side):
    """Base: whole batches from memory, their headers read in a second thread, as gpuio does.

    `options`: `decoders`, how many batches are decoded at once; `pinned`, whether images are in
    pinned memory; and those of the decoder. `images` among the settings says how many different
    images are taken in turn.
    """

    def __init__(self, settings):
        super().__init__(settings)
        overrides = dict(settings["options"])
        self.at_once, pinned = overrides.pop("decoders", 2), overrides.pop("pinned", True)
        self.device = make_device(settings["device"], self.threads)
        source = RecordIOSource.open(settings["rec"], "")
        self.decoder = self.make(DecoderOptions(self.device, CHANNELS, source), overrides)
        self.memory, self.batches = self.load(settings, pinned)
        self.pool = ThreadPoolExecutor(1)
        self.failed = 0
        with self.device.scope():
            self.decoder.prepare(self.batch_size)
        self.time(2 * self.batch_size)  # the first batch fixes what engines take at once

    def make(self, options, overrides):
        """The decoder."""
        raise NotImplementedError

    def load(self, settings, pinned):
        """Memory with encoded images, and batches of them."""
        images = encoded(settings["rec"], settings["images"])
        different = len(images)
        images = [images[k % different] for k in range(max(different, self.batch_size))]
        nbytes = np.array([len(image) for image in images], np.int64)
        starts, total = np.cumsum(nbytes) - nbytes, int(nbytes.sum())
        memory = self.device.empty_host(total) if pinned else np.empty(total, np.uint8)
        memory[:] = np.frombuffer(b"".join(images), np.uint8)
        batches = []
        for first in range(0, len(images) - self.batch_size + 1, self.batch_size):
            part = slice(first, first + self.batch_size)
            ids = np.arange(first, first + self.batch_size) % different
            samples = Samples(ids, ids, np.zeros((len(ids), 1), np.float32), 0)
            address = (memory.ctypes.data + starts[part]).astype(np.uint64)
            batches.append(RecordBatch(samples, address, nbytes[part], None))
        return memory, batches

    def check(self, count):
        self.time(count)
        return {}

    def time(self, count):
        needed = -(-count // self.batch_size)
        turns = itertools.islice(itertools.cycle(self.batches), needed)
        clock = Clock()
        with self.device.scope():
            self.run(turns)
            self.device.record().synchronize()
        result = clock.result(needed * self.batch_size)
        self.device.rest()
        return {**result, "failed": self.failed, "stats": self.decoder.stats()}

    def run(self, turns):
        """Decode batches, `at_once` of them at the same time."""
        running = deque()
        opening = deque([self.pool.submit(self.decoder.open, next(turns))])
        while opening:
            headers = opening.popleft().result()
            opening += [self.pool.submit(self.decoder.open, batch) for batch in [*_one(turns)]]
            if len(running) == self.at_once:
                self.finish(*running.popleft())
            running.append(self.start(headers))
        while running:
            self.finish(*running.popleft())

    def start(self, headers):
        """Begin to decode a batch."""
        box = np.concatenate([np.zeros_like(headers.size), headers.size], axis=1)
        box[list(headers.pixels)] = 0
        jobs = DecodeJobs(headers, box, CHANNELS)
        return self.device.work().start(self.decoder.decode(jobs), jobs.nbytes), jobs

    def finish(self, work, jobs):
        """Wait until the host has done its part of a batch."""
        work.join()
        self.failed += int(((jobs.box[:, 2] > 0) & ~self.decoder.decoded(jobs)).sum())
        self.decoder.release(jobs.headers)

    def close(self):
        """Give the decoder back."""
        self.pool.shutdown()
        self.decoder.close()


class Bare(Decoding):
    """nvImageCodec as it is; the decoders of batches at once have the CPU threads together."""

    def make(self, options, overrides):
        return Chain(options, threads=max(1, self.threads // self.at_once), **overrides)


class Stage(Decoding):
    """gpuio's decoder."""

    def make(self, options, overrides):
        return NvImageCodecGpuDecoder(options, **overrides)


def _one(items):
    """The next item, if there is one."""
    return itertools.islice(items, 1)


if __name__ == "__main__":
    sides.main({side.__name__: side for side in (Bare, Stage)})
