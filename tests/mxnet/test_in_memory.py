"""The example of data in memory."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "in_memory.py"


def test_the_example_prints_the_batches_that_mxnet_gives(tmp_path):
    done = subprocess.run(
        [sys.executable, str(EXAMPLE)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    epochs = re.split(r"^   DataDesc", done.stdout, flags=re.MULTILINE)[1:]
    pads = [re.findall(r"pad: (\d+)$", epoch, re.MULTILINE) for epoch in epochs]
    assert list(map(" ".join, pads)) == [
        "0 0 0 20",
        "0 0 0",
        "10 0 0",
        "0 0 0 20",
        "0 0 0 20 0 0 0",
    ]
    assert "DataDesc[noise,(30, 2)" in done.stdout
    assert "data shapes: [(30, 2), (30, 3)] label shapes: [(30,)]" in done.stdout
    assert not list(tmp_path.iterdir())
