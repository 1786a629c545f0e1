"""gpuio on a CUDA driver without a device: `run` calls a function in a child that has libcuda.c.

numba-cuda, cuda-core and cuda-bindings run there unmodified, and CuPy as the type of arrays; its
own calls of the CUDA runtime need a real driver, of which it asks tables that nobody documents.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

_SOURCE = Path(__file__).with_name("libcuda.c")
_TESTS = _SOURCE.parent.parent
_SECONDS = 240  # for a child; a hang is a failure


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    """A folder with the stub, compiled once for a run of the tests, and removed at its end."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("no C compiler for the stub of the CUDA driver, which is for Linux")
    folder = tempfile.TemporaryDirectory(prefix="stub_cuda")
    library = Path(folder.name) / "libcuda.so.1"
    options = ["-shared", "-fPIC", "-O1", "-pthread"]
    subprocess.run([compiler, *options, "-o", library, _SOURCE, "-ldl"], check=True)
    return folder


def run(function: Callable[..., Any], *args: Any) -> Any:
    """What a function of a test's module returns in a child with the stub, by way of JSON.

    Args:
        function: A function of a module below tests/.
        args: Its arguments, which JSON can hold.
    """
    pytest.importorskip("numba.cuda")
    pytest.importorskip("cupy")
    module = Path(function.__code__.co_filename)
    code = (
        "import importlib.util, json, sys\n"
        f"spec = importlib.util.spec_from_file_location('child', {str(module)!r})\n"
        "module = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(module)\n"
        f"found = getattr(module, {function.__name__!r})(*json.loads(sys.argv[1]))\n"
        "print(json.dumps(found))\n"
    )
    env = {key: value for key, value in os.environ.items() if not key.startswith("CUDA_")}
    before = os.environ.get("LD_LIBRARY_PATH")
    libraries = _folder().name if not before else f"{_folder().name}:{before}"
    env |= {"LD_LIBRARY_PATH": libraries, "PYTHONPATH": str(_TESTS)}
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(args)],
        env=env,
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])
