"""libjpeg's warnings inside nvImageCodec are seen; where they cannot be, that is an error."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from gpuio.devices.cpu import CpuDevice
from gpuio.errors import BackendError, DecodeError
from gpuio.formats.codec import imdecode
from gpuio.pipeline.decode import make_decoder, nvimgcodec
from gpuio.pipeline.decode.base import DecoderOptions
from gpuio.pipeline.decode.libjpeg_warnings import DAMAGED, SIDE, VALID, listener
from gpuio.sources.recordio.source import RecordIOSource


def test_the_smallest_jpegs_are_valid_and_damaged():
    assert imdecode(VALID, 0).tolist() == np.full((SIDE, SIDE), 128).tolist()
    with pytest.raises(DecodeError, match="premature end of data segment"):
        imdecode(DAMAGED, 0)


@pytest.mark.parametrize(
    "content", [b"MZ, as a library for Windows", b"\x7fELF\x01\x01 of 32 bits"]
)
def test_a_module_of_another_kind_is_an_error(tmp_path, content):
    (tmp_path / "libjpeg_turbo_ext.so").write_bytes(content)
    with pytest.raises(BackendError, match="seen in 64-bit ELF modules only"):
        listener(tmp_path)


def test_a_missing_module_is_an_error(tmp_path):
    with pytest.raises(BackendError, match=r"no module .*jpeg_turbo_ext.* is there"):
        listener(tmp_path)


def test_a_decoder_that_hears_nothing_is_not_used(rec, monkeypatch):
    monkeypatch.setattr(nvimgcodec, "DAMAGED", VALID)
    with pytest.raises(BackendError, match="cannot be seen"):
        make_decoder("nvimgcodec", DecoderOptions(CpuDevice(1), 3, RecordIOSource.open(rec)))


def test_the_process_ends_well_that_has_listened(rec):
    script = (
        "import gpuio\n"
        f"it = gpuio.ImageRecordIter({str(rec)!r}, (3, 4, 4), 2, device='cpu')\n"
        "next(it)\n"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
