"""What importing costs: nothing but NumPy, until a name is used."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import gpuio

OURS = {"gpuio", "numpy", "__main__"}
HEAVY = {"numba", "llvmlite", "PIL", "simplejpeg", "cupy", "nvidia", "cv2", "torch", "tqdm"}


def loaded(script: str) -> set[str]:
    """Packages outside the standard library that are loaded after `script`."""
    tail = "; import json, sys; print(json.dumps(sorted({m.split('.')[0] for m in sys.modules})))"
    run = subprocess.run(
        [sys.executable, "-c", script + tail], capture_output=True, text=True, check=True
    )
    return {name for name in json.loads(run.stdout) if name not in sys.stdlib_module_names}


def at_start() -> set[str]:
    """What site-packages load by themselves."""
    return loaded("pass")


@pytest.mark.parametrize(
    "module",
    [
        "gpuio",
        "gpuio.recordio",
        "gpuio.errors",
        "gpuio.mxnet.iterators.batch",
        "gpuio.formats.index",
        "gpuio.cli",
        "gpuio.transforms",
    ],
)
def test_importing_loads_numpy_alone(module):
    got = loaded(f"import {module}")
    assert got - at_start() <= OURS
    assert not got & HEAVY


def test_reading_and_writing_records_loads_numpy_alone(tmp_path):
    idx, rec = str(tmp_path / "a.idx"), str(tmp_path / "a.rec")
    script = (
        "from gpuio import recordio; "
        f"w = recordio.MXIndexedRecordIO({idx!r}, {rec!r}, 'w'); "
        "w.write_idx(0, recordio.pack(recordio.IRHeader(0, 1, 0, 0), b'abc')); w.close(); "
        f"r = recordio.MXIndexedRecordIO({idx!r}, {rec!r}, 'r'); "
        "assert recordio.unpack(r.read_idx(0))[1] == b'abc'"
    )
    assert loaded(script) - at_start() <= OURS


def test_an_epoch_on_the_cpu_loads_no_cupy(rec):
    made = f"gpuio.ImageRecordIter({str(rec)!r}, (3, 16, 16), 4, device='cpu')"
    script = f"import gpuio; list({made})"
    got = loaded(script)
    assert "numba" in got
    assert not got & {"cupy", "torch", "cv2"}


def test_every_public_name_is_there():
    for name in gpuio.__all__:
        assert getattr(gpuio, name) is not None
    assert set(gpuio.__all__) <= set(dir(gpuio))


def test_an_unknown_name_is_an_attributeerror():
    with pytest.raises(AttributeError, match="module 'gpuio' has no attribute 'Nothing'"):
        _ = gpuio.Nothing


def test_gpuio_can_stand_in_for_mxnet():
    mx = gpuio
    assert mx.io.ImageRecordIter is gpuio.ImageRecordIter
    assert mx.recordio.MXRecordIO
