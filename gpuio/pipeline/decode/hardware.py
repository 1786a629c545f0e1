"""The JPEG engines of a GPU: how many there are, and if there is none, why.

Source: nvjpeg.h of nvJPEG 13.3; which GPUs have engines: its documentation, "Hardware
Acceleration".
"""

from __future__ import annotations

import ctypes
import importlib.util
import warnings
from ctypes import c_uint, c_void_p
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gpuio.devices.base import Device
from gpuio.errors import BackendError

_HARDWARE: Final = 3  # nvjpegBackend_t
_ARCH_MISMATCH: Final = 7  # nvjpegStatus_t
_NAMES: Final = {12: "libnvjpeg.so.12", 13: "libnvjpeg.so.13"}
_FOLDERS: Final = {12: "nvjpeg/lib", 13: "cu13/lib"}
_VIDEO_LIBRARY: Final = "libnvcuvid.so.1"
_WITH_ENGINES: Final = ((8, 0), (9, 0), (10, 0), (10, 3))
"""Compute capabilities whose GPUs all have engines: A100 and A30; H100, H200 and GH200; B200 and
GB200; B300 and GB300. Some GPUs of 8.9 and 12.0 have engines, and some have none."""


@dataclass(frozen=True, slots=True)
class Engines:
    """JPEG engines of a GPU.

    Attributes:
        count: How many engines can be used.
        reason: Why there is no engine; "" where there is one.
    """

    count: int
    reason: str = ""


def engines_of(device: Device, cuda: int) -> Engines:
    """The engines of a device; a warning where there should be some.

    Args:
        device: The device; the CPU has none.
        cuda: Major version of CUDA that nvImageCodec was built for.

    Raises:
        BackendError: The device is a GPU, and nvJPEG is not installed.
    """
    if device.device_id is None:
        return Engines(0, "the device is the CPU")
    nvjpeg = load_nvjpeg(cuda)
    with device.scope():
        engines = find_engines(nvjpeg)
    warn_if_hidden(engines, _capability(device.device_id))
    return engines


def _capability(device_id: int) -> tuple[int, int]:
    """Compute capability of a GPU."""
    from gpuio.devices.cuda_context import open_context

    return open_context(device_id).capability


def load_nvjpeg(cuda: int) -> Any:
    """Load the library nvJPEG from its wheel or from the system; nvImageCodec then finds it, too.

    Args:
        cuda: Major version of CUDA that the library must be built for.

    Raises:
        BackendError: The library is not installed.
    """
    name = _NAMES.get(cuda, f"libnvjpeg.so.{cuda}")
    spec = importlib.util.find_spec("nvidia")
    places = spec.submodule_search_locations or [] if spec else []
    wheels = [Path(place) / _FOLDERS.get(cuda, f"cu{cuda}/lib") / name for place in places]
    path = next((str(wheel) for wheel in wheels if wheel.exists()), name)
    try:
        return ctypes.CDLL(path)
    except OSError as error:
        raise BackendError(
            f"nvJPEG cannot be loaded ({error}): pip install 'gpuio[cuda{cuda}]'"
        ) from error


def find_engines(nvjpeg: Any) -> Engines:
    """The engines of the current GPU.

    Args:
        nvjpeg: From `load_nvjpeg`.
    """
    handle = c_void_p()
    status = nvjpeg.nvjpegCreateEx(_HARDWARE, None, None, 0, ctypes.byref(handle))
    if status == _ARCH_MISMATCH:
        return Engines(0, _why_none())
    if status:
        return Engines(0, f"nvJPEG does not start its hardware decoder, status {status}")
    count, pictures = c_uint(), c_uint()  # which each engine decodes at once
    try:
        status = nvjpeg.nvjpegGetHardwareDecoderInfo(
            handle, ctypes.byref(count), ctypes.byref(pictures)
        )
    finally:
        nvjpeg.nvjpegDestroy(handle)
    if status or not count.value:
        return Engines(0, f"nvJPEG finds no engine, status {status}")
    return Engines(count.value)


def warn_if_hidden(engines: Engines, capability: tuple[int, int]) -> None:
    """Warn if a GPU of a kind that has engines shows none.

    Args:
        engines: What was found.
        capability: The GPU's compute capability. A100, A30 and the data-centre GPUs after them are
            known to have engines; there is no warning for other GPUs.
    """
    if not engines.count and capability in _WITH_ENGINES:
        warn_without_engines(engines.reason)


def warn_without_engines(reason: str) -> None:
    """Warn that JPEGs are decoded without engines that the GPU seems to have."""
    warnings.warn(f"JPEGs are decoded without the GPU's JPEG engines: {reason}", stacklevel=3)


def _why_none() -> str:
    """Why nvJPEG reports no engine: there is none, or a library of the driver is missing."""
    try:
        ctypes.CDLL(_VIDEO_LIBRARY)
    except OSError:
        return (
            f"{_VIDEO_LIBRARY}, a part of the driver, is not visible; in a container, set "
            "NVIDIA_DRIVER_CAPABILITIES=compute,utility,video"
        )
    return "nvJPEG finds none on this GPU, or in this slice of it (MIG)"
