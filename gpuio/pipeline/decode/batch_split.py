"""Which kind of codec of a GPU decodes which images of a batch."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from gpuio.pipeline.decode.nvimgcodec_base import is_jpeg
from gpuio.pipeline.decode.work_split import WorkSplit

KINDS: Final = "hardware", "hybrid", "cpu"
"""Kinds of codecs, in the order in which they are tried: JPEG engines; CPU and CUDA; CPU."""

_ENGINE_RATE: Final = 4.0
"""The rate of an engine over that of a CPU core, expected before the first measurement."""


def takes(kind: str, table: npt.NDArray[np.void]) -> npt.NDArray[np.bool_]:
    """(N,) bool, images of an IMAGE_JOB table that a kind of codec may be able to decode."""
    if kind == "hardware":
        return is_jpeg(table) & (table["frame"] == 0)
    return is_jpeg(table) if kind == "hybrid" else np.ones(len(table), bool)


class BatchSplit:
    """Shares out the images of batches; several threads may use it.

    Args:
        kinds: The kinds of codecs, in the order in which they are tried.
        engines: JPEG engines of the GPU.
        threads: By kind, its CPU threads for each batch in flight; with 0 for "cpu" the CPU decodes
            only what no other kind takes.
        engine_share: As in `DecoderOptions`.
        measured: Whether rates may decide; if not, each image has the first kind that takes it.
    """

    def __init__(
        self,
        kinds: Sequence[str],
        engines: int,
        threads: Mapping[str, int],
        *,
        engine_share: float | None = None,
        measured: bool = True,
    ) -> None:
        self._kinds, self._measured = tuple(kinds), measured
        self._rest_only = [kind == "cpu" and not threads["cpu"] for kind in kinds]
        self._lock = threading.Lock()
        slots = {kind: max(engines if kind == "hardware" else threads[kind], 1) for kind in kinds}
        rates = {
            kind: count * (_ENGINE_RATE if kind == "hardware" else 1.0)
            for kind, count in slots.items()
        }
        pinned = {}
        if engine_share is not None and "hardware" in kinds:
            pinned["hardware"] = engine_share
        self._split = WorkSplit(rates, pinned, slots=slots, apart=("hybrid", "cpu"))

    def parts(
        self, table: npt.NDArray[np.void], places: npt.NDArray[np.int64], *, engines: bool = True
    ) -> dict[str, npt.NDArray[np.int64]]:
        """By kind, the places of the images that it decodes first.

        Args:
            table: (N,) IMAGE_JOB.
            places: (M,) the images to decode.
            engines: Whether the engines may be used.
        """
        rows = table[places]
        allowed = np.stack([takes(kind, rows) for kind in self._kinds], axis=1)
        if not engines:
            allowed[:, [kind == "hardware" for kind in self._kinds]] = False
        takers = allowed.sum(axis=1, keepdims=True)
        allowed &= ~np.array(self._rest_only) | (takers == 1)
        if not self._measured:
            allowed &= allowed.cumsum(axis=1) == 1  # the first one
        with self._lock:
            chosen = self._split.assign(pixels_of(rows), allowed)
        parts = {kind: places[chosen == number] for number, kind in enumerate(self._kinds)}
        return {kind: part for kind, part in parts.items() if len(part)}

    def report(self, kind: str, pixels: npt.NDArray[np.float64], begin: float, end: float) -> None:
        """Record when a kind of codec began and ended, in seconds, with (M,) pixels of images."""
        with self._lock:
            self._split.report(self._kinds.index(kind), pixels, begin, end)

    def stats(self) -> dict[str, Mapping[str, float]]:
        """By kind, `split`: its recent part of the pixels; `rates`: pixels per second."""
        with self._lock:
            return {"split": self._split.shares, "rates": self._split.rates}


def pixels_of(table: npt.NDArray[np.void]) -> npt.NDArray[np.float64]:
    """(N,) pixels of each image of an IMAGE_JOB table."""
    return table["height"].astype(np.float64) * table["width"]
