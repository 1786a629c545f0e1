"""gpuio's own JPEG decoder on the CPU, and another decoder for the images that it does not take.

Pixels are libjpeg-turbo's. See `gpuio.kernels.jpeg` for what is taken; what is progressive, CMYK or
unusual, and other formats, go to the other decoder by their headers alone. A JPEG that turns out to
be damaged is decoded once more by itself, with the portable codec, which decides.

With `DecoderOptions.least_edge`, images that are taken and at least twice as large are decoded to
1/2, 1/4 or 1/8 of their size, with the pixels of libjpeg-turbo's scaled output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from gpuio.core.threads import WorkerPool
from gpuio.devices.base import KernelCall
from gpuio.formats import codec
from gpuio.kernels.jpeg import decode as kernels
from gpuio.kernels.jpeg.header import JOB, RGB
from gpuio.kernels.jpeg.reduced import reduced_samples
from gpuio.pipeline.decode import checkpoint_file
from gpuio.pipeline.decode.base import Decoded, Decoder, DecoderOptions
from gpuio.pipeline.decode.checkpoints import Checkpoints
from gpuio.pipeline.decode.jobs import DecodeJobs, Headers
from gpuio.pipeline.read.reader import RecordBatch, Samples
from gpuio.sources.base import RecordSource
from gpuio.sources.recordio.source import RecordIOSource

_WHOLE: Final = 8
_SMALLER: Final = 4, 2, 1
"""Eighths of their size to which images can be decoded."""


@dataclass(slots=True, kw_only=True)
class JpegHeaders(Headers):
    """Headers of a batch, of which some images are another decoder's.

    Attributes:
        rest: What the other decoder has opened; None where it has nothing to do.
        rest_jobs: What it was asked to decode.
        ids: (N,) record numbers.
    """

    rest: Headers | None = None
    rest_jobs: DecodeJobs | None = None
    ids: npt.NDArray[np.int64]


class JpegDecoder(Decoder):
    """Decodes baseline JPEGs with compiled code of gpuio's own.

    Args:
        options: As for every decoder; the device is the CPU.
        make_rest: Makes the decoder of all other images, which is closed with this one. It is
            called when there is one to decode: most files of records hold none, and a library
            takes time to start.
    """

    name = "jpeg"

    def __init__(self, options: DecoderOptions, make_rest: Callable[[], Decoder]) -> None:
        super().__init__(options)
        self._make_rest = make_rest
        self._made: Decoder | None = None
        self._pool = WorkerPool(self.device.threads, "gpuio-decode")  # starts no thread yet
        count = self.device.threads * self.device.max_in_flight
        self._states = kernels.new_states(count)
        self._checkpoints = checkpoints_of(self.source)
        # Bytes of other sources, such as files in folders, may change between epochs.
        self._has_fixed_bytes = isinstance(self.source, RecordIOSource)
        self._least_edge = options.least_edge
        # Compiled here, whether or not the first batch has large images.
        self._reduced = 0 if options.least_edge is None else reduced_samples.address
        self._smaller_count = 0  # images that were decoded to a smaller size than theirs

    @property
    def _rest(self) -> Decoder:
        """The decoder of all other images, for those that `open` left to it."""
        if self._made is None:
            self._made = self._make_rest()
        return self._made

    def close(self) -> None:
        self._pool.shutdown()
        if self._made is not None:
            self._made.close()

    def open(self, records: RecordBatch) -> Headers:
        table = np.zeros(len(records.nbytes), JOB)
        table["data"], table["nbytes"] = records.address, records.nbytes
        if self.channels != 4:  # RGBA is not made of JPEGs
            self.device.run(KernelCall(kernels.probe, table))
        self._choose(table)
        taken = table["taken"] != 0
        size = np.stack([table["height"], table["width"]], axis=1)
        size = -(-size * table["scale"][:, None] // _WHOLE)
        scratch, ids = np.where(taken, table["scratch_nbytes"], 0), records.samples.ids
        headers = JpegHeaders(size, {}, table, scratch=scratch, ids=ids)
        if not ((records.nbytes > 0) & ~taken).any():
            return headers
        rest = self._rest.open(replace(records, nbytes=np.where(taken, 0, records.nbytes)))
        size[~taken] = rest.size[~taken]
        headers.rest, headers.pixels, headers.later = rest, rest.pixels, rest.later
        return headers

    def widen(self, box: npt.NDArray[np.int32], headers: Headers, samples: Samples) -> None:
        if (rest := _own(headers).rest) is not None:
            self._rest.widen(box, rest, samples)

    def decode(self, jobs: DecodeJobs) -> list[KernelCall]:
        headers = _own(jobs.headers)
        table = headers.table
        table["y"], table["x"], table["rows"], table["cols"] = jobs.box.T
        table["dst"], table["scratch"] = 0, jobs.scratch
        in_part = (table["rows"] > 0) & (jobs.box[:, 2:] != headers.size).any(axis=1)
        mcus_high = -(-table["height"] // (8 * np.maximum(table["down"][:, 0], 1)))
        remembered = in_part & (table["taken"] != 0) & self._has_fixed_bytes
        rows = np.where(remembered, mcus_high, 0).astype(np.int64)
        table["checkpoints"], table["known"] = self._checkpoints.addresses(headers.ids, rows)
        scaled = (table["rows"] > 0) & (table["taken"] != 0) & (table["scale"] < _WHOLE)
        if scaled.any():
            table["reduced"] = self._reduced
            self._smaller_count += int(scaled.sum())
        calls = [KernelCall(kernels.decode, table, (self._states.ctypes.data, self.channels, 0))]
        if headers.rest is not None:
            taken = table["taken"] != 0
            box = np.where(taken[:, None], np.int32(0), jobs.box)
            headers.rest_jobs = DecodeJobs(headers.rest, box, self.channels)
            calls += self._rest.decode(headers.rest_jobs)
        return calls

    def decoded(self, jobs: DecodeJobs) -> npt.NDArray[np.bool_]:
        headers = _own(jobs.headers)
        table = headers.table
        done: npt.NDArray[np.bool_] = (table["rows"] > 0) & (table["status"] == kernels.SUCCESS)
        if headers.rest_jobs is not None:
            done |= self._rest.decoded(headers.rest_jobs)
        return done

    def confirm(self, ids: npt.NDArray[np.int64]) -> None:
        if self._made is not None:
            self._made.confirm(ids)

    def map(self, decode: Callable[[int], Decoded], places: Sequence[int]) -> Iterator[Decoded]:
        return self._pool.map(decode, places)

    def decode_image(self, data: bytes) -> npt.NDArray[np.uint8]:
        if self._least_edge is None or (scale := self._scale_of(data)) == _WHOLE:
            return super().decode_image(data)
        return codec.decode_rgb(data, self.channels, tolerant=self.tolerant, scale=scale)

    def release(self, headers: Headers) -> None:
        own = _own(headers)  # whose kernels have run, also if nobody wanted the batch
        self._checkpoints.confirm(own.ids[own.table["known"] != 0])
        if own.rest is not None:
            self._rest.release(own.rest)

    def stats(self) -> dict[str, object]:
        rest = self._made
        return {
            **super().stats(),
            "decoder_of_others": None if rest is None else rest.name,
            "decoded_by_portable": self.fallback_count
            + (0 if rest is None else rest.fallback_count),
            "decoded_to_smaller_size": self._smaller_count,
            "decoded_from_checkpoints": self._checkpoints.hits,
            "checkpoint_nbytes": self._checkpoints.nbytes,
        }

    def _scale_of(self, data: bytes) -> int:
        """The eighths of its size to which an image is decoded, as `open` chooses them."""
        table = np.zeros(1, JOB)
        encoded = np.frombuffer(data, np.uint8)
        table["data"], table["nbytes"] = encoded.ctypes.data, encoded.size
        kernels.probe(1, 1, table.ctypes.data)
        self._choose(table)
        return int(table["scale"][0]) if table["taken"][0] else _WHOLE

    def _choose(self, table: npt.NDArray[np.void]) -> None:
        """Choose which images of a JOB table are taken, and the size to which they are decoded.

        Images that are too large to be decoded at all keep their size, by which they are refused.
        """
        if self.channels == 1:
            table["taken"] &= table["color"] != RGB
        if self._least_edge is not None:
            shorter = np.minimum(table["height"], table["width"])
            pixels = table["height"].astype(np.int64) * table["width"]
            allowed = pixels <= (codec.MAX_IMAGE_PIXELS or np.inf)
            for scale in _SMALLER:
                enough = shorter * scale >= _WHOLE * self._least_edge
                table["scale"][enough & allowed] = scale


def checkpoints_of(source: RecordSource) -> Checkpoints:
    """Memory for the checkpoints of a source, with those that are stored beside its files."""
    checkpoints = Checkpoints(len(source))
    if isinstance(source, RecordIOSource):
        table = source.table
        for number, (path, identity) in enumerate(zip(table.paths, source.identities, strict=True)):
            if (stored := checkpoint_file.find(path, identity)) is not None:
                checkpoints.add(stored, int(table.first[number]), table.offsets_of(number))
    return checkpoints


def _own(headers: Headers) -> JpegHeaders:
    assert isinstance(headers, JpegHeaders)
    return headers
