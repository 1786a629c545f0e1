"""Each call to the system fails once, in turn, through an epoch, a packing, and what else there is.

A process that has imported and compiled all of it forks a child for each call. What may come of it:
right values, or an error that names its file and what the system said; and nothing is left open or
half written.

    python -m robustness.injection SCENE MOST
"""

from __future__ import annotations

import builtins
import contextlib
import ctypes
import errno
import io
import json
import os
import resource
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from harness import our_threads

import gpuio
from gpuio import recordio
from gpuio.cli import main as gpuio_command
from gpuio.errors import GpuioError
from gpuio.formats import saved_array
from gpuio.formats.index import Index
from gpuio.formats.recordio import scan
from gpuio.testing import draw, encode, write_rec

from .case import Wrong
from .judge import open_files, place_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_TESTS = Path(__file__).parents[1]
COUNT, BATCH, SHAPE = 24, 8, (3, 32, 36)
_LIMIT = 60  # seconds for one child
_C_KINDS = {
    "read": 1,
    "short read": 2,
    "write": 3,
    "open": 4,
    "rename": 5,
    "mmap": 6,
    "malloc": 7,
    "pthread_create": 8,
    "fsync": 9,
    "ftruncate": 10,
}
_HARMLESS = ("short read",)  # after which all must be as ever
_MEMORY = ("mmap", "malloc")  # where a MemoryError says it all


@dataclass
class Outcome:
    """What came of one call that failed."""

    kind: str
    number: int
    verdict: str
    text: str = ""


@dataclass
class Report:
    """What came of one scene."""

    scene: str
    tried: int = 0
    bad: list[Outcome] = field(default_factory=list)


class Shim:
    """A kind of call that `shim.c` lets fail."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._library = ctypes.CDLL(None)
        self._library.shim_arm.argtypes = (ctypes.c_int, ctypes.c_long, ctypes.c_char_p)
        self._library.shim_disarm.restype = ctypes.c_long

    def arm(self, number: int, folder: Path) -> None:
        self._library.shim_arm(_C_KINDS[self.name], number, os.fsencode(folder))

    def disarm(self) -> int:
        return int(self._library.shim_disarm())


class Seam:
    """A function of Python that fails, for those that have no compiler.

    Args:
        name: For reports.
        owner: The module or class of the function.
        attribute: Its name there.
        code: The errno of its error; None for a thread that cannot be started.
    """

    def __init__(self, name: str, owner: Any, attribute: str, code: int | None) -> None:
        self.name, self._owner, self._attribute, self._code = name, owner, attribute, code
        self._real = getattr(owner, attribute)
        self._lock = threading.Lock()
        self._calls = self._wanted = 0
        self._folder = ""

    def arm(self, number: int, folder: Path) -> None:
        self._calls, self._wanted, self._folder = 0, number, str(folder)
        seam = self

        def fails(*args: Any, **named: Any) -> Any:
            with seam._lock:
                seam._calls += seam._is_ours(args)
                now = seam._calls == seam._wanted and seam._is_ours(args)
            if now:
                raise seam._failure(args)
            return seam._real(*args, **named)

        setattr(self._owner, self._attribute, fails)

    def _failure(self, args: Sequence[Any]) -> BaseException:
        """A new error, with the path if the function was given one, as the system's have it."""
        if self._code is None:
            return RuntimeError("can't start new thread")
        named = args[:1] if isinstance(args[0], str | os.PathLike) else ()
        return OSError(self._code, os.strerror(self._code), *map(os.fspath, named))

    def disarm(self) -> int:
        setattr(self._owner, self._attribute, self._real)
        return self._calls

    def _is_ours(self, args: Sequence[Any]) -> bool:
        """Whether a call is about a file of the scene, or about none."""
        what = args[0] if args else None
        if isinstance(what, int):
            with contextlib.suppress(OSError):
                return os.readlink(f"/proc/self/fd/{what}").startswith(self._folder)  # noqa: PTH115
            return False
        return isinstance(what, threading.Thread) or str(what).startswith(self._folder)


def seams() -> list[Seam]:
    """The functions through which gpuio talks to the system."""

    return [
        Seam("os.open", os, "open", errno.EMFILE),
        Seam("open", builtins, "open", errno.EMFILE),
        Seam("io.open", io, "open", errno.EMFILE),
        Seam("os.pread", os, "pread", errno.EIO),
        Seam("os.preadv", os, "preadv", errno.EIO),
        Seam("os.replace", os, "replace", errno.EIO),
        Seam("os.rename", os, "rename", errno.EIO),
        Seam("os.fsync", os, "fsync", errno.EIO),
        Seam("Thread.start", threading.Thread, "start", None),
    ]


