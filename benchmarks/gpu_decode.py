"""What nvImageCodec does on this GPU: how fast, with what settings, in which order, how exactly.

    python gpu_decode.py MEASUREMENT SETTINGS     # SETTINGS is JSON

gpu.py runs each of these in a process of its own, as some of them provoke what may crash.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from gpu_child import Row, answer
from gpu_loop import Marks
from gpu_sides import Stage, encoded, gpu, rate
from numba import cuda

from gpuio.devices import make_device
from gpuio.errors import DecodeError
from gpuio.formats.codec import decode_rgb
from gpuio.kernels.native import load8, store8
from gpuio.pipeline.decode import nvimgcodec_abi as abi
from gpuio.pipeline.decode.base import DecoderOptions
from gpuio.pipeline.decode.jobs import DecodeJobs
from gpuio.pipeline.decode.nvimgcodec_gpu import KINDS, NvImageCodecGpuDecoder
from gpuio.pipeline.read.reader import RecordBatch, Samples
from gpuio.sources.recordio.source import RecordIOSource

CHAIN = list(KINDS)
CHUNKS = (7, 16, 32, 64, 128)
OPTIONS = {
    "force_legacy_batch": "nvjpeg_hw_decoder:force_legacy_batch=1",
    "force_batch_single": "nvjpeg_hw_decoder:force_batch_single=1",
    "preallocated": "nvjpeg_hw_decoder:preallocate_batch_size={batch} "
    "nvjpeg_hw_decoder:preallocate_width_hint=1024 nvjpeg_hw_decoder:preallocate_height_hint=1024",
    "GPU Huffman": "nvjpeg_cuda_decoder:hybrid_huffman_threshold=0",
    "fancy_upsampling=0": ":fancy_upsampling=0",
}
"""More of nvImageCodec's settings to try, for the chain."""

SLOW = 0.1  # seconds that a queued kernel takes before it reads
_PATTERN = 0xAA

Pixels = npt.NDArray[np.uint8]


