"""nvImageCodec on the CPU: libjpeg-turbo and friends, a batch at a time, without driver or GIL.

Its C API is called from compiled code: one decoder for each thread (a decoder shared by threads
corrupts the heap), each image in the thread that takes it, its window only where the codec can.
What it cannot decode is tried once more, by itself, with the portable codec. That one also gets
what nvImageCodec decodes to other pixels than OpenCV: TIFF and CMYK, by a level or two; and
pictures with an EXIF orientation, which it leaves as they are stored.
"""

from __future__ import annotations

import ctypes
import weakref
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import numpy.typing as npt

from gpuio.backends.base import Backend, Link
from gpuio.decode import nvimgcodec_abi as abi
from gpuio.decode.base import Decoder, Opened
from gpuio.decode.portable import decode_places
from gpuio.errors import BackendError
from gpuio.kernels import codec_calls
from gpuio.kernels.parallel import Task
from gpuio.reader.dataset import Dataset
from gpuio.reader.reader import RecordBatch

_FORMATS = {
    1: (abi.FORMAT_Y, abi.GRAY),
    3: (abi.FORMAT_RGB, abi.SRGB),
    4: (abi.FORMAT_UNCHANGED, abi.SRGB),
}
_JPEG = 0xFFD8FF
_TIFF = np.array([int.from_bytes(head, "little") for head in (b"II*\0", b"MM\0*")], np.int32)
_CPU_MODULES = ("jpeg_turbo_ext", "nvbmp_ext", "nvpnm_ext", "opencv_ext", "tiff_ext")


class NvImageCodecDecoder(Decoder):
    """Decodes with nvImageCodec's CPU codecs.

    Raises:
        BackendError: nvImageCodec is not installed, or does not start.
    """

    name = "nvimgcodec"

    def __init__(self, backend: Backend, channels: int, dataset: Dataset) -> None:
        super().__init__(backend, channels, dataset)
        self._pool = ThreadPoolExecutor(backend.threads, "gpuio-decode")  # starts no thread yet
        self._library, self._instance = _instance()
        self._decoders = np.array(
            [self._new_decoder() for _ in range(backend.threads * backend.lanes)], np.uint64
        )
        destroy = self._library.dll.nvimgcodecDecoderDestroy
        self._finalizer = weakref.finalize(self, _destroy, destroy, self._decoders.tolist())
        self._info = abi.ImageInfo.new(
            orientation=abi.Orientation.new(),
            plane_info=(abi.PlaneInfo * 32)(*[abi.PlaneInfo.new() for _ in range(32)]),
        )
        self._view = abi.CodeStreamView.new(region=abi.Region.new())
        self._params = abi.DecodeParams.new(apply_exif_orientation=0)

    def close(self) -> None:
        self._pool.shutdown()
        self._finalizer()

    def open(self, records: RecordBatch) -> Opened:
        table = np.zeros(len(records.nbytes), codec_calls.IMAGE_JOB)
        table["data"], table["nbytes"] = records.address, records.nbytes
        self._run(codec_calls.probe, table, self._instance, ctypes.addressof(self._info))
        size = np.stack([table["height"], table["width"]], axis=1)
        ported = (table["stream"] == 0) | np.isin(table["head"], _TIFF)
        if self.channels == 4:  # MXNet leaves RGBA as it is stored
            ported |= table["channels"] != 4
            swapped = table["turned"] == 2
            size[swapped] = size[swapped, ::-1]
        else:
            cmyk = (table["head"] & 0xFFFFFF == _JPEG) & (table["channels"] == 4)
            ported |= (table["turned"] != 0) | cmyk
        size[ported] = 0
        places = np.flatnonzero(ported & (records.nbytes > 0)).tolist()
        pixels = decode_places(self._pool, records, places, self.channels)
        for place, image in pixels.items():
            size[place] = image.shape[:2]
        self.ported += len(pixels)
        opened = Opened(size, pixels, table)
        # For a batch that nobody decodes any more; after `finish` there is nothing left to do.
        weakref.finalize(opened, _release, self._library, table).atexit = False
        return opened

    def links(
        self, opened: Opened, box: npt.NDArray[np.int32], pitch: npt.NDArray[np.int64]
    ) -> list[Link]:
        table = opened.handle
        table["y"], table["x"], table["rows"], table["cols"] = box.T
        table["dst"], table["pitch"] = 0, pitch
        sample_format, color = _FORMATS[self.channels]
        words = (
            self._library.functions.ctypes.data,
            self._instance,
            *map(ctypes.addressof, (self._info, self._view, self._params)),
            self._decoders.ctypes.data,
            self.channels,
            sample_format,
            color,
            abi.HOST_BUFFER,
        )
        return [Link(codec_calls.decode, table, words)]

    def failed(self, opened: Opened) -> npt.NDArray[np.bool_]:
        return (opened.handle["rows"] > 0) & (opened.handle["status"] != abi.SUCCESS)

    def finish(self, opened: Opened) -> None:
        _release(self._library, opened.handle)

    def _run(self, task: Task, table: npt.NDArray[np.void], *words: int) -> None:
        functions = self._library.functions.ctypes.data
        self.backend.run(Link(task, table, (functions, *words)))

    def _new_decoder(self) -> int:
        backend = abi.Backend.new(
            kind=abi.CPU_ONLY_BACKEND, params=abi.BackendParams.new(load_hint=1.0)
        )
        execution = abi.ExecutionParams.new(
            max_num_cpu_threads=1,  # decodes in the calling thread
            device_id=abi.CPU_ONLY_DEVICE,
            pre_init=1,
            num_backends=1,
            backends=ctypes.addressof(backend),
        )
        decoder = ctypes.c_void_p()
        status = self._library.dll.nvimgcodecDecoderCreate(
            ctypes.c_void_p(self._instance), ctypes.byref(decoder), ctypes.byref(execution), b""
        )
        if status or not decoder.value:
            raise BackendError(f"nvImageCodec: no decoder for the CPU, status {status}")
        return decoder.value


@cache
def _instance() -> tuple[abi.Library, int]:
    """The library, started once a process with the modules that decode on the CPU.

    The modules are named, because those for the GPU print to stderr where they find no GPU
    library.
    """
    library = abi.load()
    info = abi.InstanceCreateInfo.new(load_builtin_modules=1)
    instance = ctypes.c_void_p()
    status = library.dll.nvimgcodecInstanceCreate(ctypes.byref(instance), ctypes.byref(info))
    if status:
        raise BackendError(f"nvImageCodec does not start, status {status}")
    for path in sorted(library.extensions.iterdir()):
        if path.name.removeprefix("lib").startswith(_CPU_MODULES):
            module = ctypes.CDLL(str(path))
            description = abi.ExtensionDesc.new()
            module.nvimgcodecExtensionModuleEntry(ctypes.byref(description))
            extension = ctypes.c_void_p()
            library.dll.nvimgcodecExtensionCreate(
                instance, ctypes.byref(extension), ctypes.byref(description)
            )
    return library, instance.value or 0


def _release(library: abi.Library, table: npt.NDArray[np.void]) -> None:
    if not table["stream"].any():
        return
    functions = library.functions.ctypes.data
    codec_calls.release(len(table), 1, table.ctypes.data, functions)


def _destroy(destroy: ctypes._NamedFuncPointer, decoders: list[int]) -> None:
    for decoder in decoders:
        destroy(ctypes.c_void_p(decoder))
