"""The real MXNet 1.9.1, run once: its batches for each case are what ours must be."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.testing as npt
import pytest

import gpuio
from gpuio.errors import DecodeError

GOLDEN = Path(__file__).parents[1].parent / "shared" / "golden"
CASES = GOLDEN / "cases.json"

pytestmark = pytest.mark.skipif(not CASES.exists(), reason=f"{CASES.name} of MXNet is not here")

ROUNDED = {"mean-std-scale", "scale-only"}
"""Cases whose float32 values are not whole numbers: those are equal to 1e-5."""


def cases():
    found = json.loads(CASES.read_text()) if CASES.exists() else [{"name": "cases.json"}]
    return [pytest.param(case, id=case["name"]) for case in found]


def iterator(case):
    paths = {
        name: str(GOLDEN / value)
        for name, value in case["params"].items()
        if name.startswith("path_")
    }
    return getattr(gpuio, case["iterator"])(**case["params"] | paths)


@pytest.mark.parametrize("case", cases())
def test_the_first_epoch_is_that_of_mxnet(case):
    if "error" in case:
        with iterator(case) as it, pytest.raises(DecodeError, match="image has 3 channels, not 4"):
            next(it)
        return
    epoch = case["epochs"][0]
    with iterator(case) as it:
        assert [_description(d) for d in it.provide_data] == case["provide_data"]
        assert [_description(d) for d in it.provide_label] == case["provide_label"]
        batches = list(it)
    labels = [np.array(expected, np.float32) for expected in epoch["labels"]]
    pads = list(epoch["pads"])
    if case["params"].get("round_batch") is False:
        # MXNet gives a whole last batch with nonsense at its end, and does not count it.
        labels[-1] = labels[-1][: len(batches[-1].label[0])]
        assert len(labels[-1]) == it.num_records % it.batch_size
    assert [batch.pad for batch in batches] == pads
    for batch, expected in zip(batches, labels, strict=True):
        npt.assert_array_equal(batch.label[0], expected)
    if case.get("pixels"):
        _compare(case, batches[0])


def _compare(case, batch):
    """The first batch, or as many of its images as are kept."""
    with np.load(GOLDEN / case["pixels"]) as arrays:
        expected = arrays["first_batch"]
    got = batch.data[0][: len(expected)]
    assert str(got.dtype) == case["provide_data"][0][2]
    if case["name"] in ROUNDED:
        npt.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
    else:
        npt.assert_array_equal(got, expected)


def _description(desc):
    return [desc.name, list(desc.shape), np.dtype(desc.dtype).name, desc.layout]
