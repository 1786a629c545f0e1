"""All kinds of codecs that a GPU has in nvImageCodec, at work on a batch at the same time.

Each lane has a decoder of each kind. A kind gets the part of the batch that it decodes while the
others are at work; images that it cannot decode go to the kinds after it. Engines that fail with
two batches in a row are not used again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from gpuio.errors import BackendError
from gpuio.pipeline.decode import nvimgcodec_abi as abi
from gpuio.pipeline.decode.base import DecoderOptions
from gpuio.pipeline.decode.batch_split import KINDS, BatchSplit, pixels_of, takes
from gpuio.pipeline.decode.codec_memory import open_codec_memory
from gpuio.pipeline.decode.cpu_codecs import CpuCodecs, StagedDecoder
from gpuio.pipeline.decode.engine_health import EngineHealth
from gpuio.pipeline.decode.hardware import Engines, warn_without_engines
from gpuio.pipeline.decode.nvimgcodec_base import pixel_info, release
from gpuio.pipeline.decode.nvimgcodec_messages import Messages
from gpuio.pipeline.decode.nvimgcodec_native import MAX_THREADS, NativeDecoder

if TYPE_CHECKING:
    from gpuio.devices.lanes import Lane

_ENGINE_THREADS: Final = 2  # they read headers

KindDecoder: TypeAlias = NativeDecoder | StagedDecoder
"""A decoder of one kind."""


class GpuCodecs:
    """Decodes batches with several kinds of codecs.

    Args:
        options: As for every decoder.
        instance: nvImageCodec, started.
        messages: Messages of the library.
        engines: JPEG engines of the GPU.
        kinds: Some of `KINDS`, in their order.
        warnings: The listener of libjpeg's warnings; None where they cannot be seen.
        chunk: The most images in one call of codecs of the GPU; None for all of a kind's part.
        settings: More options of nvImageCodec.

    Attributes:
        engines: JPEG engines in use: those given, or none if they do not start.
        lanes: For each lane, a decoder of each kind.

    Raises:
        BackendError: nvImageCodec has no decoder of a kind.
    """

    def __init__(
        self,
        options: DecoderOptions,
        instance: abi.Instance,
        messages: Messages,
        engines: Engines,
        kinds: Sequence[str],
        warnings: npt.NDArray[np.void] | None,
        *,
        chunk: int | None = None,
        settings: str = "",
    ) -> None:
        self.engines = engines
        self._device, self._channels = options.device, options.channels
        self._instance, self._messages, self._warnings = instance, messages, warnings
        self._chunk, self._settings, self._threads = chunk, settings, _threads(options)
        self._split = BatchSplit(
            kinds,
            engines.count,
            self._threads,
            engine_share=options.engine_share,
            measured=not options.deterministic,
        )
        self._lock = threading.Lock()  # of all figures: lanes write them
        self._health = EngineHealth()
        self._decoded = dict.fromkeys(KINDS, 0)
        ordinal = self._device.device_id
        self._memory = None if ordinal is None else open_codec_memory(ordinal)
        with self._device.scope():
            self.lanes = self._make_decoders(list(kinds))

    def close(self) -> None:
        """Destroy all decoders, and free their memory."""
        for lane in self.lanes:
            for decoder in lane:
                decoder.close()
        if self._memory is not None:
            self._memory.close()

    def parts(
        self, table: npt.NDArray[np.void], places: npt.NDArray[np.int64]
    ) -> dict[str, npt.NDArray[np.int64]]:
        """By kind, the places of the images of an IMAGE_JOB table that it is to decode."""
        engines = self.engines.count > 0 and not self._health.reason
        return self._split.parts(table, places, engines=engines)

    def stats(self) -> dict[str, object]:
        """Figures: see `NvImageCodecGpuDecoder.stats`."""
        with self._lock:
            failed = self._health.reason
            return {
                "engines": 0 if failed else self.engines.count,
                "engines_unavailable_reason": failed or self.engines.reason,
                **self._decoded,
                **self._split.stats(),
                "engine_failures": self._health.failures,
                "decoder_messages": self._messages.recent(),
            }

    def warm_up(
        self, table: npt.NDArray[np.void], bases: npt.NDArray[np.uint64], lane: Lane
    ) -> None:
        """A `HostStep`: decode all images of an IMAGE_JOB table with each kind."""
        places = np.flatnonzero(table["stream"])
        try:
            for decoder in self.lanes[lane.number]:
                decoder.decode(table, places, bases, lane)
                lane.synchronize()
        finally:
            release(self._instance, table)

    def decode(
        self,
        table: npt.NDArray[np.void],
        parts: Mapping[str, npt.NDArray[np.int64]],
        bases: npt.NDArray[np.uint64],
        lane: Lane,
    ) -> None:
        """Decode a batch, and close its code streams; `status` of the table is written.

        Args:
            table: (N,) IMAGE_JOB.
            parts: From `parts`.
            bases: (N,) addresses of the items' memory, which no other work still uses.
            lane: The lane that the batch is in.
        """
        decoders = self.lanes[lane.number]
        try:
            self._decode_parts(
                [(each, parts[each.kind]) for each in decoders if each.kind in parts],
                table,
                bases,
                lane,
            )
            taken = np.zeros(len(table), bool)  # by the engines
            taken[parts.get("hardware", [])] = True
            taken &= np.isin(table["status"], abi.TAKEN)
            decoded = taken & (table["status"] == abi.SUCCESS)
            had = np.zeros(len(table), bool)  # by a kind before this one
            for decoder in decoders:
                left = had & (table["status"] != abi.SUCCESS) & takes(decoder.kind, table)
                if left.any():
                    table["planar"][left] = 0  # all kinds can decode to pixels
                    self._decode_parts([(decoder, np.flatnonzero(left))], table, bases, lane)
                had[parts.get(decoder.kind, [])] = True
        finally:
            release(self._instance, table)
        if taken.any():
            rescued = taken & ~decoded & (table["status"] == abi.SUCCESS)
            self._note_engines(decoded=bool(decoded.any()), rescued=bool(rescued.any()))

    def _decode_parts(
        self,
        parts: Sequence[tuple[KindDecoder, npt.NDArray[np.int64]]],
        table: npt.NDArray[np.void],
        bases: npt.NDArray[np.uint64],
        lane: Lane,
    ) -> None:
        """Decode the images at some places with each kind of codec, all at the same time."""
        calls = [partial(self._decode_part, *part, table, bases) for part in parts]
        if len(calls) == 1:
            calls[0](lane)
        elif calls:
            lane.together(calls)

    def _decode_part(
        self,
        decoder: KindDecoder,
        places: npt.NDArray[np.int64],
        table: npt.NDArray[np.void],
        bases: npt.NDArray[np.uint64],
        lane: Lane,
    ) -> None:
        """Decode images with one kind of codec, count them, and measure how fast it is."""
        begin = time.perf_counter()
        try:
            decoder.decode(table, places, bases, lane)
        finally:  # its memory is used by the next batch, also after an error
            lane.synchronize()  # the device is done only now
        done = table[places[table["status"][places] == abi.SUCCESS]]
        if len(done):  # failures say nothing about the rate
            self._split.report(decoder.kind, pixels_of(done), begin, time.perf_counter())
        with self._lock:
            self._decoded[decoder.kind] += len(done)

    def _note_engines(self, *, decoded: bool, rescued: bool) -> None:
        """Record whether the engines decoded a batch; warn when they are given up."""
        with self._lock:
            given_up = self._health.note(
                decoded=decoded, rescued=rescued, words=self._messages.recent()
            )
        if given_up:
            warn_without_engines(self._health.reason)

    def _make_decoders(self, kinds: list[str]) -> list[list[KindDecoder]]:
        """For each lane, a decoder of each kind; engines that do not start are left out.

        Raises:
            BackendError: nvImageCodec has no decoder of a kind.
        """
        made: list[list[KindDecoder]] = [[] for _ in range(self._device.max_in_flight)]
        try:
            for lane in made:
                for kind in kinds:
                    lane.append(self._make_decoder(kind))
        except BackendError as error:
            for decoder in chain.from_iterable(made):
                decoder.close()
            if kinds[0] != "hardware" or len(kinds) == 1:
                raise
            self.engines = Engines(0, str(error))
        else:
            return made
        warn_without_engines(self.engines.reason)
        return self._make_decoders(kinds[1:])

    def _make_decoder(self, kind: str) -> KindDecoder:
        """A decoder of a kind.

        Raises:
            BackendError: nvImageCodec has none; the message has its own words.
        """
        on_host, threads = self._device.device_id is None, self._threads[kind]
        try:
            if kind == "cpu":
                threads = max(1, threads)  # for what no other kind takes
                codecs = CpuCodecs(
                    self._instance, self._channels, threads, self._warnings, self._settings
                )
                return StagedDecoder(self._device, codecs)
            return NativeDecoder(
                self._instance,
                kind,
                self._device.device_id,
                pixel_info(self._channels, on_host=on_host),
                threads=threads,
                settings=self._settings,
                chunk=self._chunk,
                memory=self._memory,
            )
        except BackendError as error:
            words = "; ".join(self._messages.recent())
            raise BackendError(f"{error} ({words})" if words else str(error)) from error


def _threads(options: DecoderOptions) -> dict[str, int]:
    """CPU threads of a decoder of each kind, of which each lane has one."""
    device, beside = options.device, options.decode_threads
    usual = max(1, min(device.threads, MAX_THREADS) // device.max_in_flight)
    cpu = usual if beside is None else -(-beside // device.max_in_flight)
    return {"hardware": min(device.threads, _ENGINE_THREADS), "hybrid": usual, "cpu": cpu}
