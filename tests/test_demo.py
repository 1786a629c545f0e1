"""The demo, in small."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from gpuio import recordio

DEMO = Path(__file__).parents[1] / "examples" / "demo.py"


@pytest.mark.slow
def test_the_demo_makes_a_data_set_loads_it_and_draws_a_sheet(tmp_path):
    pytest.importorskip("skimage")
    pytest.importorskip("sklearn")
    command = [sys.executable, str(DEMO), "demo", "--count", "70"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "70 images at" in done.stdout
    records = recordio.MXIndexedRecordIO(
        str(tmp_path / "demo/photos.idx"), str(tmp_path / "demo/photos.rec"), "r"
    )
    with records:
        assert len(records) == 70
    with Image.open(tmp_path / "demo" / "sheet.png") as sheet:
        assert sheet.width > 1000
