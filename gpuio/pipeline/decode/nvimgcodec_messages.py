"""Warnings and errors of nvImageCodec, in its own words."""

from __future__ import annotations

import threading
from collections import deque
from typing import Final

import numpy as np

from gpuio.kernels.codec_messages import REPORTS, SLOTS, TEXT_BYTES, report
from gpuio.pipeline.decode import nvimgcodec_abi as abi

_KEPT: Final = 8


class Messages:
    """The last few different messages of an instance of nvImageCodec, and of gpuio about it.

    Attributes:
        listener: What `nvimgcodec_abi.Instance` takes.
    """

    def __init__(self) -> None:
        self._texts = np.zeros((SLOTS, TEXT_BYTES), np.uint8)
        self._reports = np.zeros(1, REPORTS)
        self._reports["texts"] = self._texts.ctypes.data
        self.listener = abi.Listener(report.address, self._reports, (self._texts,))
        self._seen = 0
        self._kept: deque[str] = deque(maxlen=_KEPT)
        self._lock = threading.Lock()

    def add(self, text: str) -> None:
        """Keep a message, if it is a new one."""
        if text not in self._kept:
            self._kept.append(text)

    def recent(self) -> list[str]:
        """The last few different messages, the oldest first."""
        with self._lock:
            count = int(self._reports["count"][0])
            for number in range(max(self._seen, count - SLOTS), count):
                text, _, _ = self._texts[number % SLOTS].tobytes().partition(b"\0")
                self.add(text.decode(errors="replace").strip())
            self._seen = count
            return list(self._kept)