class Scene:
    """Something to do, whose right result is known.

    Args:
        folder: For its files; made new for each child.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def prepare(self) -> None:
        """Write the files."""

    def run(self) -> None:
        """Do it, while a call fails; what comes out of it is checked."""
        raise NotImplementedError

    def check(self) -> None:
        """What must hold where it worked, looked at when nothing fails any more."""

    def after(self) -> None:
        """What must hold then, whether it worked or not."""


@cache
def _images() -> tuple[bytes, ...]:
    """Large enough that codecs need more memory than small objects take."""
    kinds = ("JPEG", "PNG", "BMP")
    return tuple(encode(draw(160, 240, seed=k), kinds[k % 3]) for k in range(COUNT))


class Epoch(Scene):
    """An epoch of ImageRecordIter."""

    options: ClassVar[dict[str, Any]] = {"decoder": "portable"}

    def prepare(self) -> None:
        write_rec(self.folder / "a.rec", _images())
        with self._open() as it:
            self.want = {k: x.copy() for b in it for k, x in zip(b.index, b.data[0], strict=True)}

    def _open(self) -> gpuio.ImageRecordIter:
        return gpuio.ImageRecordIter(
            self.folder / "a.rec",
            SHAPE,
            BATCH,
            device="cpu",
            dtype="uint8",
            resize=40,
            preprocess_threads=2,
            **{"on_error": "zero", **self.options},
        )

    def run(self) -> None:
        with self._open() as it:
            zeros = self._epoch(it)
            if zeros > it.faults.count:
                raise Wrong(f"{zeros} images are zeros, {it.faults.count} faults are told")
            for error in it.faults.first:
                if str(self.folder) not in str(error):
                    raise Wrong(f"a fault names no file: {error}")

    def after(self) -> None:
        with self._open() as it:
            if self._epoch(it):
                raise Wrong("the next epoch, where nothing fails, is not whole")

    def _epoch(self, it: gpuio.ImageRecordIter) -> int:
        """How many images are zeros; the others are right, and each came once."""
        zeros, keys = 0, []
        for batch in it:
            for key, image in zip(batch.index.tolist(), batch.data[0], strict=True):
                keys.append(key)
                if not image.any():
                    zeros += 1
                elif (image != self.want[key]).any():
                    raise Wrong(f"pixels of record {key} are wrong")
        if sorted(keys) != list(range(COUNT)):
            raise Wrong(f"keys are {keys}")
        return zeros


class EpochNv(Epoch):
    """The same with nvImageCodec."""

    options: ClassVar[dict[str, Any]] = {"decoder": "nvimgcodec"}


class Mean(Epoch):
    """A mean image to be made."""

    @property
    def _mean(self) -> Path:
        return self.folder / "mean.bin"

    def run(self) -> None:
        self.options = {"decoder": "portable", "mean_img": self._mean, "on_error": "raise"}
        for _ in range(2):  # once it is made, then it is read
            with self._open():
                pass

    def check(self) -> None:
        (image,) = saved_array.load(self._mean).values()
        right = np.mean([image.astype(np.float64) for image in self.want.values()], axis=0)
        if np.abs(image - right).max() > 1e-3:
            raise Wrong("the mean image is wrong")

    def after(self) -> None:
        names = sorted(p.name for p in self.folder.iterdir())
        if set(names) - {"a.rec", "a.idx", "mean.bin"}:
            raise Wrong(f"files are left: {names}")
        self.run()
        self.check()


class Pack(Scene):
    """A packing in place of an older one."""

    def prepare(self) -> None:
        (self.folder / "images").mkdir()
        lines = []
        for k in range(COUNT):
            (self.folder / "images" / f"{k}.jpg").write_bytes(_images()[k])
            lines.append(f"{k}\t{k}.0\t{k}.jpg\n")
        (self.folder / "a.lst").write_text("".join(lines))
        self._command()
        self.new = (self.folder / "a.rec").read_bytes()
        write_rec(self.folder / "a.rec", [bytes([k]) * 40 for k in range(COUNT)])
        self.old = (self.folder / "a.rec").read_bytes()

    def _command(self) -> None:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            words = ("im2rec", self.folder / "a", self.folder / "images", "--pass-through")
            status = gpuio_command([str(word) for word in words])
        if status == 2:
            raise GpuioError(err.getvalue())
        self.said = out.getvalue() + err.getvalue()
        self.status = status

    def run(self) -> None:
        self._command()

    def check(self) -> None:
        count = len(scan(self.folder / "a.rec"))
        whole = (self.folder / "a.rec").read_bytes() == self.new
        if self.status == 0 and not whole:
            raise Wrong("success, but the .rec is not what it should be")
        if self.status == 1 and (count != COUNT - 1 or "images" not in self.said):
            raise Wrong(f"status 1 with {count} records: {self.said[-200:]}")

    def after(self) -> None:
        rec, idx = self.folder / "a.rec", self.folder / "a.idx"
        left = {p.name for p in self.folder.iterdir()} - {"images", "a.lst", "a.rec", "a.idx"}
        if left:
            raise Wrong(f"files are left: {sorted(left)}")
        starts = scan(rec).tolist()
        if len(starts) < COUNT - 1:
            raise Wrong(f"the .rec has {len(starts)} records")
        if idx.exists() and Index.load(idx).offsets.tolist() != starts:
            raise Wrong("the .idx is not that of the .rec")


class Write(Scene):
    """Records written one by one with an index."""

    def run(self) -> None:
        writer = recordio.MXIndexedRecordIO(self.folder / "a.idx", self.folder / "a.rec", "w")
        with writer:
            for k in range(COUNT):
                writer.write_idx(k, bytes([k]) * 1000)

    def check(self) -> None:
        if len(scan(self.folder / "a.rec")) != COUNT:
            raise Wrong("success, but records are missing")

    def after(self) -> None:
        rec, idx = self.folder / "a.rec", self.folder / "a.idx"
        starts = scan(rec).tolist() if rec.exists() else []
        lines = Index.load(idx).offsets.tolist() if idx.exists() else []
        if starts != lines:
            raise Wrong(f"{len(starts)} records and {len(lines)} lines of their index")


class Records(Scene):
    """Records read in order and by key."""

    def prepare(self) -> None:
        self.payloads = [bytes([k]) * (400 + 3000 * k) for k in range(COUNT)]
        write_rec(self.folder / "a.rec", self.payloads)

    def run(self) -> None:
        rec, idx = self.folder / "a.rec", self.folder / "a.idx"
        with recordio.MXIndexedRecordIO(idx, rec, "r") as file:
            found = [recordio.unpack(file.read_idx(key))[1] for key in file.keys]
            again = [recordio.unpack(record)[1] for record in file]
        if found != self.payloads or again != self.payloads:
            raise Wrong("records are not what was written")


SCENES: dict[str, type[Scene]] = {
    "epoch": Epoch,
    "epoch-nv": EpochNv,
    "mean": Mean,
    "pack": Pack,
    "write": Write,
    "records": Records,
}


def attempt(scene: Scene, kind: Shim | Seam, number: int) -> tuple[Outcome, int]:
    """Let call `number` of a kind fail in a child; what came of it, and how many calls there were.

    With number 0 none fails.
    """
    receive, send = os.pipe()
    child = os.fork()
    if not child:
        os.close(receive)
        found = _attempt_here(scene, kind, number)
        os.write(send, json.dumps(found).encode())
        os._exit(0)
    os.close(send)
    try:
        data = b""
        if select.select([receive], [], [], _LIMIT)[0]:
            data = os.read(receive, 1 << 16)
        else:
            os.kill(child, signal.SIGABRT)
        _, status = os.waitpid(child, 0)
    finally:
        os.close(receive)
    if not data:
        code = os.waitstatus_to_exitcode(status)
        name = signal.Signals(-code).name if code < 0 else f"exit {code}"
        hang = "hangs, then " if name == "SIGABRT" else ""
        return Outcome(kind.name, number, "crash", hang + name), 0
    verdict, text, calls = json.loads(data)
    return Outcome(kind.name, number, verdict, text), calls


def _attempt_here(scene: Scene, kind: Shim | Seam, number: int) -> tuple[str, str, int]:
    sys.stderr = io.StringIO()
    unheard: list[str] = []
    sys.unraisablehook = lambda what: unheard.append(f"{what.err_msg}: {what.exc_value!r}")
    threading.excepthook = lambda what: unheard.append(f"in a thread: {what.exc_value!r}")
    verdict, text = "ok", ""
    try:
        with tempfile.TemporaryDirectory(dir=scene.folder) as folder:
            here = type(scene)(Path(folder))
            here.prepare()
            files = open_files()
            kind.arm(number, here.folder)
            try:
                here.run()
            except Exception as error:
                verdict, text = _judge(kind, error, here.folder)
                error.__traceback__ = None
            calls = kind.disarm()
            if verdict == "ok":
                here.check()
            deadline = time.monotonic() + 2
            while (left := sorted(open_files() - files) + our_threads()) and (
                time.monotonic() < deadline
            ):
                time.sleep(0.01)
            if left:
                return "leak", f"{text}: {left}", calls
            if not verdict.startswith("bad"):
                here.after()
    except BaseException as error:
        return "bad", f"after: {error!r} | {place_of(error)}", kind.disarm()
    if unheard and verdict in ("ok", "error"):
        return "bad", f"printed, not raised: {unheard[0]}", calls
    return verdict, text, calls


def _judge(kind: Shim | Seam, error: Exception, folder: Path) -> tuple[str, str]:
    """Whether an error is one that may come of a failed call."""
    notes = getattr(error, "__notes__", ())
    text = f"{type(error).__name__}: {error} {' '.join(notes)} | {place_of(error)}"
    if isinstance(error, MemoryError) and kind.name in _MEMORY:
        return "error", text
    if isinstance(error, Wrong) or kind.name in _HARMLESS:
        return "bad", text
    if not isinstance(error, (GpuioError, OSError)):
        return "bad", text
    thread = kind.name in ("pthread_create", "Thread.start", *_MEMORY)
    if not thread and str(folder) not in text:
        return "bad", f"names no file: {text}"
    return "error", text


def numbers(calls: int, most: int) -> Iterator[int]:
    """Which of so many calls are to fail: all of them, or `most`, those at the ends and between."""
    if calls <= most:
        yield from range(1, calls + 1)
    else:
        yield from sorted({round(1 + k * (calls - 1) / (most - 1)) for k in range(most)})


def run_scene(name: str, kinds: Sequence[Shim | Seam], most: int) -> Report:
    """Let each kind of call fail, up to `most` of each, in children of this process."""
    report = Report(name)
    with tempfile.TemporaryDirectory() as folder:
        scene = SCENES[name](Path(folder))
        warm = Path(folder) / "warm"
        warm.mkdir()
        first = SCENES[name](warm)
        first.prepare()
        first.run()  # compiles and imports what children then have
        for kind in kinds:
            _, calls = attempt(scene, kind, 0)
            for number in numbers(calls, most):
                outcome, _ = attempt(scene, kind, number)
                report.tried += 1
                if outcome.verdict not in ("ok", "error"):
                    report.bad.append(outcome)
    return report


def build_shim(folder: Path) -> Path | None:
    """The library for LD_PRELOAD; None where it cannot be built."""
    library = folder / "shim.so"
    source = Path(__file__).with_name("shim.c")
    words = ["cc", "-O1", "-shared", "-fPIC", "-pthread", "-o", str(library), str(source), "-ldl"]
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        subprocess.run(words, check=True, capture_output=True)
        return library
    return None


def run_in_child(name: str, most: int, shim: Path | None, seconds: float) -> Report:
    """`run_scene` in a process of its own; with the shim, or with the seams of Python."""
    environment = dict(os.environ)
    if shim is not None:
        environment["LD_PRELOAD"] = str(shim)
    done = subprocess.run(
        [sys.executable, "-m", f"{__package__}.injection", name, str(most)],
        cwd=_TESTS,
        env=environment,
        timeout=seconds,
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise AssertionError(f"{name}: status {done.returncode}: {done.stderr[-2000:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    return Report(name, found["tried"], [Outcome(**bad) for bad in found["bad"]])


def main() -> None:
    name, most = sys.argv[1:]
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    preloaded = "LD_PRELOAD" in os.environ
    kinds: list[Any] = list(map(Shim, _C_KINDS)) if preloaded else seams()
    report = run_scene(name, kinds, int(most))
    bad = [vars(outcome) for outcome in report.bad]
    print(json.dumps({"tried": report.tried, "bad": bad}))


if __name__ == "__main__":
    main()
