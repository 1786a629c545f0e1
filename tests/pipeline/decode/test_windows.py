"""From headers and wanted windows to what a decoder is asked for."""

from __future__ import annotations

import re

import numpy as np
import pytest

from gpuio.devices.cpu import CpuDevice
from gpuio.errors import BackendError
from gpuio.formats import codec
from gpuio.pipeline.decode.base import Decoder, DecoderOptions
from gpuio.pipeline.decode.jobs import Headers
from gpuio.pipeline.decode.windows import decode_jobs, open_headers

SIZES = [[40, 50], [30, 20], [10, 10], [9, 1]]
WINDOW = np.array([[3, 4, 5, 6], [0, 0, 7, 1], [0, 0, 10, 10], [2, 0, 3, 1]])


class Sized(Decoder):
    """Finds the sizes that it was told in headers."""

    name = "sized"

    def open(self, records):
        return Headers(np.array(self.sizes, np.int32), {})


@pytest.fixture
def opened(records):
    """A decoder for four records, and these."""
    given = records([b"some bytes"] * 4)
    decoder = Sized(DecoderOptions(CpuDevice(1), 3, given.source))
    decoder.sizes = SIZES
    (batch,) = given.batches()
    return decoder, batch


def test_jobs_are_the_windows_and_their_places(opened):
    decoder, records = opened
    jobs = decode_jobs(decoder, records, decoder.open(records), WINDOW)
    assert jobs.box[0].tolist() == [3, 4, 5, 6]
    assert jobs.pitch[0] == 6 * 3
    assert np.int64(jobs.origin[0]) == -(3 * 18 + 4 * 3)
    assert jobs.nbytes[0] >= 5 * 18
    assert jobs.in_scratch.all()
    assert decoder.windows == 3


def test_a_first_column_is_decoded_with_the_next_one_which_smooths_its_colours(opened):
    decoder, records = opened
    jobs = decode_jobs(decoder, records, decoder.open(records), WINDOW)
    assert jobs.box[1].tolist() == [0, 0, 7, 2]
    assert jobs.box[3].tolist() == [2, 0, 3, 1], "there is no other column"


def test_whole_images_are_asked_of_a_decoder_without_windows(opened):
    decoder, records = opened
    decoder.windowed = False
    jobs = decode_jobs(decoder, records, decoder.open(records), WINDOW)
    assert jobs.box.tolist() == [[0, 0, *size] for size in SIZES]


def test_images_decoded_already_or_later_or_never_have_no_decode_job(opened):
    decoder, records = opened
    headers = Headers(
        np.array(SIZES, np.int32), {0: np.zeros((40, 50, 3), np.uint8)}, later=frozenset({1})
    )
    decoder.reject(records, 2, "spoilt")
    jobs = decode_jobs(decoder, records, headers, WINDOW)
    assert jobs.box[:, 2].tolist() == [0, 0, 0, 3]
    assert jobs.in_scratch.tolist() == [False, True, True, True]
    assert jobs.pitch[0] == 50 * 3


@pytest.mark.parametrize(
    ("size", "reason"),
    [
        ([-5, 9], "its header claims 9 x -5 pixels"),
        ([0, 9], "its header claims 9 x 0 pixels"),
        ([2, 1 << 21], "a side has at most 1048576"),
        ([1 << 19, 1 << 19], "its header claims 524288 x 524288 pixels"),
    ],
)
def test_a_size_that_cannot_be_is_a_fault_before_memory_is_taken(opened, size, reason):
    decoder, records = opened
    decoder.sizes = [*SIZES[:3], size]
    headers = open_headers(decoder, records)
    assert headers.size[3].tolist() == [0, 0]
    assert list(records.samples.faults) == [3]
    assert reason in str(records.samples.faults[3])


def test_the_first_reason_stays(opened, monkeypatch):
    decoder, records = opened
    monkeypatch.setattr(codec, "MAX_IMAGE_PIXELS", 100)
    open_headers(decoder, records)
    assert "at most 100 are decoded" in str(records.samples.faults[0])


@pytest.mark.parametrize(
    ("sizes", "pixels", "later", "found"),
    [
        (SIZES[:3], {}, (), r"sizes of shape \(4, 2\) .* int32 of shape \(3, 2\)"),
        (np.array(SIZES, np.float32), {}, (), "float32 of shape"),
        (SIZES, {4: np.zeros((10, 10, 3), np.uint8)}, (), "at place 4 of a batch of 4"),
        (SIZES, {}, (-1,), "at place -1 of a batch of 4"),
    ],
)
def test_headers_of_no_image_of_the_batch_are_the_decoders_fault(
    opened, sizes, pixels, later, found
):
    decoder, records = opened
    sizes = np.array(sizes, None if isinstance(sizes, np.ndarray) else np.int32)
    decoder.open = lambda _: Headers(sizes, pixels, later=frozenset(later))
    with pytest.raises(BackendError, match=found):
        open_headers(decoder, records)


@pytest.mark.parametrize(
    ("pixels", "found"),
    [
        (np.zeros((9, 10, 3), np.uint8), "10 x 9 pixels by one decoder, 10 x 10 by another"),
        (np.zeros((10, 10, 1), np.uint8), r"uint8 of shape \(10, 10, 1\)"),
        (np.zeros((10, 10, 3), np.int16), "int16 of shape"),
        ([[[0, 0, 0]]], "has decoded it to list"),
    ],
)
def test_pixels_that_are_not_those_of_the_header_are_a_fault_of_their_image(opened, pixels, found):
    decoder, records = opened
    decoder.decode_image = lambda _: np.zeros((40, 50, 3), np.uint8)
    decoder.open = lambda _: Headers(np.array(SIZES, np.int32), {2: pixels})
    headers = open_headers(decoder, records)
    assert headers.size.tolist() == [*SIZES[:2], [0, 0], SIZES[3]]
    assert not headers.pixels
    assert [*records.samples.faults] == [2]
    assert re.search(found, str(records.samples.faults[2]))
