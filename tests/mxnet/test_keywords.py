"""Keywords: the groups that hold them, the signatures of the iterators and their documentation."""

from __future__ import annotations

import inspect
from dataclasses import MISSING

import numpy as np
import pytest

from gpuio import ImageDetRecordIter, ImageRecordIter
from gpuio.core.options import description, options, read
from gpuio.mxnet.keywords import keywords_of

ITERATORS = (ImageRecordIter, ImageDetRecordIter)


@pytest.mark.parametrize("iterator", ITERATORS)
def test_groups_hold_every_parameter_of_the_signature_with_its_default(iterator):
    keywords = keywords_of(iterator)
    parameters = inspect.signature(iterator).parameters
    assert set(keywords) == set(parameters)
    for key, parameter in parameters.items():
        option = keywords[key]
        if parameter.default is parameter.empty:
            assert option.default is MISSING
        else:
            assert read(option, parameter.default) == read(option, option.default), key


@pytest.mark.parametrize("iterator", ITERATORS)
def test_no_keyword_is_in_two_groups(iterator):
    names = [option.name for group in iterator.groups for option in options(group)]
    assert sorted(names) == sorted(keywords_of(iterator))


@pytest.mark.parametrize("iterator", ITERATORS)
def test_the_docstring_describes_every_parameter(iterator):
    text = " ".join(inspect.getdoc(iterator).split())
    for option in keywords_of(iterator).values():
        assert f" {option.name}: {description(option)}" in text


@pytest.mark.parametrize(
    ("iterator", "name", "value"),
    [
        (ImageRecordIter, "label_width", 2**63),
        (ImageDetRecordIter, "label_width", 2**63),
        (ImageDetRecordIter, "label_pad_width", 2**31),
        (ImageRecordIter, "tolerate", np.array([1, 2])),
        (ImageRecordIter, "mean_img", "a\0b"),
        (ImageRecordIter, "rotate_list", np.array(1)),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_name_before_files_are_opened(iterator, name, value):
    with pytest.raises(ValueError, match=rf"^{name} must be .*, got "):
        iterator("no such file.rec", (3, 8, 8), 1, **{name: value})
