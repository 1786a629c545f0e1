"""The GPU that a figure was measured on, as its driver names it, and the versions beside it."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version

import machine
from gpu_child import Row

PACKAGES = (
    "cupy-cuda13x",
    "cupy-cuda12x",
    "numba-cuda",
    "cuda-core",
    "nvidia-nvjpeg",
    "nvidia-nvjpeg-cu12",
    "nvidia-nvimgcodec-cu12",
    "nvidia-dali-cuda130",
    "nvidia-dali-cuda120",
    "torch",
    "torchvision",
    "jax",
)
NAMES = ("name", "driver_version", "memory.total", "mig.mode.current")


def describe(device: str) -> Row:
    """The machine, its GPU and versions."""
    found: Row = dict(machine.describe())
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    values = query(device, NAMES)
    return found | {f"gpu_{k}": v for k, v in zip(NAMES, values, strict=False)}


def memory(device: str) -> float | None:
    """Megabytes in use on the GPU by all processes; None where nobody says."""
    with suppress(ValueError, IndexError):
        return float(query(device, ("memory.used",))[0])
    return None


def query(device: str, names: tuple[str, ...]) -> list[str]:
    """What nvidia-smi says of a GPU; empty without one."""
    tool = shutil.which("nvidia-smi")
    if tool is None or not device.startswith("cuda"):
        return []
    number = device.partition(":")[2] or "0"
    asked = [f"--query-gpu={','.join(names)}", "--format=csv,noheader,nounits", f"--id={number}"]
    done = subprocess.run([tool, *asked], capture_output=True, text=True, check=False)
    return [value.strip() for value in done.stdout.split(",")] if done.returncode == 0 else []
