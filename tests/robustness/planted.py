"""A worker with doors that have faults, so that the harness is seen to find them."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING

from gpuio.errors import FormatError

from . import doors, worker
from .case import Case, Door, Wrong

if TYPE_CHECKING:
    import random
    from pathlib import Path

CLEAN = (b"first", b"second", b"third" * 20, b"fourth")
BAD = b"!"


class Planted(Door):
    """Base of doors that stumble over the byte BAD, which seed 3 and its multiples have."""

    def make(self, seed: int, rng: random.Random) -> Case:
        parts = list(CLEAN)
        if seed % 3 == 0:
            parts[1] = b"damaged"
            parts[2] = parts[2][:40] + BAD + parts[2][40:]
        return Case(self.name, seed, tuple(parts), CLEAN, {})

    def run(self, case: Case, folder: Path) -> None:
        if any(BAD in part for part in case.parts):
            self.stumble(folder)

    def stumble(self, folder: Path) -> None:
        raise NotImplementedError


class Unnamed(Planted):
    name = "planted-exception"

    def stumble(self, folder: Path) -> None:
        raise IndexError("list index out of range")


class Named(Planted):
    name = "planted-named"

    def stumble(self, folder: Path) -> None:
        raise FormatError(f"{folder / 'a.rec'}: damaged")


class Nameless(Planted):
    name = "planted-nameless"

    def stumble(self, folder: Path) -> None:
        raise FormatError("damaged")


class WrongPixels(Planted):
    name = "planted-wrong"

    def stumble(self, folder: Path) -> None:
        raise Wrong("pixels of record 3 are wrong")


class OpenFile(Planted):
    name = "planted-leak"

    def stumble(self, folder: Path) -> None:
        os.open(__file__, os.O_RDONLY)


class LostThread(Planted):
    name = "planted-thread"

    def stumble(self, folder: Path) -> None:
        threading.Thread(target=time.sleep, args=(6,), name="gpuio-lost", daemon=True).start()


class Printed(Planted):
    name = "planted-printed"

    def stumble(self, folder: Path) -> None:
        thread = threading.Thread(target=lambda: [][0])
        thread.start()
        thread.join()


class Segfault(Planted):
    name = "planted-crash"

    def stumble(self, folder: Path) -> None:
        os.kill(os.getpid(), signal.SIGSEGV)


class Exit(Planted):
    name = "planted-exit"

    def stumble(self, folder: Path) -> None:
        os._exit(3)


class Busy(Planted):
    name = "planted-busy"

    def stumble(self, folder: Path) -> None:
        while True:
            pass


class Still(Planted):
    name = "planted-still"

    def stumble(self, folder: Path) -> None:
        threading.Event().wait()


class Memory(Planted):
    name = "planted-memory"

    def stumble(self, folder: Path) -> None:
        bytearray(2 * worker.MEMORY)


PLANTED = {
    door.name: door
    for door in (
        *(Unnamed, Named, Nameless, WrongPixels, OpenFile, LostThread, Printed, Segfault, Exit),
        *(Busy, Still, Memory),
    )
}

if __name__ == "__main__":
    doors.DOORS.update(PLANTED)
    sys.exit(worker.main())
