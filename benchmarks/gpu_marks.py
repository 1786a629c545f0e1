"""Time on a device: between two points in a stream's work."""

from __future__ import annotations

import time
from typing import Any


class Marks:
    """Points in a stream's work, and the seconds between two of them.

    Args:
        device: Of gpuio; on one whose memory is the host's, work is done when it is queued.
    """

    def __init__(self, device: Any) -> None:
        self._device_id = device.device_id
        self._handle = device._driver.handle

    def mark(self, stream: Any) -> Any:
        """A point behind all that the stream was given so far."""
        if self._device_id is None:
            return time.perf_counter()
        import cupy

        with cupy.cuda.Device(self._device_id):
            event = cupy.cuda.Event()
            cupy.cuda.runtime.eventRecord(event.ptr, self._handle(stream))
        return event

    def seconds(self, begin: Any, end: Any) -> float:
        """Between two marks; waits for the second one."""
        if self._device_id is None:
            return end - begin
        import cupy

        end.synchronize()
        return cupy.cuda.get_elapsed_time(begin, end) / 1000
