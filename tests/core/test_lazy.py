"""Names that are imported when they are used, and MXNet's that are not there."""

from __future__ import annotations

import collections

import pytest

import gpuio as mx
from gpuio.core import lazy


def test_names_come_from_modules():
    homes = {"a": "collections", "b": "collections:OrderedDict"}
    assert lazy.load("m", "a", homes) is collections
    assert lazy.load("m", "b", homes) is collections.OrderedDict


@pytest.mark.parametrize(
    ("module", "name"),
    [(mx, "gluon"), (mx, "mod"), (mx, "sym"), (mx, "autograd"), (mx.nd, "dot"), (mx.io, "Nothing")],
)
def test_a_name_that_does_not_exist_is_reported(module, name):
    message = f"module '{module.__name__}' has no attribute '{name}': gpuio is the data side of MX"
    with pytest.raises(AttributeError, match=message):
        getattr(module, name)
    assert not hasattr(module, name)


def test_the_error_that_scripts_catch():
    with pytest.raises(mx.base.MXNetError):
        mx.nd.zeros(1, mx.gpu())
    assert mx.base.MXNetError is mx.GpuioError
