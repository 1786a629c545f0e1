"""MXNet's contexts, as scripts write them."""

from __future__ import annotations

import pytest

import gpuio as mx
from gpuio.errors import BackendError


def test_contexts_print_and_compare_as_in_mxnet():
    assert str(mx.cpu()) == repr(mx.cpu(0)) == "cpu(0)"
    assert str(mx.gpu(3)) == "gpu(3)"
    assert mx.cpu() == mx.cpu(0) == mx.Context("cpu") == mx.current_context()
    assert len({mx.cpu(), mx.cpu(0), mx.cpu(1), mx.gpu()}) == 3
    assert (mx.gpu(2).device_type, mx.gpu(2).device_id) == ("gpu", 2)


def test_a_script_that_asks_for_gpus_takes_the_cpu():
    ctx = mx.gpu() if mx.context.num_gpus() else mx.cpu()
    assert mx.nd.ones(2, ctx).context == ctx
    with pytest.raises(BackendError, match="cuda:99"):
        mx.nd.ones(2, mx.gpu(99))


def test_a_wrong_context_is_refused():
    with pytest.raises(ValueError, match="device_type must be one of cpu, gpu, got 'tpu'"):
        mx.Context("tpu")
    with pytest.raises(ValueError, match="device_id must be at least 0, got -1"):
        mx.cpu(-1)
