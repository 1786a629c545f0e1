from __future__ import annotations

import ctypes

import numpy as np

from gpuio.devices import make_device
from gpuio.devices.ring import Ring
from gpuio.mxnet.image.file_reader import FileReader
from gpuio.samplers import Selection


def test_files_come_in_the_order_asked_for_and_missing_ones_are_faults(tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.bin").write_bytes(bytes([number]) * (5 + number))
    names = ["0.bin", "1.bin", "2.bin", "none.bin"]
    read = FileReader(names, tmp_path, 2)
    ring = Ring(make_device("cpu", 1).empty_host, 2, read.nbytes(4))
    selection = Selection(np.array([2, 3, 0, 2]), 0)
    (records,) = read([selection], ring)
    found = [
        ctypes.string_at(int(address), int(nbytes))
        for address, nbytes in zip(records.address, records.nbytes, strict=True)
    ]
    assert found == [b"\2" * 7, b"", b"\0" * 5, b"\2" * 7]
    assert records.samples.labels.shape == (4, 2)
    (place,) = records.samples.faults
    assert place == 1
    assert isinstance(records.samples.faults[1].__cause__, FileNotFoundError)
    assert read.dataset.where(1) == str(tmp_path / "1.bin")
