"""Two batches in flight, threads, resets, closes, forks, collections and exits, again and again.

ThreadSanitizer does not see code that Numba compiles, so this compares values: in whatever order
threads run, every image has its own pixels and comes exactly once.

    python -m robustness.stress NAME SECONDS
"""

from __future__ import annotations

import faulthandler
import gc
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from harness import our_threads

import gpuio
from gpuio import recordio
from gpuio.errors import PipelineClosedError
from gpuio.testing import draw, encode, write_rec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

COUNT, BATCH, SHAPE = 96, 8, (3, 48, 48)
_TESTS = Path(__file__).parents[1]
_GRACE = 180.0  # seconds beyond its time after which a scene hangs: the first compiles kernels


class Scene:
    """What the scenes share: a file and the pixels of its records.

    Args:
        folder: For the file.

    Attributes:
        round: How often the scene was played before.
    """

    def __init__(self, folder: Path) -> None:
        self.rec = folder / "a.rec"
        pictures = (draw(60 + k % 9, 70 - k % 11, seed=k) for k in range(COUNT))
        write_rec(self.rec, [encode(p, "JPEG", quality=92) for p in pictures])
        self.rng = random.Random(3)
        with self.open() as it:
            self.want = {k: x.copy() for b in it for k, x in zip(b.index, b.data[0], strict=True)}
        assert len(self.want) == COUNT
        self.round = 0

    def open(self, **options: Any) -> gpuio.ImageRecordIter:
        chosen = {"shuffle": True, "dtype": "uint8", "preprocess_threads": 2, "resize": 50}
        return gpuio.ImageRecordIter(self.rec, SHAPE, BATCH, device="cpu", **(chosen | options))

    def check(self, batch: Any) -> list[int]:
        """The keys of a batch, whose pixels are right."""
        keys: list[int] = batch.index.tolist()
        wrong = [k for k, x in zip(keys, batch.data[0], strict=True) if (self.want[k] != x).any()]
        assert not wrong, f"images {wrong} are wrong"
        return keys

    def drain(self, it: Any, keys: list[int]) -> None:
        """Take batches until the epoch is over or the iterator closed; from any thread."""
        with suppress(PipelineClosedError, StopIteration):
            while True:
                keys += self.check(it.next())


