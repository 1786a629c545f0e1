"""nvImageCodec's CPU codecs, libjpeg-turbo and libpng, called by compiled code on our own threads.

Each thread has a decoder of its own: one that is shared corrupts the heap.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from gpuio.devices.base import Device, KernelCall
from gpuio.devices.ring import Slot
from gpuio.kernels import codec_calls
from gpuio.kernels.parallel import run_program
from gpuio.pipeline.decode import nvimgcodec_abi as abi
from gpuio.pipeline.decode.nvimgcodec_base import pixel_info

if TYPE_CHECKING:
    from gpuio.devices.lanes import Lane

_SPACING: Final = 64
"""Bytes: images begin at multiples of it, and codecs may write a little too far."""


class CpuCodecs:
    """Decoders for the CPU, one for each thread.

    Args:
        instance: nvImageCodec, started.
        channels: Channels of the pixels: 1 (gray), 3 (RGB) or 4 (as stored).
        threads: The most threads that decode at the same time.
        warnings: The listener of libjpeg's warnings; None to take what libjpeg makes up.
        settings: Options of nvImageCodec, `module:name=value` with blanks between them.

    Attributes:
        threads: As given.
        warnings: As given.

    Raises:
        BackendError: nvImageCodec has no decoder for the CPU.
    """

    def __init__(
        self,
        instance: abi.Instance,
        channels: int,
        threads: int,
        warnings: npt.NDArray[np.void] | None,
        settings: str = "",
    ) -> None:
        self.threads, self.warnings = threads, warnings
        self._instance = instance
        self._pixels = pixel_info(channels, on_host=True)
        self._view = abi.CodeStreamView.new(region=abi.Region.new(ndim=2))
        self._params = abi.DecodeParams.new(apply_exif_orientation=0)
        made: list[int] = []
        self._finalizer = instance.destroy_with(self, made)
        while len(made) < threads:
            made.append(_new_decoder(instance, settings))
        self._decoders = np.array(made, np.uint64)

    def close(self) -> None:
        """Destroy the decoders."""
        self._finalizer()

    def call(self, table: npt.NDArray[np.void]) -> KernelCall:
        """What decodes the windows of an IMAGE_JOB table and closes its code streams.

        Each worker has a decoder, so `threads` workers may run it. The `status` of an image that
        libjpeg warned of is a failure.

        Args:
            table: (N,) IMAGE_JOB.
        """
        args = (
            self._instance.library.functions.ctypes.data,
            self._instance.handle,
            *map(ctypes.addressof, (self._pixels, self._view, self._params)),
            self._decoders.ctypes.data,
            0 if self.warnings is None else self.warnings.ctypes.data,
        )
        return KernelCall(codec_calls.decode, table, args)


class StagedDecoder:
    """The CPU's part of decoding for a GPU: into pinned memory, from which pixels are copied.

    One thread at a time may use it.

    Args:
        device: Gives the pinned memory.
        codecs: The decoders, for this object alone; `close` destroys them.

    Attributes:
        kind: "cpu".
    """

    kind = "cpu"

    def __init__(self, device: Device, codecs: CpuCodecs) -> None:
        self._codecs = codecs
        self._pinned = Slot(device.empty_host)

    def close(self) -> None:
        """Destroy the decoders, and free the pinned memory."""
        self._codecs.close()
        self._pinned.data = None

    def decode(
        self,
        table: npt.NDArray[np.void],
        places: npt.NDArray[np.int64],
        bases: npt.NDArray[np.uint64],
        lane: Lane,
    ) -> None:
        """Decode some images of a batch without the GIL, and queue the copies of their pixels.

        The images' `status` is written, and their code streams are closed: no other kind can
        decode them after this one. The caller waits for the copies before it decodes again.

        Args:
            table: (N,) IMAGE_JOB, images with a code stream and a window.
            places: (M,) rows of the table to decode.
            bases: (N,) addresses of the images' memory on the device.
            lane: The lane that copies.
        """
        nbytes = table["rows"][places] * table["pitch"][places]
        order = np.argsort(-nbytes, kind="stable")  # the largest first: threads end together
        places, nbytes = places[order], nbytes[order]
        spaced = -(-nbytes // _SPACING) * _SPACING + _SPACING
        pinned = self._pinned.reserve(int(spaced.sum()))
        lane.host_writes(pinned.ctypes.data)
        jobs = table[places]
        jobs["dst"] = np.uint64(pinned.ctypes.data) + (np.cumsum(spaced) - spaced).astype(np.uint64)
        run_program([self._codecs.call(jobs).call], len(jobs), self._codecs.threads)
        table["status"][places], table["stream"][places] = jobs["status"], jobs["stream"]
        for to, job, size in zip(bases[places].tolist(), jobs, nbytes.tolist(), strict=True):
            if job["status"] == abi.SUCCESS:
                lane.copy(to, int(job["dst"]), size)


def _new_decoder(instance: abi.Instance, settings: str) -> int:
    codecs = abi.Backend.new(kind=abi.CPU_ONLY_BACKEND, params=abi.BackendParams.new(load_hint=1.0))
    execution = abi.ExecutionParams.new(
        max_num_cpu_threads=1,  # it decodes in the calling thread
        device_id=abi.CPU_ONLY_DEVICE,
        pre_init=1,
        num_backends=1,
        backends=ctypes.addressof(codecs),
    )
    return instance.decoder(execution, settings)
