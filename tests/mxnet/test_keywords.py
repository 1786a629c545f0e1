"""Keywords: the groups that hold them, the signatures of the iterators and their documentation."""

from __future__ import annotations

import inspect

import pytest

import gpuio
from gpuio.mxnet.keywords import DET, GROUPS, IMAGE, REQUIRED, keywords_of, parameter_table

ITERATORS = {IMAGE: gpuio.ImageRecordIter, DET: gpuio.ImageDetRecordIter}


@pytest.mark.parametrize("name", ITERATORS)
def test_groups_hold_every_parameter_of_the_signature_with_its_default(name):
    keywords = keywords_of(name)
    parameters = inspect.signature(ITERATORS[name]).parameters
    assert set(keywords) == set(parameters)
    for key, parameter in parameters.items():
        if parameter.default is parameter.empty:
            assert keywords[key].default == REQUIRED
        else:
            read = keywords[key].read
            assert read(key, parameter.default) == read(key, keywords[key].default), key


@pytest.mark.parametrize("name", ITERATORS)
def test_no_keyword_is_in_two_groups(name):
    held = [field for group in GROUPS[name] for field in group.__dataclass_fields__.values()]
    names = [field.name for field in held if field.init and "ClassVar" not in field.type]
    assert sorted(names) == sorted(keywords_of(name))


@pytest.mark.parametrize("name", ITERATORS)
def test_the_docstring_describes_every_parameter(name):
    text = " ".join(inspect.getdoc(ITERATORS[name]).split())
    for keyword in keywords_of(name).values():
        assert f" {keyword.name}: {keyword.help}" in text


def test_the_table_of_the_documentation_has_all_keywords():
    rows = parameter_table()
    for name in ITERATORS:
        assert {row.name for row in rows if name in row.iterators} == set(keywords_of(name))
    assert all(row.section and row.type and row.help.endswith(".") for row in rows)
    by_name = {(row.name, row.iterators): row for row in rows}
    assert by_name["fill_value", (IMAGE,)].default == "255"
    assert by_name["fill_value", (DET,)].default == "127"
    assert by_name["path_imgrec", (IMAGE, DET)].default == "required"
    assert by_name["layout", (IMAGE, DET)][2:4] == ("'NCHW' or 'NHWC'", "'NCHW'")
    assert by_name["last_batch", (IMAGE, DET)].type == "'pad' or 'short' or 'drop' or None"