def in_threads(*works: Callable[[], object]) -> None:
    """Run all at once; the first exception of any is raised, a thread that hangs is one."""
    errors: list[BaseException] = []

    def guarded(work: Callable[[], object]) -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(work,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "a thread hangs"
    if errors:
        raise errors[0]


def share(scene: Scene) -> None:
    """Threads that share an iterator get each image once."""
    with scene.open() as it:
        keys: list[int] = []
        in_threads(*[lambda: scene.drain(it, keys)] * 3)
        assert sorted(keys) == list(range(COUNT)), f"not each once: {Counter(keys)}"


def close(scene: Scene) -> None:
    """An iterator that is closed while another thread takes batches."""
    it, keys = scene.open(), []
    pause = scene.rng.uniform(0, 0.02)
    in_threads(lambda: scene.drain(it, keys), lambda: (time.sleep(pause), it.close()))
    assert len(set(keys)) == len(keys)
    assert not our_threads(), our_threads()


def reset(scene: Scene) -> None:
    """An iterator that is reset while another thread takes batches."""
    with scene.open() as it:
        pause = scene.rng.uniform(0, 0.02)
        in_threads(lambda: scene.drain(it, []), lambda: (time.sleep(pause), it.reset()))
        it.hard_reset()
        keys: list[int] = []
        scene.drain(it, keys)
        assert sorted(keys) == list(range(COUNT))


def two(scene: Scene) -> None:
    """Two iterators with options of their own, in two threads."""

    def epochs(**options: Any) -> None:
        with scene.open(**options) as it:
            for _ in range(3):
                keys: list[int] = []
                scene.drain(it, keys)
                assert sorted(keys) == list(range(COUNT))
                it.reset()

    in_threads(
        lambda: epochs(decoder="portable"),
        lambda: epochs(decoder="nvimgcodec", prefetch_buffer=1),
        lambda: epochs(preprocess_threads=1, shuffle=False),
    )


def collect(scene: Scene) -> None:
    """Iterators dropped in mid-epoch, also in cycles, while garbage is collected elsewhere."""

    def drop() -> None:
        for _ in range(5):
            it = scene.open()
            kept = scene.check(it.next())
            cycle: list[Any] = [it, kept]
            cycle.append(cycle)

    in_threads(drop, drop, lambda: [gc.collect() for _ in range(20)])
    gc.collect()
    for _ in range(200):
        if not our_threads():
            break
        time.sleep(0.01)
        gc.collect()
    assert not our_threads(), our_threads()


def state(scene: Scene) -> None:
    """A state taken in mid-epoch goes on with the very next batch."""
    with scene.open() as first, scene.open() as second:
        for _ in range(scene.rng.randrange(COUNT // BATCH)):
            scene.check(first.next())
        second.load_state_dict(first.state_dict())
        mine: list[int] = []
        theirs: list[int] = []
        in_threads(lambda: scene.drain(first, mine), lambda: scene.drain(second, theirs))
        assert mine == theirs


def fork(scene: Scene) -> None:
    """A fork in mid-epoch: the child is told, and can make its own; the parent goes on."""
    with scene.open() as it:
        keys = scene.check(it.next())
        child = os.fork()
        if not child:
            os._exit(_in_child(scene, it))
        scene.drain(it, keys)
        _, status = os.waitpid(child, 0)
        assert status == 0, f"the child ended with {status:#x}"
        assert sorted(keys) == list(range(COUNT))


def _in_child(scene: Scene, it: Any) -> int:
    signal.alarm(60)
    try:
        it.next()
    except PipelineClosedError:
        pass
    else:
        return 3
    try:
        it.reset()
    except PipelineClosedError:
        pass
    except BaseException:
        return 4
    it.close()
    keys: list[int] = []
    with scene.open() as own:
        scene.drain(own, keys)
    return 0 if sorted(keys) == list(range(COUNT)) else 5


def readers(scene: Scene) -> None:
    """Readers closed under reads: the record or an error, never what another file holds."""
    other = scene.rec.parent / "other.rec"
    write_rec(other, [b"x" * 4000] * 200)
    with recordio.MXIndexedRecordIO(None, scene.rec, "r") as file:
        right = file[:]
    reader = recordio.MXIndexedRecordIO(scene.rec.with_suffix(".idx"), scene.rec, "r")
    pause = scene.rng.uniform(0, 0.003)

    def read(reader: Any = reader) -> None:
        with suppress(RuntimeError, ValueError, PipelineClosedError):
            for number in range(COUNT):
                found = reader.read_idx(number)
                assert found == right[number], f"record {number} is another one"

    def shut(reader: Any = reader, pause: float = pause) -> None:
        time.sleep(pause)
        reader.close()
        for _ in range(20):
            with recordio.MXRecordIO(other, "r") as file:
                file.read()

    in_threads(read, read, shut)


def leave(scene: Scene) -> None:
    """Processes that end in mid-epoch, in all ways, end at once and with their own status."""
    ways = {
        "pass": 0,
        "sys.exit(7)": 7,
        "1 / 0": 1,
        "threading.Thread(target=take, daemon=True).start()": 0,
        "threading.Thread(target=take).start()": 0,
        "import os; os._exit(5)": 5,
        "import gc; a = [it]; a.append(a); del it, a": 0,
        "state = it.state_dict(); it.reset(); next(it)": 0,
    }
    way, status = list(ways.items())[scene.round % len(ways)]
    code = (
        "import contextlib, sys, threading, gpuio\n"
        "from gpuio.errors import PipelineClosedError\n"
        f"it = gpuio.ImageRecordIter({str(scene.rec)!r}, {SHAPE}, {BATCH}, device='cpu')\n"
        "def take():\n"
        "    with contextlib.suppress(PipelineClosedError):\n"
        "        list(it)\n"
        f"next(it)\n{way}\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        timeout=120,
        check=False,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert done.returncode == status, f"{way}: status {done.returncode}: {done.stderr[-300:]}"
    noise = done.stderr if status != 1 else ""
    assert not noise, f"{way}: {noise[-300:]}"


SCENES = {
    scene.__name__: scene
    for scene in (share, close, reset, two, collect, state, fork, readers, leave)
}


def run_scenes(names: Iterable[str], seconds: float) -> list[str]:
    """Run scenes in children, one after the other; what failed.

    Args:
        names: Of the scenes.
        seconds: For all of them.
    """
    names = list(names)
    failures = []
    for name in names:
        each = seconds / len(names)
        try:
            done = subprocess.run(
                [sys.executable, "-m", f"{__package__}.stress", name, str(each)],
                cwd=_TESTS,
                timeout=each + _GRACE,
                check=False,
                capture_output=True,
                text=True,
            )
        except subprocess.TimeoutExpired:
            failures.append(f"{name}: hangs")
            continue
        if done.returncode:
            failures.append(f"{name}: status {done.returncode}: {_gist(done.stderr)}")
    return failures


def _gist(printed: str) -> str:
    """Of what a scene printed, the stacks of a crash or the end of a traceback."""
    crash = printed.find("Fatal Python error")
    return printed[crash : crash + 900] if crash >= 0 else printed.strip()[-900:]


def main() -> None:
    faulthandler.enable()
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    name, seconds = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        scene, end = Scene(Path(folder)), time.monotonic() + float(seconds)
        while time.monotonic() < end or not scene.round:
            SCENES[name](scene)
            scene.round += 1


if __name__ == "__main__":
    main()
