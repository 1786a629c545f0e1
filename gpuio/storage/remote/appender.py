"""Files at URLs that are written piece by piece."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Literal

from gpuio.errors import RemoteError
from gpuio.storage.appender import Appender
from gpuio.storage.remote.output import Upload


class RemoteAppender(Appender):
    """A file at a URL.

    Args:
        url: The URL.

    Raises:
        RemoteError: It cannot be written.
    """

    appears_when_closed = True

    def __init__(self, url: str) -> None:
        self._upload = Upload(url)
        self._file = self._upload.open()
        self._state: Literal["open", "broken", "closed"] = "open"
        self.position = 0

    def append(self, data: bytes) -> int:
        start = self.position
        try:
            self._file.write(data)
        except BaseException:
            self._state = "broken"
            raise
        self.position = start + len(data)
        return start

    def cut(self, position: int) -> None:
        self._state = "broken"  # what was sent cannot be taken back: the whole file is given up

    def remove_old(self) -> None:
        if self._state == "open":
            self._upload.remove()

    def abandon(self) -> None:
        if self._state == "open":
            self._state = "broken"

    def close(self) -> None:
        state, self._state = self._state, "closed"
        if state == "closed" or sys.is_finalizing():  # fsspec's thread is gone then
            return
        try:
            if state == "open":
                self._file.close()
                self._upload.commit()
                return
        except BaseException:
            self._upload.discard()
            raise
        with suppress(RemoteError):
            self._file.close()
        self._upload.discard()
