"""Compiled kernels allocate nothing: a failed allocation there would be heard by nobody."""

from __future__ import annotations

import importlib
import pkgutil
import re

import pytest

import gpuio.kernels
from gpuio.kernels.routine import Routine

NEEDS_A_GPU = {"device", "device_color", "device_output", "device_pixels", "simulated"}
ALLOCATES = re.compile(r"NRT_\w*[Aa]lloc\w*|\bmalloc\b|PyTuple_Pack|PyUnicode_FromKindAndData")


def tasks():
    """By name, every kernel that threads run item by item, and what it calls by address."""
    found = {}
    for module in pkgutil.walk_packages(gpuio.kernels.__path__, f"{gpuio.kernels.__name__}."):
        where = module.name.removeprefix(f"{gpuio.kernels.__name__}.")
        if where not in NEEDS_A_GPU:
            members = vars(importlib.import_module(module.name))
            for name, table in members.items():
                if isinstance(table, dict) and name.startswith("emit"):
                    members = {**members, **{f"{name}[{key}]": task for key, task in table.items()}}
            tasks = {name: task for name, task in members.items() if isinstance(task, Routine)}
            found |= {f"{where}.{name}": task for name, task in tasks.items()}
    return found


def test_tasks_are_found():
    names = {
        "resample.resample", "resample.finish", "resize.linear_pixels", "color_steps.contrast",
        "codec_calls.decode", "jpeg.decode.decode", "records.read_spans", "parallel._thread",
        "codec_messages.report", "codec_messages.warned", "output.emit_planes[0]",
    }  # fmt: skip
    assert names <= set(tasks())


@pytest.mark.parametrize("name", tasks())
def test_a_kernel_allocates_nothing(name):
    assert set(ALLOCATES.findall(tasks()[name]._compiled[1].get_llvm_str())) == set()
