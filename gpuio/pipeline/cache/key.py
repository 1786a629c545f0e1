"""The name of a shared store: a digest of all that its pixels and labels depend on."""

from __future__ import annotations

from dataclasses import fields
from hashlib import blake2b
from importlib.metadata import PackageNotFoundError, version
from typing import Final

import numpy as np

from gpuio.pipeline.decode.base import Decoder, DecoderOptions
from gpuio.pipeline.plan import Plan
from gpuio.sources.base import RecordSource

_PACKAGES: Final = (
    "gpuio", "numba", "numpy", "pillow", "simplejpeg",
    "nvidia-nvimgcodec-cu12", "nvidia-nvimgcodec-cu13",
)  # fmt: skip
_SAMPLE: Final = 1000  # records whose versions are part of the key


def cache_key(
    plan: Plan, decoder: Decoder, options: DecoderOptions, source: RecordSource, label_width: int
) -> str:
    """32 hexadecimal digits; equal only where cached pixels and labels are equal, too.

    A record that changes without changing the key is found out by its own version.

    Args:
        plan: What is done to every image; its first ops may be part of what is cached.
        decoder: Makes the pixels.
        options: What it was told.
        source: The records.
        label_width: Labels of an entry.
    """
    some = np.linspace(0, len(source) - 1, min(len(source), _SAMPLE)).astype(np.int64)
    versions = source.versions(some)
    told = {each.name: getattr(options, each.name) for each in fields(options)}
    kind = options.device.name.partition(":")[0]  # GPUs of one machine share a cache
    told |= {"device": kind, "source": None}
    parts = [
        None if plan.cache is None else plan.cache.nbytes,
        plan.ops[: plan.cached_after],
        f"{type(decoder).__module__}.{type(decoder).__qualname__} {decoder.name}",
        told,
        [(name, _version(name)) for name in _PACKAGES],
        (len(source), source.fingerprint(), label_width),
        None if versions is None else versions.tobytes(),
    ]
    return blake2b(repr(parts).encode(), digest_size=16).hexdigest()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
