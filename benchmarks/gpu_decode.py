"""How fast nvImageCodec decodes on this GPU, and with which settings it is fastest.

    python gpu_decode.py MEASUREMENT SETTINGS     # SETTINGS is JSON

Bare decoding of whole batches from memory, in the mixture of subsamplings that the data have:
nvImageCodec takes another way for a mixture than for pictures that are all alike.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from gpu_bare import Bare, Decoding, Stage
from gpu_chain import WAYS
from gpu_child import Row, answer
from gpu_sides import Binding, rate
from gpu_slots import CHAIN, kinds_of

from gpuio.devices import make_device
from gpuio.pipeline.decode import nvimgcodec_abi as abi
from gpuio.pipeline.decode.base import DecoderOptions
from gpuio.pipeline.decode.nvimgcodec_gpu import NvImageCodecGpuDecoder
from gpuio.sources.recordio.source import RecordIOSource

WHO = (*CHAIN, "portable", "unwritten")
"""What a decoder of gpuio's counts; nvImageCodec does not say which codec decoded."""

OPTIONS = {
    "preallocated": "nvjpeg_hw_decoder:preallocate_batch_size={batch} "
    "nvjpeg_hw_decoder:preallocate_width_hint=1024 nvjpeg_hw_decoder:preallocate_height_hint=1024",
    "GPU Huffman": "nvjpeg_cuda_decoder:hybrid_huffman_threshold=0",
}
"""More of nvImageCodec's options to try."""


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


def _row(settings: Row, /, *, side: type[Decoding] = Bare, **options: Any) -> Row:
    """The rate of decoding with some options of the decoder, and who decoded."""
    decoding = side(settings | {"options": options})
    try:
        found = rate(decoding, settings["seconds"])
        stats = decoding.decoder.stats()
    finally:
        decoding.close()
    return found | {kind: stats[kind] for kind in WHO if kind in stats}


def paths(settings: Row) -> Iterator[Row]:
    """Every way of nvImageCodec, with smooth colours and without, and two decoders at once.

    The last rows are nvImageCodec by its own Python module, gpuio's decoder, that to planes of luma
    and chroma, and that with each kind of codec alone.
    """
    ways = [*WAYS] if settings["engines"] else ["default"]
    for (count, fancy), way in itertools.product(((1, True), (1, False), (2, True)), ways):
        options = {"way": way, "fancy": fancy, "decoders": count}
        yield {**options, "share": 1.0, **_row(settings, **options)}
    module = Binding(settings | {"options": {}})
    yield {"way": "its Python module", "fancy": True} | rate(module, settings["seconds"])
    yield {"way": "gpuio's decoder", "fancy": True} | _row(settings, side=Stage)
    planes = _row(settings, side=Stage, output="yuv")
    yield {"way": "gpuio's decoder, planes", "fancy": True} | planes
    for kind, kinds in kinds_of(settings).items():
        yield {"way": f"gpuio, {kind}", "fancy": True} | _row(settings, side=Stage, kinds=kinds)


def shares(settings: Row) -> Iterator[Row]:
    """One way of nvImageCodec, by the part of a batch that the engines get, alone and in pairs.

    What the engines do not get goes to CUDA and to CPU threads.
    """
    for count, share in itertools.product(settings["decoders"], settings["shares"]):
        options = {"way": settings["way"], "fancy": True, "decoders": count, "share": share}
        yield options | _row(settings, **options)


def sizes(settings: Row) -> Iterator[Row]:
    """Other batches, CPU threads, memory and options."""
    usual = settings["batch_size"]
    for batch in settings["batches"]:
        given = settings | {"batch_size": batch, "images": max(settings["images"], batch)}
        yield {"what": f"batches of {batch}"} | _row(given)
    for threads in settings["fewer_threads"]:
        yield {"what": f"{threads} CPU threads"} | _row(settings | {"threads": threads})
    yield {"what": "pageable memory"} | _row(settings, pinned=False)
    for what, options in OPTIONS.items() if settings["engines"] else ():
        yield {"what": what} | _row(settings, settings=options.format(batch=usual))


MEASUREMENTS = {m.__name__: m for m in (hardware, paths, shares, sizes)}

if __name__ == "__main__":
    answer(MEASUREMENTS)
