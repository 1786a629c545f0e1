"""What the stub knows, for functions that run in its child: calls, launches, what is alive."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

_STUB = ctypes.CDLL("libcuda.so.1")
_STUB.stub_call.restype = ctypes.c_char_p

KINDS = ("device memory", "pinned memory", "streams", "events")


class _Launch(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char * 256),
        ("device", ctypes.c_int),
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("shared", ctypes.c_uint),
        ("stream", ctypes.c_size_t),
        ("count", ctypes.c_int),
        ("words", ctypes.c_uint64 * 16),
    )


_STUB.stub_launch.restype = ctypes.POINTER(_Launch)


@dataclass(frozen=True)
class Launch:
    """A kernel that was launched.

    Attributes:
        name: Its name in the code that was loaded, which holds that of its function.
        device: Number of the device.
        stream: Handle of the stream.
        args: Its arguments, each as a word; as many as the compiled kernel has.
    """

    name: str
    device: int
    grid: tuple[int, ...]
    block: tuple[int, ...]
    stream: int
    args: tuple[int, ...]


def launches() -> list[Launch]:
    """All launches so far."""
    found = [_STUB.stub_launch(number).contents for number in range(_STUB.stub_launched())]
    return [
        Launch(
            one.name.decode(),
            one.device,
            tuple(one.grid),
            tuple(one.block),
            one.stream,
            tuple(one.words[: one.count]),
        )
        for one in found
    ]


def calls() -> list[str]:
    """Names of all calls so far."""
    return [_STUB.stub_call(number).decode() for number in range(_STUB.stub_called())]


def alive() -> dict[str, int]:
    """How many of each kind were made and not destroyed."""
    return {kind: _STUB.stub_alive(number) for number, kind in enumerate(KINDS)}


def fail(name: str, after: int, code: int, *, stays: bool = False) -> None:
    """Let a call of the driver fail.

    Args:
        name: The function; "" for any.
        after: Which of its calls, from 0.
        code: What it returns then.
        stays: Whether all later ones fail too, as those of a device that is lost.
    """
    _STUB.stub_fail(name.encode(), ctypes.c_long(after), code, int(stays))


def pending() -> bool:
    """Whether the call that is to fail has yet to come."""
    return bool(_STUB.stub_pending())


def depth() -> int:
    """How many contexts are current in the calling thread, one above the other."""
    return int(_STUB.stub_depth())


def capture(*, running: bool) -> None:
    """Play a thread that captures a CUDA graph."""
    _STUB.stub_capture(int(running))
