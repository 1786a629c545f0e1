"""Measure a training loop: a report of its time, ranges in profilers, a progress bar."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from gpuio.core.extras import explained
from gpuio.core.timing import ProfilerRange
from gpuio.observe.report import Report

if TYPE_CHECKING:
    from gpuio.interop.loader import Loader
    from gpuio.mxnet.iterators.record_iter import RecordIter


@contextmanager
def profile(
    loader: RecordIter | Loader, *, ranges: Iterable[ProfilerRange] | None = None
) -> Iterator[Report]:
    """Measure a `with` block: what each stage did, and which one is the bottleneck.

        with gpuio.profile(loader) as report:
            for batch in loader:
                ...
        print(report)

    While the block lasts, profilers show a range for whatever the loader does: "gpuio.read" and, in
    it, "gpuio.files"; "gpuio.decode"; and what waits for them, "gpuio.read awaited" in the thread
    that decodes, "gpuio.decode awaited" in the one that trains. `torch.profiler` shows other
    threads than its own only with `experimental_config=torch.profiler._ExperimentalConfig(
    profile_all_threads=True)`.

    Args:
        loader: An iterator over images of .rec files, or a loader made from one. Other loaders may
            run beside it.
        ranges: Callables that take a name and return a context manager. When None, those of
            `torch.profiler`, where the script has imported torch, and of the nvtx package, where
            it is installed.

    Yields:
        The report: of the time so far while the block lasts, then of the whole block.

    Raises:
        TypeError: `loader` is neither of these.
    """
    source = _source(loader)
    report = Report(source)
    source.pipeline.mark(_profilers() if ranges is None else ranges)
    try:
        yield report
    finally:
        source.pipeline.mark(())
        report.end()


def _source(loader: Any) -> RecordIter:
    source: RecordIter = getattr(loader, "source", loader)
    if not hasattr(source, "pipeline"):
        raise TypeError(
            "an iterator over images of .rec files, or a loader made from one, can be measured, "
            f"not {type(loader).__name__}"
        )
    return source


def _profilers() -> Iterator[ProfilerRange]:
    profiler = sys.modules.get("torch.profiler")
    if profiler is not None:
        yield profiler.record_function
    if importlib.util.find_spec("nvtx") is not None:
        from nvtx import annotate

        yield annotate


def progress(loader: RecordIter | Loader, **options: Any) -> Progress:
    """The batches of an epoch, with a progress bar on the standard error.

    The bar also shows images per second, and which part of the time the loop waited for batches.
    Without a terminal nothing is shown.

    Args:
        loader: An iterator or loader; loops over the result go through its batches as loops over
            itself do.
        options: Options of `tqdm.tqdm`, such as `file` or `disable`.
    """
    return Progress(loader, options)


class Progress:
    """A loader whose loops show a progress bar: see `progress`."""

    def __init__(self, loader: RecordIter | Loader, options: Mapping[str, Any]) -> None:
        self._loader, self._source, self._options = loader, _source(loader), options

    def __len__(self) -> int:
        """Batches in an epoch."""
        return len(self._loader)

    def __iter__(self) -> Iterator[Any]:
        """The batches that a loop over the loader gets."""
        with explained("progress"):
            from tqdm import tqdm

        source, total = self._source, len(self)
        report = Report(source)
        # Without a terminal tqdm takes None for True.
        given = {"total": total, "unit": " batches", "disable": None, "dynamic_ncols": True}
        with tqdm(**{**given, **self._options}) as line:
            for number, batch in enumerate(self._loader):
                if number == 0:  # only now the epoch and the batches taken before are known
                    line.initial = line.n = total - source.left - 1
                    line.set_description(f"epoch {source.epoch}", refresh=False)
                yield batch
                del batch
                line.set_postfix_str(report.brief, refresh=False)
                line.update()
