"""What a figure was measured on: enough to judge it, and nothing that names a machine."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("numpy", "numba", "nvidia-nvimgcodec-cu13", "simplejpeg", "opencv-python-headless")


def cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def describe() -> dict[str, str | int]:
    """Processor, cores and versions."""
    found: dict[str, str | int] = {
        "cpu": cpu_model(),
        "cores": cores(),
        "system": platform.system(),
        "machine": platform.machine(),
        "python": platform.python_version(),
    }
    for name in ("gpuio", *PACKAGES):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def cpu_model() -> str:
    """The processor as the system calls it."""
    lines: dict[str, str] = {}
    source = Path("/proc/cpuinfo")
    if source.exists():
        for line in source.read_text().splitlines():
            name, _, value = line.partition(":")
            lines.setdefault(name.strip(), value.strip())
    if "model name" not in lines:
        return platform.processor() or "unknown"
    numbers = [lines[k] for k in ("cpu family", "model", "stepping") if k in lines]
    return f"{lines['model name']}, family/model/stepping {'/'.join(numbers)}"