class Slots:
    """Pictures, each with a place of its own in the device's memory, decoded there in one call.

    Args:
        device: Of gpuio.
        images: Encoded.
        rec: Any .rec, for messages.
        options: Of the decoder.
    """

    def __init__(self, device: str, images: list[bytes], rec: str, **options: Any) -> None:
        self.device: Any = make_device(device, None)
        told = DecoderOptions(self.device, 3, RecordIOSource.open(rec, ""))
        self.decoder = NvImageCodecGpuDecoder(told, **options)
        self.decoder._warnings = None  # what codecs report is looked at, not what libjpeg prints
        self.put(images)
        sizes = [decode_rgb(image, 3).nbytes for image in images]
        self.nbytes = -(-max(*sizes, self.decoder.warm_up_nbytes) // 256) * 256 + 256
        driver = self.device._driver
        self.stream = driver.new_stream()
        self.arena = driver.empty_alone(self.nbytes * len(images))
        start = np.uint64(driver.address(self.arena))
        self.bases = start + np.arange(len(images), dtype=np.uint64) * np.uint64(self.nbytes)

    def put(self, images: list[bytes]) -> None:
        """Other images: what is larger than the first ones were is not decoded."""
        self.memory = [np.frombuffer(image, np.uint8) for image in images]
        ids = np.arange(len(images))
        samples = Samples(ids, ids, np.zeros((len(ids), 1), np.float32), 0)
        address = np.array([array.ctypes.data for array in self.memory], np.uint64)
        self.records = RecordBatch(
            samples, address, np.array([len(array) for array in self.memory], np.int64), None
        )

    def decode(self, windows: npt.NDArray[np.int32] | None = None) -> npt.NDArray[np.bool_]:
        """Decode all, or a window of each; (N,) which were. The device may still be at work."""
        headers = self.decoder.open(self.records)
        box = np.concatenate([np.zeros_like(headers.size), headers.size], axis=1)
        if windows is not None:
            box[:] = windows
        box[list(headers.pixels)] = 0
        box[3 * box[:, 2:].astype(np.int64).prod(axis=1) > self.nbytes - 256] = 0
        self.box = box
        jobs = DecodeJobs(headers, box, 3)
        (call,) = self.decoder.decode(jobs)
        with self.device._driver.scope(self.stream):
            call.kernel(call.table, self.bases, self.device._driver.handle(self.stream))
        done = self.decoder.decoded(jobs)
        self.decoder.release(headers)
        return done

    def wait(self) -> None:
        """Until the device has done its work."""
        driver = self.device._driver
        driver.synchronize(driver.record(self.stream))

    def pictures(self) -> list[Pixels]:
        """What was decoded last; nonsense where nothing was."""
        self.wait()
        memory = self.arena.get() if hasattr(self.arena, "get") else np.array(self.arena)
        starts = (self.bases - self.bases[0]).astype(np.int64).tolist()
        return [
            memory[start : start + height * width * 3].reshape(height, width, 3)
            for start, (_, _, height, width) in zip(starts, self.box.tolist(), strict=True)
        ]

    def close(self) -> None:
        self.decoder.close()


def hardware(settings: Row) -> Iterator[Row]:
    """The GPU, its JPEG engines, and what is installed for it."""
    device: Any = make_device(settings["device"], None)
    decoder = NvImageCodecGpuDecoder(
        DecoderOptions(device, 3, RecordIOSource.open(settings["rec"], ""))
    )
    engines = decoder.engines
    decoder.close()
    versions = {"nvimgcodec": ".".join(map(str, abi.load().version)), "cuda": abi.load().cuda}
    yield {
        "engines": engines.count,
        "engines_unavailable_reason": engines.reason,
        **versions,
        **(_properties(device.device_id) if device.device_id is not None else {}),
    }


def _properties(device_id: int) -> Row:
    import cupy

    runtime = cupy.cuda.runtime
    found = runtime.getDeviceProperties(device_id)
    return {
        "name": found["name"].decode(),
        "capability": f"{found['major']}.{found['minor']}",
        "multiprocessors": found["multiProcessorCount"],
        "memory": found["totalGlobalMem"],
        "l2": found["l2CacheSize"],
        "driver_cuda": runtime.driverGetVersion(),
        "runtime_cuda": runtime.runtimeGetVersion(),
    }


def _kinds(settings: Row) -> dict[str, list[str]]:
    """Each kind of codec alone, and all of them: those that are there, or those of `kinds`."""
    kinds = {"cpu": ["cpu"]}
    if gpu(settings) is not None:
        there = ("hardware", "hybrid", "cpu")[not settings["engines"] :]
        kinds = {kind: [kind] for kind in there} | {"chain": CHAIN}
    return {kind: kinds[kind] for kind in settings.get("kinds", kinds) if kind in kinds}


def rates(settings: Row) -> Iterator[Row]:
    """Images per second of bare decoding, kind by kind, setting by setting.

    The likeliest to matter come first: what has no time left is not measured.
    """
    kinds, batches, threads = _kinds(settings), settings["batches"], settings["threads"]
    usual = settings["batch_size"]
    most = list(kinds)[-1]

    def row(kind: str, batch: int, count: int, what: str = "", **options: Any) -> Row:
        given = {**settings, "batch_size": batch, "threads": count}
        side = Stage(given | {"options": {"kinds": kinds[kind], **options}})
        try:
            found = rate(side, settings["seconds"])
            split = {k: side.decoder.stats()[k] for k in (*CHAIN, "portable")}
        finally:
            side.close()
        return {"kind": kind, "batch": batch, "threads": count, "what": what, **found, **split}

    for kind, batch in itertools.product(reversed(kinds), batches):
        yield row(kind, batch, threads)
    for kind, count in itertools.product(reversed(kinds), settings["fewer_threads"]):
        yield row(kind, usual, count)
    yield row(most, usual, threads, "pageable", pinned=False)
    for chunk in [c for c in CHUNKS if c < usual]:
        yield row(most, usual, threads, f"chunks of {chunk}", chunk=chunk)
    for what, options in OPTIONS.items() if "hardware" in kinds else ():
        yield row(most, usual, threads, what, settings=options.format(batch=usual))
    for share in (0.65, 0.9) if "hardware" in kinds else ():
        yield row(most, usual, threads, f"share of engines {share}", share=share)


def decoders(settings: Row) -> Iterator[Row]:
    """One decoder, and two at once in two threads with half of the CPU threads each."""
    for count in (1, 2):
        threads = max(1, settings["threads"] // count)
        stages = [Stage(settings | {"threads": threads, "options": {}}) for _ in range(count)]
        found: list[Row] = []

        def run(stage: Stage, found: list[Row] = found) -> None:
            found.append(rate(stage, settings["seconds"]))

        workers = [threading.Thread(target=run, args=(stage,)) for stage in stages]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        together = sum(each["images_per_second"] for each in found)
        yield {"decoders": count, "threads": threads, "images_per_second": round(together, 1)}
        for stage in stages:
            stage.close()


def share(settings: Row) -> Iterator[Row]:
    """How many of a batch the engines get after a first batch of one image, and of a full one."""
    count = settings["batch_size"]
    images = list(itertools.islice(itertools.cycle(encoded(settings["rec"], count)), count))
    for first in (1, count):
        slots = Slots(settings["device"], images, settings["rec"])
        with slots.device.scope():
            stream = slots.device._driver.handle(slots.stream)
            slots.decoder.warm_up(first, slots.bases[:first], stream)
        slots.wait()
        done = slots.decode()
        slots.wait()
        stats = {kind: slots.decoder.stats()[kind] for kind in CHAIN}
        yield {"first_batch": first, "decoded": int(done.sum()), **stats}
        slots.close()


def read_late(source, turns, to):
    """A CUDA kernel of one thread: copies 64 bytes, after `turns` steps that take their time.

    Args:
        source: uint64, address.
        turns: int64.
        to: uint64, address of 65 bytes.
    """
    number = np.uint64(1)
    for turn in range(turns):
        number = number * np.uint64(6364136223846793005) + np.uint64(turn)
    for k in range(64):
        store8(to + np.uint64(k), np.int32(load8(source + np.uint64(k))))
    store8(to + np.uint64(64), np.int32(number >> np.uint64(56)))


READ_LATE = "void(uint64, int64, uint64)"


class _Reader:
    """Queues `read_late` on a stream, slowed down to about `SLOW` seconds."""

    def __init__(self, slots: Slots) -> None:
        self._driver, self._stream = slots.device._driver, slots.stream
        self._kept = self._driver.empty((65,), np.uint8)
        self._on_gpu = slots.device.device_id is not None
        if self._on_gpu:
            with self._driver.scope(self._stream):
                self._compiled = cuda.jit(READ_LATE)(read_late)
            self._turns = 1 << 16
            for _ in range(2):  # the first run also loads the code
                marks = Marks(slots.device)
                begin = marks.mark(self._stream)
                self.queue(self._driver.address(slots.arena))
                took = marks.seconds(begin, marks.mark(self._stream))
            self._turns = int(self._turns * SLOW / took)

    def queue(self, address: int) -> None:
        """Read from an address, later."""
        to = self._driver.address(self._kept)
        if self._on_gpu:
            with self._driver.scope(self._stream):
                stream = cuda.external_stream(self._driver.handle(self._stream))
                self._compiled[1, 1, stream](address, self._turns, to)
        else:
            self._driver.copy(to, address, 64, self._stream)

    def found(self) -> Pixels:
        """What was read."""
        kept = self._kept
        return (kept.get() if hasattr(kept, "get") else np.array(kept))[:64]


def order(settings: Row) -> Iterator[Row]:
    """Whether decoding waits for what its stream was given before.

    Memory is filled with a pattern; a kernel that takes 100 ms is queued, which then reads it; and
    without waiting for that, pictures are decoded to the same memory. `in_order` counts the turns
    in which the kernel found the pattern. Once as gpuio has it, with nvImageCodec told not to wait
    for the stream; once told to.
    """
    images = encoded(settings["rec"], settings["batch_size"])
    new = abi.ExecutionParams.new
    for (kind, kinds), waits in itertools.product(_kinds(settings).items(), (True, False)):
        abi.ExecutionParams.new = lambda w=waits, **g: new(**g | {"skip_pre_sync": not w})
        try:
            slots = Slots(settings["device"], images, settings["rec"], kinds=kinds)
        finally:
            abi.ExecutionParams.new = new
        driver, start = slots.device._driver, slots.device.address(slots.arena)
        slots.decode()
        slots.wait()
        reader, kept = _Reader(slots), 0
        for _ in range(settings["turns"]):
            driver.fill(start, _PATTERN, slots.arena.nbytes, slots.stream)
            slots.wait()
            reader.queue(start)
            slots.decode()
            slots.wait()
            kept += bool((reader.found() == _PATTERN).all())
        yield {"kind": kind, "told_to_wait": waits, "turns": settings["turns"], "in_order": kept}
        slots.close()


def damaged(image: bytes) -> dict[str, bytes]:
    """What may become of a JPEG."""
    rng = np.random.default_rng(0)
    middle, noisy = len(image) // 2, np.frombuffer(image, np.uint8).copy()
    noisy[middle : middle + 200] = rng.integers(0, 255, 200)
    return {
        "cut off": image[:middle],
        "cut off, with an end": image[:middle] + b"\xff\xd9",
        "noise inside": noisy.tobytes(),
        "noise behind its head": image[:700] + rng.bytes(len(image) // 4) + b"\xff\xd9",
        "noise": b"\xff\xd8\xff" + rng.bytes(3000) + b"\xff\xd9",
    }


def damage(settings: Row) -> Iterator[Row]:
    """What one damaged JPEG does to its batch: to its pixels, to the others, to the time it takes.

    `decoded` tells whether nvImageCodec took it for decoded; `apart` is the mean difference in
    levels from what libjpeg-turbo makes of it, where that makes anything; `others_lost` and
    `others_changed` count pictures beside it; `afterwards` whether a good batch is good again.
    """
    images = encoded(settings["rec"], settings["batch_size"])
    for kind, kinds in _kinds(settings).items():
        slots = Slots(settings["device"], images, settings["rec"], kinds=kinds)
        good = slots.decode()
        before = slots.pictures()
        usual = _time(slots)
        for name, data in damaged(images[0]).items():
            slots.put([data, *images[1:]])
            done, pictures = slots.decode(), slots.pictures()
            row = {"kind": kind, "damage": name, "decoded": bool(done[0])}
            row["others_lost"] = int((good[1:] & ~done[1:]).sum())
            changed = [
                bool((a != b).any())
                for a, b, ok in zip(before[1:], pictures[1:], done[1:], strict=True)
                if ok
            ]
            row["others_changed"] = sum(changed)
            row["apart"] = _apart(data, pictures[0]) if done[0] else None
            row["seconds"], row["usual_seconds"] = round(_time(slots), 4), round(usual, 4)
            slots.put(images)
            row["afterwards"] = bool((slots.decode() == good).all())
            yield row
        slots.close()


def _time(slots: Slots) -> float:
    """Seconds of decoding, the host's and the device's."""
    marks = Marks(slots.device)
    begin = marks.mark(slots.stream)
    slots.decode()
    return marks.seconds(begin, marks.mark(slots.stream))


def _apart(data: bytes, picture: Pixels) -> float | None:
    try:
        expected = decode_rgb(data, 3, tolerant=True)
    except DecodeError:
        return None
    return round(float(np.abs(picture.astype(np.int16) - expected).mean()), 3)


def difference(settings: Row) -> Iterator[Row]:
    """How far each kind's pixels are from libjpeg-turbo's, with smooth colours and without."""
    images = encoded(settings["rec"], settings["batch_size"])
    expected = [decode_rgb(image, 3) for image in images]
    for (kind, kinds), smooth in itertools.product(_kinds(settings).items(), (1, 0)):
        options = "" if smooth else ":fancy_upsampling=0"
        slots = Slots(settings["device"], images, settings["rec"], kinds=kinds, settings=options)
        done, pictures = slots.decode(), slots.pictures()
        apart = np.zeros(256, np.int64)
        for ok, picture, want in zip(done, pictures, expected, strict=True):
            if ok:
                levels = np.abs(picture.astype(np.int16) - want).ravel()
                apart += np.bincount(levels, minlength=256)
        stats = {k: slots.decoder.stats()[k] for k in CHAIN}
        yield {"kind": kind, "fancy_upsampling": smooth, **stats, **spread(apart)}
        slots.close()


def spread(apart: npt.NDArray[np.int64]) -> Row:
    """Mean, largest, and parts above some levels, of a (256,) histogram of differences."""
    total, levels = max(int(apart.sum()), 1), np.arange(256)
    row = {
        "values": int(apart.sum()),
        "mean": round(float((apart * levels).sum() / total), 4),
        "max": int(levels[apart > 0].max(initial=0)),
    }
    return row | {
        f"above_{k}": float(f"{apart[k + 1 :].sum() / total:.3g}") for k in (0, 1, 2, 4, 8)
    }


def regions(settings: Row) -> Iterator[Row]:
    """Windows of images: whether they are decoded, and to the pixels of the whole image.

    May crash: nvImageCodec 0.9.0 does on H100 and B200, see `gpuio.pipeline.decode.versions`.
    """
    images = encoded(settings["rec"], settings["batch_size"])
    rng = np.random.default_rng(0)
    for kind, kinds in _kinds(settings).items():
        slots = Slots(settings["device"], images, settings["rec"], kinds=kinds, windowed=True)
        whole_done, whole = slots.decode(), slots.pictures()
        sides = slots.box[:, 2:]
        size = np.maximum(1, sides * 7 // 10)
        at = (rng.random(sides.shape) * (sides - size + 1)).astype(np.int32)
        usual = _time(slots)
        windows = np.concatenate([at, size], axis=1).astype(np.int32)
        yield {"kind": kind, "started": True}
        done, parts = slots.decode(windows), slots.pictures()
        apart = np.zeros(256, np.int64)
        for ok, part, picture, (y, x, height, width) in zip(
            done & whole_done, parts, whole, windows.tolist(), strict=True
        ):
            if ok:
                wanted = picture[y : y + height, x : x + width].astype(np.int16)
                apart += np.bincount(np.abs(wanted - part).ravel(), minlength=256)
        yield {"kind": kind, "decoded": int(done.sum()), "of": len(done), **spread(apart)} | {
            "whole_seconds": round(usual, 4)
        }
        slots.close()


MEASUREMENTS = {
    m.__name__: m for m in (hardware, rates, decoders, share, order, damage, difference, regions)
}

if __name__ == "__main__":
    answer(MEASUREMENTS)
