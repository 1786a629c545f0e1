"""Whatever is wrong with a .rec and its .idx: sound records come as they are, others as faults."""

from __future__ import annotations

import ctypes
import random
import struct

import numpy as np
import pytest

from gpuio.devices.cpu import CpuDevice
from gpuio.devices.ring import Ring
from gpuio.errors import FormatError
from gpuio.formats.recordio import MAGIC, verify
from gpuio.pipeline.read.reader import RecordReader
from gpuio.samplers import Selection
from gpuio.sources.recordio.source import RecordIOSource
from gpuio.testing import write_rec

ROUNDS = 50
M = struct.pack("<I", MAGIC)


def make(path, choose):
    """Write up to 12 records; their images, and where they start and the file ends."""
    images = []
    for n in range(choose.randint(1, 12)):
        splits = M * choose.randint(1, 3) if choose.random() < 0.1 else b""
        images.append(bytes([n]) * choose.choice([0, 3, 40, 400, 5000]) + splits + bytes([n] * 4))
    return images, write_rec(path, images)


def damage(data, lines, starts, choose):
    """Do something to a .rec, or to the lines of its .idx; the new .rec."""
    size = starts[-1]
    kind = choose.randint(0, 7)
    if kind == 0 and lines:
        del lines[choose.randrange(len(lines))]
    elif kind == 1 and lines:
        lines.append(choose.choice(lines))
    elif kind == 2:
        places = choose.randrange(0, size + 1, 4), choose.randrange(-50, size + 50)
        line = choose.randint(0, 99), choose.choice([*places, 10 ** choose.randint(1, 25)])
        lines.insert(choose.randint(0, len(lines)), line)
    elif kind == 3:
        choose.shuffle(lines)
    elif kind == 4:
        return data[: choose.randrange(len(data) + 1)]
    elif kind == 5 and data:
        place = choose.randrange(len(data))
        return data[:place] + choose.randbytes(1) + data[place + 1 :]
    elif kind == 6:
        return data + choose.randbytes(choose.randint(1, 60))
    elif kind == 7:
        return data + data[: choose.choice(starts)]
    return data


def read(dataset, ids):
    """Images as bytes, and faults, of one batch."""
    device = CpuDevice(1)
    reader = RecordReader(dataset)
    assert reader.source.batch_nbytes(256) <= 256 << 20
    (batch,) = reader([Selection(ids, 0)], Ring(device.empty_host, 1))
    pairs = zip(batch.address.tolist(), batch.nbytes.tolist(), strict=True)
    return [ctypes.string_at(*pair) for pair in pairs], batch.samples.faults


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("on_error", ["raise", "skip"])
@pytest.mark.parametrize("index", ["asked", "beside", "none"])
def test_sound_records_come_as_they_are(tmp_path, index, on_error):
    choose, path, sound = random.Random(f"{index} {on_error}"), tmp_path / "a.rec", 0
    for _ in range(ROUNDS):
        images, starts = make(path, choose)
        whole = data = path.read_bytes()
        lines = list(enumerate(starts[:-1]))
        for _ in range(choose.randint(0, 3)):
            data = damage(data, lines, starts, choose)
        path.write_bytes(data)
        idx = path.with_suffix(".idx")
        idx.write_text("".join(f"{key}\t{place}\n" for key, place in lines))
        if index == "none":
            idx.unlink()
        try:
            dataset = RecordIOSource.open(path, idx if index == "asked" else "", on_error=on_error)
            dataset.label_counts()
        except FormatError as error:
            assert "a." in str(error)  # noqa: PT017  any of many
            continue
        if index != "asked":
            assert set(verify(path)[0].tolist()) <= set(dataset.table.offsets.tolist())
        ids = np.array([choose.randrange(len(dataset)) for _ in range(len(dataset) + 3)])
        got, faults = read(dataset, ids)
        assert all(str(path) in str(fault) for fault in faults.values())
        for place, offset in enumerate(dataset.table.offsets[ids].tolist()):
            if offset in starts[:-1]:
                number = starts.index(offset)
                frame = slice(offset, starts[number + 1])
                if data[frame] == whole[frame]:
                    assert got[place] == images[number], faults.get(place)
                    sound += 1
    assert sound > ROUNDS
