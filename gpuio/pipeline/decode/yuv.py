"""JPEGs on a GPU decoded to planes of luma and chroma, which a kernel of gpuio makes pixels of.

A JPEG engine then writes half as many bytes for 4:2:0, and the pixels are those of libjpeg-turbo
wherever the engine's samples are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from gpuio.devices.base import Device
from gpuio.kernels.device_yuv import YUV_JOB, YUV_TO_RGB, yuv_grid
from gpuio.pipeline.decode import nvimgcodec_abi as abi
from gpuio.pipeline.decode.jobs import DecodeJobs, aligned
from gpuio.pipeline.decode.nvimgcodec_base import is_jpeg

if TYPE_CHECKING:
    from gpuio.devices.driver import Mark
    from gpuio.devices.lanes import Lane

_RGB: Final = 3
_SAMPLINGS: Final = {0: (1, 1), 2: (1, 2), 3: (2, 2), 4: (2, 1)}
"""By nvimgcodecChromaSubsampling_t, rows and columns of luma for each of chroma: 4:4:4, 4:2:2,
4:2:0 and 4:4:0. JPEG engines know no others."""


def plan_planes(table: npt.NDArray[np.void], jobs: DecodeJobs) -> None:
    """Let JPEGs with chroma be decoded to planes, in scratch memory behind their pixels.

    Gray JPEGs, those that hold red, green and blue, and windows of images are decoded to pixels.

    Args:
        table: (N,) IMAGE_JOB; `planar` and all that belongs to it is written.
        jobs: What is decoded; `nbytes` grows.
    """
    down, across = np.zeros((2, len(table)), np.int32)
    for sampling, steps in _SAMPLINGS.items():
        of_these = table["sampling"] == sampling
        down[of_these], across[of_these] = steps
    whole = (table["rows"] == table["height"]) & (table["cols"] == table["width"])
    planar = is_jpeg(table) & (table["color"] == abi.SYCC) & (down > 0) & whole
    planar &= (table["channels"] == _RGB) & (table["rows"] > 0)
    table["planar"] = planar
    table["chroma_rows"] = -(-table["rows"] // np.maximum(down, 1))
    table["chroma_cols"] = -(-table["cols"] // np.maximum(across, 1))
    table["planes"] = jobs.nbytes
    jobs.nbytes += aligned(np.where(planar, plane_bytes(table), 0))


def plane_bytes(table: npt.NDArray[np.void]) -> npt.NDArray[np.int64]:
    """(N,) bytes of the planes of each row of an IMAGE_JOB table."""
    luma = table["rows"].astype(np.int64) * table["cols"]
    return luma + 2 * table["chroma_rows"].astype(np.int64) * table["chroma_cols"]


class PlaneConverter:
    """Makes pixels of the planes of one lane.

    Args:
        device: Gives the memory.
        fancy: Whether chroma is upsampled smoothly, as libjpeg-turbo does by default.
    """

    def __init__(self, device: Device, *, fancy: bool = True) -> None:
        self._device, self._fancy = device, fancy
        self._reserve(1)
        self._read: Mark = None

    def convert(
        self, table: npt.NDArray[np.void], bases: npt.NDArray[np.uint64], lane: Lane
    ) -> None:
        """Queue the conversion of all images that were decoded to planes.

        Args:
            table: (N,) IMAGE_JOB.
            bases: (N,) addresses of the items' memory.
            lane: The lane that has decoded them.
        """
        decoded = (table["planar"] != 0) & (table["status"] == abi.SUCCESS) & (table["rows"] > 0)
        images, bases = table[decoded], bases[decoded]
        if not len(images):
            return
        if self._read is not None:
            lane.synchronize(self._read)
        if len(self._rows) < len(images):
            self._reserve(len(images))
        rows = self._rows[: len(images)]
        lane.host_writes(rows.ctypes.data)
        for name in ("rows", "cols", "chroma_rows", "chroma_cols"):
            rows[name] = images[name]
        luma = (images["rows"].astype(np.int64) * images["cols"]).astype(np.uint64)
        chroma = images["chroma_rows"].astype(np.int64) * images["chroma_cols"]
        rows["luma"] = bases + images["planes"].astype(np.uint64)
        rows["blue"] = rows["luma"] + luma
        rows["red"] = rows["blue"] + chroma.astype(np.uint64)
        rows["dst"], rows["dst_pitch"] = bases, images["pitch"]
        rows["luma_pitch"], rows["chroma_pitch"] = images["cols"], images["chroma_cols"]
        steps = np.array([_SAMPLINGS[each] for each in images["sampling"].tolist()], np.int32)
        rows["down"], rows["across"] = steps.T
        rows["fancy"] = self._fancy
        address = self._device.address(self._table)
        lane.copy(address, rows.ctypes.data, rows.nbytes)
        lane.launch(YUV_TO_RGB, yuv_grid(YUV_TO_RGB, rows), (address,))
        self._read = lane.record()

    def _reserve(self, count: int) -> None:
        """Have memory for the rows of `count` images, pinned and on the device."""
        nbytes = YUV_JOB.itemsize * count
        self._rows = self._device.empty_host(nbytes).view(YUV_JOB)
        self._table = self._device.empty((nbytes,), np.uint8)
