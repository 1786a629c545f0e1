"""nvImageCodec's C structures, and its functions by address.

Each structure holds its own type and size, by which the library knows the version. `load` refuses
a library of another version than the one that these layouts were taken from.

Source: nvimgcodec.h of nvImageCodec 0.9, as shipped in the nvidia-nvimgcodec wheels.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import weakref
from collections.abc import Callable
from ctypes import c_char, c_float, c_int, c_size_t, c_uint8, c_uint32, c_void_p
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from gpuio.devices.base import HostArray
from gpuio.errors import BackendError

SUPPORTED: Final = (0, 9)
"""Major and minor version of nvImageCodec whose structures stand here; those of 0.8 differ."""
SRGB: Final = 1
GRAY: Final = 2
SYCC: Final = 3
FORMAT_UNCHANGED: Final = 2
FORMAT_Y: Final = 4
FORMAT_RGB: Final = 8
DEVICE_BUFFER: Final = 1
HOST_BUFFER: Final = 2
CPU_ONLY_BACKEND: Final = 1
GPU_ONLY_BACKEND: Final = 2
HYBRID_BACKEND: Final = 3
HARDWARE_BACKEND: Final = 4
CPU_ONLY_DEVICE: Final = -99999
FIXED_LOAD: Final = 2
WARNINGS: Final = 0x111000  # and errors
ANY_CATEGORY: Final = 0x0FFFFFFF
SUCCESS: Final = 1  # of nvimgcodecProcessingStatus_t
FAILED: Final = 3
TAKEN: Final = (0, SUCCESS, FAILED, 7)
"""Statuses of images that a codec has taken: unknown, decoded, failed, damaged. The others say that
no codec takes the image."""


class Struct(ctypes.Structure):
    """A structure that begins with its type, its size and a pointer to an extension."""

    TYPE: ClassVar[int]

    @classmethod
    def new(cls, **values: Any) -> Any:
        """A structure of zeros but for the header and `values`."""
        return cls(struct_type=cls.TYPE, struct_size=ctypes.sizeof(cls), **values)


def _header(*rest: tuple[str, Any]) -> list[tuple[str, Any]]:
    return [("struct_type", c_int), ("struct_size", c_size_t), ("struct_next", c_void_p), *rest]


class Properties(Struct):
    """Library version."""

    TYPE = 1
    _fields_ = _header(("version", c_uint32), ("cudart_version", c_uint32))


class InstanceCreateInfo(Struct):
    """How to start the library."""

    TYPE = 2
    _fields_ = _header(
        ("load_builtin_modules", c_int),
        ("load_extension_modules", c_int),
        ("extension_modules_path", ctypes.c_char_p),
        ("create_debug_messenger", c_int),
        ("debug_messenger_desc", c_void_p),
        ("message_severity", c_uint32),
        ("message_category", c_uint32),
    )


class DecodeParams(Struct):
    """What to do while decoding."""

    TYPE = 5
    _fields_ = _header(("apply_exif_orientation", c_int))


class Orientation(Struct):
    """How the stored pixels are turned to be looked at."""

    TYPE = 7
    _fields_ = _header(("rotated", c_int), ("flip_x", c_int), ("flip_y", c_int))


class Region(Struct):
    """A window, in (y, x) pixels."""

    TYPE = 8
    _fields_ = _header(
        ("ndim", c_int),
        ("start", c_int * 5),
        ("end", c_int * 5),
        ("out_of_bounds_policy", c_int),
        ("out_of_bounds_samples", c_uint32 * 10),
    )


class CodeStreamView(Struct):
    """A part of a code stream."""

    TYPE = 9
    _fields_ = _header(("image_idx", c_size_t), ("region", Region), ("bitstream_offset", c_size_t))


class PlaneInfo(Struct):
    """One plane of an image."""

    TYPE = 12
    _fields_ = _header(
        ("width", c_uint32),
        ("height", c_uint32),
        ("row_stride", c_size_t),
        ("num_channels", c_uint32),
        ("sample_type", c_int),
        ("precision", c_uint8),
    )


class ImageInfo(Struct):
    """An image in a code stream or in memory."""

    TYPE = 11
    _fields_ = _header(
        ("codec_name", c_char * 256),
        ("color_spec", c_int),
        ("chroma_subsampling", c_int),
        ("sample_format", c_int),
        ("orientation", Orientation),
        ("num_planes", c_uint32),
        ("plane_info", PlaneInfo * 32),
        ("buffer", c_void_p),
        ("buffer_kind", c_int),
        ("cuda_stream", c_void_p),
    )


class BackendParams(Struct):
    """How much of the work a back-end gets."""

    TYPE = 29
    _fields_ = _header(("load_hint", c_float), ("load_hint_policy", c_int))


class Allocator(Struct):
    """How memory is allocated, on the device or pinned: both have the same fields.

    `allocate(context, where, nbytes, stream)` and `free(context, address, nbytes, stream)` are C
    functions that return 0 if all is well.
    """

    _fields_ = _header(
        ("allocate", c_void_p),
        ("free", c_void_p),
        ("context", c_void_p),
        ("padding", c_size_t),
    )


class DeviceAllocator(Allocator):
    """An allocator of device memory."""

    TYPE = 3


class PinnedAllocator(Allocator):
    """An allocator of pinned memory."""

    TYPE = 4


class Backend(Struct):
    """One way to decode."""

    TYPE = 17
    _fields_ = _header(("kind", c_int), ("params", BackendParams))


class DebugMessengerDesc(Struct):
    """The callback for what the library reports."""

    TYPE = 25
    _fields_ = _header(
        ("message_severity", c_uint32),
        ("message_category", c_uint32),
        ("user_callback", c_void_p),
        ("user_data", c_void_p),
    )


class ExtensionDesc(Struct):
    """What a codec module brings."""

    TYPE = 27
    _fields_ = _header(
        ("instance", c_void_p),
        ("id", ctypes.c_char_p),
        ("version", c_uint32),
        ("ext_api_version", c_uint32),
        ("create", c_void_p),
        ("destroy", c_void_p),
    )


class ExecutionParams(Struct):
    """Where and with what a decoder runs."""

    TYPE = 30
    _fields_ = _header(
        ("device_allocator", c_void_p),
        ("pinned_allocator", c_void_p),
        ("max_num_cpu_threads", c_int),
        ("executor", c_void_p),
        ("device_id", c_int),
        ("pre_init", c_int),
        ("skip_pre_sync", c_int),
        ("num_backends", c_int),
        ("backends", c_void_p),
    )


FUNCTIONS: Final = (
    "CodeStreamCreateFromHostMem",
    "CodeStreamGetImageInfo",
    "CodeStreamGetSubCodeStream",
    "CodeStreamDestroy",
    "ImageCreate",
    "ImageDestroy",
    "DecoderDecode",
    "FutureWaitForAll",
    "FutureGetProcessingStatus",
    "FutureDestroy",
)
"""What compiled code calls; their places here are their places in `Library.functions`."""


@dataclass(frozen=True, slots=True)
class Library:
    """The loaded library.

    Attributes:
        dll: For calls from Python.
        functions: (len(FUNCTIONS),) uint64 addresses, for calls from compiled code.
        extensions: Folder of its codec modules.
        version: Major, minor, patch.
        cuda: Major version of CUDA that it was built for.
        pid: The process that loaded it.
    """

    dll: ctypes.CDLL
    functions: npt.NDArray[np.uint64]
    extensions: Path
    version: tuple[int, int, int]
    cuda: int
    pid: int

    @property
    def is_inherited(self) -> bool:
        """Whether this is a forked child of the process that loaded it.

        A lock of a codec that a thread of the parent held at the fork is never released here.
        """
        return self.pid != os.getpid()


class Listener(NamedTuple):
    """What the library reports to.

    Attributes:
        callback: Address of an nvimgcodecDebugCallback_t.
        data: The array whose address the callback gets.
        keep_alive: What `data` refers to.
    """

    callback: int
    data: npt.NDArray[np.void]
    keep_alive: tuple[HostArray, ...] = ()


class Instance:
    """A started library, which ends when nothing refers to this object any more.

    Args:
        library: nvImageCodec.
        modules: The beginnings of the names of the codec modules to load. Those for the GPU print
            to stderr if they find no library, so they are loaded only where they are needed.
        listener: Gets the library's warnings and errors; None for no reports.

    Attributes:
        library: As given.
        handle: The instance, as the library's functions take it.
        problems: What kept codec modules from starting.

    Raises:
        BackendError: The library does not start.
    """

    def __init__(
        self,
        library: Library,
        modules: tuple[str, ...],
        listener: Listener | None = None,
    ) -> None:
        self.library = library
        info = InstanceCreateInfo.new(load_builtin_modules=1)
        messenger = None
        if listener is not None:
            messenger = DebugMessengerDesc.new(
                message_severity=WARNINGS,
                message_category=ANY_CATEGORY,
                user_callback=listener.callback,
                user_data=listener.data.ctypes.data,
            )
            info.create_debug_messenger = 1
            info.debug_messenger_desc = ctypes.addressof(messenger)
        instance = c_void_p()
        status = library.dll.nvimgcodecInstanceCreate(ctypes.byref(instance), ctypes.byref(info))
        if status or not instance.value:
            raise BackendError(f"nvImageCodec does not start, status {status}")
        self.handle = instance.value
        end = weakref.finalize(self, _end, library, instance, messenger, listener)
        # At exit, a compiled callback is gone before the library ends by itself.
        end.atexit = listener is not None
        self.problems: list[str] = []
        for path in sorted(library.extensions.iterdir()):
            if path.name.removeprefix("lib").startswith(modules):
                description, extension = ExtensionDesc.new(), c_void_p()
                module = ctypes.CDLL(str(path))
                module.nvimgcodecExtensionModuleEntry(ctypes.byref(description))
                status = library.dll.nvimgcodecExtensionCreate(
                    instance, ctypes.byref(extension), ctypes.byref(description)
                )
                if status:
                    self.problems.append(f"{path.name} does not start, status {status}")

    def decoder(self, execution: ExecutionParams, options: str = "") -> int:
        """The handle of a new decoder.

        Raises:
            BackendError: The library has no decoder for the device.
        """
        decoder = c_void_p()
        status = self.library.dll.nvimgcodecDecoderCreate(
            c_void_p(self.handle),
            ctypes.byref(decoder),
            ctypes.byref(execution),
            options.encode(),
        )
        if status or not decoder.value:
            where = "the CPU" if execution.device_id < 0 else f"GPU {execution.device_id}"
            raise BackendError(f"nvImageCodec: no decoder for {where}, status {status}")
        return decoder.value

    def destroy(self, decoders: list[int]) -> None:
        """Destroy decoders, before the instance ends."""
        for decoder in decoders:
            self.library.dll.nvimgcodecDecoderDestroy(c_void_p(decoder))

    def destroy_with(
        self, owner: object, decoders: list[int], *kept: object
    ) -> Callable[[], object]:
        """Destroy decoders when their owner is garbage, or when what is returned is called.

        A forked process leaves them to the one that made them: it has neither CUDA nor threads.

        Args:
            owner: Uses the decoders.
            decoders: Their handles, also those that are added later.
            kept: What they refer to, kept alive until then.

        Returns:
            A function that destroys them now; a second call does nothing.
        """
        return weakref.finalize(owner, _destroy, self, decoders, kept, os.getpid())


def _destroy(instance: Instance, decoders: list[int], _kept: object, process: int) -> None:
    if os.getpid() == process:
        instance.destroy(decoders)


def _end(library: Library, instance: c_void_p, *_listener: object) -> None:
    """End an instance; its listener is kept alive until then."""
    library.dll.nvimgcodecInstanceDestroy(instance)


def load() -> Library:
    """Load nvImageCodec from its wheel; no CUDA driver is needed.

    Raises:
        BackendError: The wheel is missing, or its version has other structures.
    """
    root = _package()
    names = ("libnvimgcodec.so.0", "nvimgcodec_0.dll")
    path = next((root / name for name in names if (root / name).exists()), None)
    if path is None:
        raise BackendError(f"{root}: none of {', '.join(names)} is there; reinstall gpuio[cpu]")
    try:
        dll = ctypes.CDLL(str(path))
    except OSError as error:
        raise BackendError(f"{path}: cannot be loaded: {error}") from error
    properties = Properties.new()
    dll.nvimgcodecGetProperties(ctypes.byref(properties))
    number = properties.version
    version = (number // 1000, number // 100 % 10, number % 100)
    cuda = properties.cudart_version // 1000
    if version[:2] != SUPPORTED:
        found, wanted = (".".join(map(str, numbers)) for numbers in (version[:2], SUPPORTED))
        raise BackendError(
            f"{path}: version is {found}, not {wanted}: "
            f"pip install 'nvidia-nvimgcodec-cu{cuda}=={wanted}.*'"
        )
    addresses = [ctypes.cast(dll[f"nvimgcodec{name}"], c_void_p).value for name in FUNCTIONS]
    functions = np.array(addresses, np.uint64)
    return Library(dll, functions, root / "extensions", version, cuda, os.getpid())


def _package() -> Path:
    spec = importlib.util.find_spec("nvidia")
    for place in (spec.submodule_search_locations or []) if spec else []:
        if (Path(place) / "nvimgcodec").is_dir():
            return Path(place) / "nvimgcodec"
    raise BackendError("nvImageCodec is not installed: pip install 'gpuio[cpu]'")
