"""Images that kernels make for an `ImageIter`, as long as its list of augmenters allows that."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gpuio.core.extras import explained
from gpuio.mxnet.image.samples import KeyedSamples
from gpuio.mxnet.image.sequence import SampleSequence
from gpuio.mxnet.ndarray import NDArray

if TYPE_CHECKING:
    from gpuio.mxnet.image.chunks import ChunkPipeline


class KernelPath:
    """The pipeline for the current list of augmenters, which is made anew for another list."""

    def __init__(
        self,
        samples: KeyedSamples,
        sequence: SampleSequence,
        batch_size: int,
        label_width: int,
        threads: int,
    ) -> None:
        self._samples, self._sequence = samples, sequence
        self._batch_size, self._label_width, self._threads = batch_size, label_width, threads
        self._pipeline: ChunkPipeline | None = None
        self._augs: list[Any] | None = None

    def accepts(self, augs: Sequence[Any], data_shape: tuple[int, ...]) -> bool:
        """Whether kernels can run a list of augmenters; `take` runs this list from now on."""
        if self._pipeline is not None and self._pipeline.pid != os.getpid():
            self._pipeline = self._augs = None  # its threads stayed with the parent
        if list(augs) != self._augs:
            self.close()
            self._augs = list(augs)
            self._pipeline = self._compile(self._augs, data_shape)
        return self._pipeline is not None

    def _compile(self, augs: list[Any], data_shape: tuple[int, ...]) -> ChunkPipeline | None:
        with explained("ImageIter"):
            from gpuio.mxnet.image.chunks import ChunkPipeline
            from gpuio.mxnet.image.compiled import Compiled

        channels, height, width = data_shape
        compiled = Compiled.of(augs, (channels, height, width))
        if compiled is None or not len(self._sequence.keys):
            return None
        width = max(self._label_width, 1)
        return ChunkPipeline(self._samples, compiled, self._batch_size, width, self._threads)

    def take(self, count: int, filled: int, *, kept: bool) -> tuple[NDArray, NDArray]:
        """Data and labels of the next `count` samples: see `ChunkPipeline.take`."""
        assert self._pipeline is not None
        chunk = self._pipeline.take(self._sequence, count, filled, kept=kept)
        labels = chunk.labels if self._label_width > 1 else chunk.labels[:, 0]
        return chunk.data.view(NDArray), labels.view(NDArray)

    def stop(self) -> None:
        """Drop the images under way."""
        if self._pipeline is not None:
            self._pipeline.stop()

    def interrupt(self) -> None:
        """Wake all threads that wait for images, from any thread; only `close` may follow."""
        pipeline = self._pipeline
        if pipeline is not None:
            pipeline.interrupt()

    def close(self) -> None:
        """End everything."""
        if self._pipeline is not None:
            self._pipeline.close()
        self._pipeline = None
