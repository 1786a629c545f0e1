"""Signatures: unknown keywords, and what is suggested instead."""

from __future__ import annotations

import inspect
import re

import pytest

import gpuio
from gpuio.core.signatures import suggest
from gpuio.core.suggestions import SYNONYMS, suggestion


class Thing:
    @suggest
    def __init__(self, size, *, colour="red"):
        """Say what it is."""
        self.size, self.colour = size, colour


def test_an_unknown_keyword_names_the_nearest_known_one():
    with pytest.raises(
        TypeError, match=r"^Thing has no parameter 'color'; did you mean 'colour'\?$"
    ):
        Thing(1, color="blue")
    with pytest.raises(TypeError, match=r"^Thing has no parameter 'qqqq'$"):
        Thing(1, qqqq=2)


DOORS = (
    gpuio.ImageRecordIter,
    gpuio.ImageDetRecordIter,
    gpuio.image.ImageIter,
    gpuio.image.ImageDetIter,
    gpuio.image.CreateAugmenter,
    gpuio.io.CSVIter,
    gpuio.io.LibSVMIter,
    gpuio.io.MNISTIter,
    gpuio.io.NDArrayIter,
)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("num_workers", "use preprocess_threads: CPU threads do the work"),
        ("drop_last", "use last_batch='drop'"),
        ("transforms", "use resize, rand_crop and rand_mirror: each augmentation is a keyword"),
        ("mean", "use mean_r, mean_g and mean_b: in levels from 0 to 255: 123.675"),
        ("std", "use std_r, std_g and std_b: in levels from 0 to 255: 58.395"),
        ("image_size", "use data_shape: (channels, height, width)"),
        ("prefetch_factor", "use prefetch_buffer"),
        ("pin_memory", "leave it out"),
        ("world_size", "use num_parts and part_index"),
        ("horizontal_flip", "did you mean 'rand_mirror'?"),
        ("root", "did you mean 'path_imgrec'?"),
        ("fp16", "use dtype='float16'"),
        ("random_crop", "did you mean 'rand_crop'?"),
    ],
)
def test_names_of_other_libraries_get_ours(name, said):
    with pytest.raises(TypeError, match=re.escape(f"no parameter {name!r}; {said}")):
        gpuio.ImageRecordIter("a.rec", (3, 8, 8), 2, **{name: 1})


@pytest.mark.parametrize(
    ("door", "name", "said"),
    [
        (gpuio.image.ImageIter, "drop_last", "use last_batch_handle='discard'"),
        (gpuio.image.ImageIter, "transform", "use aug_list: a list of callables"),
        (gpuio.io.CSVIter, "drop_last", "use round_batch=False"),
        (gpuio.io.CSVIter, "path", "did you mean 'data_csv'?"),
        (gpuio.ImageRecordIter.torch, "pin_memory", "leave it out: "),
        (gpuio.ImageDetRecordIter, "hflip", "did you mean 'rand_mirror_prob'?"),
    ],
)
def test_each_door_gets_what_it_has(door, name, said):
    with pytest.raises(TypeError, match=re.escape(f"no parameter {name!r}; {said}")):
        door(**{name: 1})


def test_all_unknown_keywords_are_reported_at_once():
    with pytest.raises(TypeError, match=r"'num_workers'; use .*\n.*'qqqq'$"):
        gpuio.ImageRecordIter("a.rec", (3, 8, 8), 2, num_workers=1, qqqq=2)


def test_only_near_names_are_meant():
    known = ["num_parts", "rotate_list", "data_shape", "label_width", "label_name"]
    assert suggestion("num_wings", known) == ""
    assert suggestion("drop_list", known) == ""
    assert suggestion("data_shap", known) == "; did you mean 'data_shape'?"
    assert suggestion("label", known) == "; did you mean 'label_width' or 'label_name'?"


def test_synonyms_lead_to_parameters_that_there_are():
    packing = {"num_thread"}  # options of `gpuio im2rec`
    doors = [packing, *(set(inspect.signature(door).parameters) for door in DOORS)]
    for synonym in SYNONYMS:
        names = {item.partition("=")[0] for item in synonym.instead.split()}
        assert names or synonym.reason
        assert any(names <= door and set(synonym.names.split()) - door for door in doors), synonym


def test_known_keywords_pass():
    thing = Thing(1, colour="blue")
    assert (thing.size, thing.colour) == (1, "blue")
    assert Thing.__init__.__doc__ == "Say what it is."
    with pytest.raises(TypeError, match="size"):
        Thing()
