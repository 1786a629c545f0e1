"""The door of the JPEG decoder finds what is wrong with a decoder."""

from __future__ import annotations

import random

import pytest

from robustness.case import Case, Wrong
from robustness.jpeg_damage import damage_jpeg
from robustness.jpeg_door import FencedMemory, JpegKernels
from robustness.jpeg_seeds import jpeg_seeds


@pytest.fixture
def door(tmp_path):
    door = JpegKernels()
    door.prepare(tmp_path)
    return door


def case_of(*parts, clean=None, at_end=True):
    return Case("jpeg", 0, parts, clean or parts, {"at_end": at_end})


@pytest.mark.parametrize("at_end", [True, False])
def test_every_seed_is_decoded(door, tmp_path, at_end):
    door.run(case_of(*jpeg_seeds(), at_end=at_end), tmp_path)


def test_a_sound_picture_that_is_declined_is_a_fault(door, tmp_path):
    cut_off = jpeg_seeds()[0][:-40]
    door.run(case_of(cut_off, clean=jpeg_seeds()[:1]), tmp_path)
    with pytest.raises(Wrong, match="part 0: a sound picture was declined"):
        door.run(case_of(cut_off), tmp_path)


def test_other_pixels_than_those_of_libjpeg_are_a_fault(door, tmp_path, monkeypatch):
    decode = door._decoder.decode

    def almost(*args, **options):
        pixels = decode(*args, **options)
        pixels[-1, -1, 0] ^= 1
        return pixels

    monkeypatch.setattr(door._decoder, "decode", almost)
    with pytest.raises(Wrong, match=r"part 0: window .*: \d+% of the pixels are not libjpeg's"):
        door.run(case_of(jpeg_seeds()[0]), tmp_path)


def test_pixels_of_a_picture_that_libjpeg_refuses_are_a_fault(door, tmp_path, monkeypatch):
    from gpuio.errors import DecodeError
    from gpuio.formats import codec

    def refuse(*args):
        raise DecodeError("JPEG: no")

    monkeypatch.setattr(codec, "decode_rgb", refuse)
    with pytest.raises(Wrong, match="were decoded, but libjpeg: JPEG: no"):
        door.run(case_of(jpeg_seeds()[0]), tmp_path)


@pytest.mark.parametrize(("at_end", "beside"), [(True, -1), (False, 100)])
def test_a_byte_beside_the_memory_is_a_fault(at_end, beside):
    memory = FencedMemory()
    memory.at_end = at_end
    taken = memory.take("pixels", 100)
    taken[:] = 0
    memory.check()
    whole = memory._fences["pixels"].memory
    whole[beside if beside > 0 else len(whole) - 101] = 0
    with pytest.raises(Wrong, match="bytes beside the pixels were written"):
        memory.check()


def test_damage_leaves_some_pictures_decodable_and_most_not(door):
    seeds, rng = jpeg_seeds(), random.Random(1)
    damaged = [damage_jpeg(rng, rng.choice(seeds[:-2]), seeds) for _ in range(600)]
    jobs = [(data, door._decoder.open(data)) for data in damaged]
    taken = [data for data, job in jobs if job is not None and job["height"] * job["width"] < 5000]
    decoded = sum(door._decoder.decode(door._decoder.open(data)) is not None for data in taken)
    assert 200 < len(taken) < 550
    assert 50 < decoded < len(taken) - 150
