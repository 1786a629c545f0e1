"""Compiled kernels allocate nothing: a failed allocation there would be heard by nobody."""

from __future__ import annotations

import importlib
import pkgutil
import re

import pytest

import gpuio.kernels
from gpuio.kernels import parallel
from gpuio.kernels.parallel import Routine

NEEDS_A_GPU = {"device", "device_color", "device_output", "device_pixels", "simulated"}
ALLOCATES = re.compile(r"NRT_\w*[Aa]lloc\w*|\bmalloc\b|PyTuple_Pack|PyUnicode_FromKindAndData")


def tasks():
    """By name, every kernel that threads run item by item, and what it calls by address."""
    found = {}
    for module in pkgutil.iter_modules(gpuio.kernels.__path__):
        if module.name not in NEEDS_A_GPU:
            members = vars(importlib.import_module(f"gpuio.kernels.{module.name}"))
            for name, table in members.items():
                if isinstance(table, dict) and name.startswith("emit"):
                    members = {**members, **{f"{name}[{key}]": task for key, task in table.items()}}
            found |= {name: task for name, task in members.items() if isinstance(task, Routine)}
    return found


def code_of(compiled):
    """The LLVM code of a `cfunc` and of all that it calls."""
    return str(compiled._library._get_module_for_linking())


def test_tasks_are_found():
    names = {
        "resample", "finish", "linear_pixels", "color_pixels", "decode", "read_spans",
        "report", "warned", "emit_pixels[0]",
    }  # fmt: skip
    assert names <= set(tasks())


@pytest.mark.parametrize("name", tasks())
def test_a_kernel_allocates_nothing(name):
    assert set(ALLOCATES.findall(code_of(tasks()[name]._compiled))) == set()


def test_the_worker_of_a_thread_allocates_nothing():
    assert ALLOCATES.search(code_of(parallel._compiled_worker())) is None
