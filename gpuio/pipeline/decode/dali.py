"""DALI as the decoder: for those who have it, and to compare with.

DALI decodes with nvImageCodec, too, but with its own threads, memory and choice of codecs. On a GPU
it upsamples chroma smoothly, as libjpeg does, only with `jpeg_fancy_upsampling`, which is therefore
set; pixels are then as close to the CPU's as those of each codec are. One damaged image fails its
whole batch: the batch is then halved until the image is alone, and the portable codec decodes that
one. The same happens if libjpeg warns, which can be seen on the CPU if DALI loads the codec modules
that we have loaded.

Source: DALI 2.4, `nvidia.dali.fn.decoders.image` (`device="cpu"` and `"mixed"`).
"""

from __future__ import annotations

import ctypes
import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from gpuio.devices.base import KernelCall
from gpuio.errors import BackendError
from gpuio.pipeline.decode import nvimgcodec_abi as abi
from gpuio.pipeline.decode.base import DecoderOptions
from gpuio.pipeline.decode.jobs import DecodeJobs, Headers
from gpuio.pipeline.decode.libjpeg_warnings import warning_count
from gpuio.pipeline.decode.nvimgcodec import cpu_instance
from gpuio.pipeline.decode.nvimgcodec_base import NvImageCodec
from gpuio.pipeline.read.reader import RecordBatch

if TYPE_CHECKING:
    from gpuio.devices.lanes import Lane

_IN_COPY: Final = 4  # batches whose pixels the device may still be copying


class DaliDecoder(NvImageCodec):
    """Decodes whole images in a pipeline of DALI's.

    Args:
        options: As for every decoder; `engine_share` is DALI's `hw_decoder_load`, and
            `deterministic` does without the JPEG engines of the GPU.

    Raises:
        BackendError: DALI or nvImageCodec is not installed.
    """

    name = "dali"
    windowed = False
    markers = True

    def __init__(self, options: DecoderOptions) -> None:
        try:
            import nvidia.dali.fn
            import nvidia.dali.types
        except ImportError as error:
            raise BackendError(
                f"DALI is not installed: pip install 'gpuio[dali]' ({error})"
            ) from error
        super().__init__(options, cpu_instance())
        self._dali = nvidia.dali
        self._on_gpu = self.device.device_id is not None
        load = 0.0 if options.deterministic else options.engine_share
        self._hints = {} if load is None else {"hw_decoder_load": load}
        self._pipeline: Any = None
        self._most = 0
        self._lock = threading.Lock()  # lanes have one pipeline in common
        self._sent: deque[list[Any]] = deque(maxlen=_IN_COPY)

    def close(self) -> None:
        self._pool.shutdown()
        self.device.record().synchronize()
        self._pipeline = None
        self._sent.clear()

    def open(self, records: RecordBatch) -> Headers:
        headers = super().open(records)
        if self.device.name == "cpu":
            places = set(np.flatnonzero(headers.size[:, 0]).tolist()) - headers.pixels.keys()
            places -= headers.later

            def keep(place: int, image: Any) -> None:
                pixels = np.array(image)
                if pixels.shape[:2] == tuple(headers.size[place].tolist()):
                    headers.pixels[place] = pixels

            self._decode(headers.table, sorted(places), keep)
        return headers

    def decode(self, jobs: DecodeJobs) -> list[KernelCall]:
        table = jobs.headers.table
        table["rows"], table["cols"] = jobs.box[:, 2:].T
        table["status"] = abi.FAILED
        return [] if self.device.name == "cpu" else [KernelCall(self._step, table)]

    def _step(self, table: npt.NDArray[np.void], bases: npt.NDArray[np.uint64], lane: Lane) -> None:
        """A `HostStep`: decode, and copy to where the kernels read."""

        def copy(place: int, image: Any) -> None:
            row, to = table[place], int(bases[place])
            shape = image.shape() if self._on_gpu else np.array(image).shape
            if tuple(shape[:2]) != (row["rows"], row["cols"]):
                return
            nbytes = int(row["rows"]) * int(row["cols"]) * self.channels
            if self._on_gpu:
                lane.copy(to, image.data_ptr(), nbytes)
            else:
                ctypes.memmove(to, np.array(image).ctypes.data, nbytes)
            row["status"] = abi.SUCCESS

        with self._lock:
            self._sent.append([])
            self._decode(table, np.flatnonzero(table["rows"] > 0).tolist(), copy, lane.handle)

    def _decode(
        self,
        table: npt.NDArray[np.void],
        places: list[int],
        take: Callable[[int, Any], None],
        stream: int | None = None,
    ) -> None:
        """Call `take` with the place and the tensor of each image that DALI can decode."""
        if not places:
            return
        try:
            images = self._run(table[places], stream)
        except RuntimeError:
            if len(places) > 1:
                middle = len(places) // 2
                self._decode(table, places[:middle], take, stream)
                self._decode(table, places[middle:], take, stream)
            return
        for number, place in enumerate(places):
            take(place, images[number] if self._on_gpu else images.at(number))
        if self._on_gpu:
            self._sent[-1].append(images)

    def _run(self, rows: npt.NDArray[np.void], stream: int | None) -> Any:
        """DALI's list of decoded tensors.

        Raises:
            RuntimeError: An image is damaged.
        """
        if self._pipeline is None or len(rows) > self._most:
            self._most = len(rows)
            self._pipeline = self._build()
        data = [
            np.ctypeslib.as_array(
                (ctypes.c_uint8 * int(row["nbytes"])).from_address(int(row["data"]))
            )
            for row in rows
        ]
        before = warning_count(self._warnings)
        (images,) = self._pipeline.run(stream if self._on_gpu else None, encoded=data)
        if warning_count(self._warnings) != before:
            raise RuntimeError("libjpeg warned of an image")
        return images

    def _build(self) -> Any:
        dali = self._dali
        output = {1: dali.types.GRAY, 3: dali.types.RGB, 4: dali.types.ANY_DATA}[self.channels]
        pipeline = dali.Pipeline(
            batch_size=self._most,
            num_threads=self.device.threads,
            device_id=self.device.device_id,
            prefetch_queue_depth=1,
            exec_dynamic=True,
        )
        with pipeline:
            encoded = dali.fn.external_source(name="encoded", dtype=dali.types.UINT8, ndim=1)
            pipeline.set_outputs(
                dali.fn.decoders.image(
                    encoded,
                    device="mixed" if self._on_gpu else "cpu",
                    output_type=output,
                    adjust_orientation=False,
                    jpeg_fancy_upsampling=True,
                    **self._hints,
                )
            )
        pipeline.build()
        return pipeline
