"""Keywords: the groups that hold them, the signatures of the iterators and their documentation."""

from __future__ import annotations

import inspect
from dataclasses import MISSING

import pytest

import gpuio
from gpuio.core.options import description, options, read
from gpuio.mxnet.keywords import DET, GROUPS, IMAGE, options_of

ITERATORS = {IMAGE: gpuio.ImageRecordIter, DET: gpuio.ImageDetRecordIter}


@pytest.mark.parametrize("name", ITERATORS)
def test_groups_hold_every_parameter_of_the_signature_with_its_default(name):
    keywords = options_of(name)
    parameters = inspect.signature(ITERATORS[name]).parameters
    assert set(keywords) == set(parameters)
    for key, parameter in parameters.items():
        option = keywords[key]
        if parameter.default is parameter.empty:
            assert option.default is MISSING
        else:
            assert read(option, parameter.default) == read(option, option.default), key


@pytest.mark.parametrize("name", ITERATORS)
def test_no_keyword_is_in_two_groups(name):
    names = [option.name for group in GROUPS[name] for option in options(group)]
    assert sorted(names) == sorted(options_of(name))


@pytest.mark.parametrize("name", ITERATORS)
def test_the_docstring_describes_every_parameter(name):
    text = " ".join(inspect.getdoc(ITERATORS[name]).split())
    for option in options_of(name).values():
        assert f" {option.name}: {description(option)}" in text
