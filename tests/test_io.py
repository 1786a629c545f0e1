"""MXNet's `mx.io`, by the lines that scripts contain."""

from __future__ import annotations

import subprocess
import sys

import gpuio as mx
from gpuio.mxnet.iterators import image_record as iterators


def test_an_old_script_runs(rec):
    it = mx.io.ImageRecordIter(
        path_imgrec=str(rec), path_imgidx=str(rec.with_suffix(".idx")), data_shape=(3, 16, 16),
        batch_size=4, shuffle=True, rand_crop=True, rand_mirror=True, mean_r=123.68, mean_g=116.779,
        mean_b=103.939, resize=18, preprocess_threads=2, prefetch_buffer=4, label_width=1,
        data_name="data", label_name="softmax_label",
    )  # fmt: skip
    assert it.provide_data[0].name == "data"
    for _ in range(2):
        it.reset()
        count = 0
        for batch in it:
            assert batch.data[0].asnumpy().shape == (4, 3, 16, 16)
            assert batch.label[0].asnumpy().shape == (4,)
            count += 4 - batch.pad
        assert count == 13
    it.close()


def test_the_names_are_those_of_mxnet():
    assert mx.io.ImageRecordIter is iterators.ImageRecordIter
    assert mx.io.ImageRecordUInt8Iter is iterators.ImageRecordUInt8Iter
    assert mx.io.ImageRecordInt8Iter is iterators.ImageRecordInt8Iter
    assert mx.io.DataDesc.__name__ == "DataDesc"
    assert mx.io.DataBatch.__name__ == "DataBatch"
    assert issubclass(mx.io.ImageRecordIter, mx.io.DataIter)
    for name in mx.io.__all__:
        assert hasattr(mx.io, name)


def test_the_older_iterators_are_the_same_ones():
    assert mx.io.ImageRecordIter_v1 is mx.io.ImageRecordIter
    assert mx.io.ImageRecordUInt8Iter_v1 is mx.io.ImageRecordUInt8Iter


def test_iterators_of_arrays_need_no_numba():
    code = (
        "import sys, numpy, gpuio as mx; mx.io.DataBatch; list(mx.io.NDArrayIter(numpy.zeros(3)));"
        "mx.io.CSVIter, mx.io.MNISTIter, mx.io.ResizeIter, mx.io.PrefetchingIter;"
        "assert not {'numba', 'scipy', 'PIL'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert set(mx.io.__all__) <= set(dir(mx.io))
