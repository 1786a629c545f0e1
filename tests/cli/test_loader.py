"""Options of a command that become parameters of ImageRecordIter."""

from __future__ import annotations

import argparse
import inspect

import pytest

from gpuio import ImageRecordIter
from gpuio.cli import loader


def parse(*arguments):
    parser = argparse.ArgumentParser()
    loader.configure(parser)
    return parser.parse_args(["set.rec", *arguments])


def test_every_parameter_is_an_option():
    names = set(inspect.signature(ImageRecordIter).parameters) - {"path_imgrec"}
    assert set(loader.PARAMETERS) == names
    parser = argparse.ArgumentParser()
    loader.configure(parser)
    assert names <= {action.dest for action in parser._actions}


def test_only_what_is_given_is_passed_on():
    assert loader.chosen(parse()) == {}
    given = loader.chosen(parse("--resize", "-1", "--rand-crop", "--no-round-batch"))
    assert given == {"resize": "-1", "rand_crop": True, "round_batch": False}


def test_help_is_what_the_iterator_says(capsys):
    with pytest.raises(SystemExit):
        parse("--help")
    out = " ".join(capsys.readouterr().out.split())
    assert "--resize INT Length of the shorter edge, in pixels" in out
    assert "-1 keeps their size. (default: -1)" in out


def test_text_is_parsed_by_the_iterator(rec):
    parameters = loader.chosen(parse("--data-shape", "3,20,22", "--batch-size", "4"))
    with ImageRecordIter(str(rec), **parameters) as batches:
        batch = next(batches)
    assert batch.data[0].shape == (4, 3, 20, 22)
    assert batch.index.tolist() == [100, 101, 102, 103]  # keys of the .idx, found beside the .rec
