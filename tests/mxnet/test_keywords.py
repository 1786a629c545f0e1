"""The table of keywords and the signatures of the iterators say the same."""

from __future__ import annotations

import inspect

import pytest

import gpuio
from gpuio.mxnet import keywords
from gpuio.mxnet.keywords import DET, IMAGE, REQUIRED, TABLE

ITERATORS = {IMAGE: gpuio.ImageRecordIter, DET: gpuio.ImageDetRecordIter}


@pytest.mark.parametrize("name", ITERATORS)
def test_the_table_holds_every_parameter_with_its_default(name):
    rows = {row.name: row.default for row in TABLE if name in row.iterators}
    parameters = inspect.signature(ITERATORS[name]).parameters
    defaults = {
        parameter.name: REQUIRED if parameter.default is parameter.empty else parameter.default
        for parameter in parameters.values()
    }
    assert rows == defaults
    assert len(rows) == sum(name in row.iterators for row in TABLE)  # one row each


def test_the_table_of_the_documentation_has_all_rows():
    rows = keywords.parameter_table()
    assert len(rows) == len(TABLE)
    assert all(row.section and row.type and row.help.endswith(".") for row in rows)
    by_name = {(row.name, row.iterators): row for row in rows}
    assert by_name["fill_value", (IMAGE,)].default == "255"
    assert by_name["fill_value", (DET,)].default == "127"
    assert by_name["path_imgrec", (IMAGE, DET)].default == "required"
    assert by_name["layout", (IMAGE, DET)].default == "'NCHW'"
