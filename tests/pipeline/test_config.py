"""Groups of options check their own values, and name them."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from gpuio.pipeline.config import OutputConfig, RuntimeConfig, SourceConfig
from gpuio.samplers import SamplingConfig


@pytest.mark.parametrize(
    ("group", "options", "name"),
    [
        (SourceConfig, {"path_imgrec": ""}, "path_imgrec"),
        (SourceConfig, {"path_imgrec": "a.rec", "path_imglist": "a\0b"}, "path_imglist"),
        (SourceConfig, {"path_imgrec": "a.rec", "cache_size": 1 << 30}, "cache_size"),
        (SourceConfig, {"path_imgrec": "a.rec", "cache_dir": "s3://a/b"}, "cache_dir"),
        (SamplingConfig, {"batch_size": 0}, "batch_size"),
        (SamplingConfig, {"batch_size": 1, "last_batch": "keep"}, "last_batch"),
        (SamplingConfig, {"batch_size": 1, "num_parts": 2, "part_index": 2}, "part_index"),
        (OutputConfig, {"data_shape": (2, 8, 8)}, "data_shape"),
        (OutputConfig, {"data_shape": (3, 8, 8), "dtype": "float64"}, "dtype"),
        (OutputConfig, {"data_shape": (3, 8, 8), "layout": "HWC"}, "layout"),
        (RuntimeConfig, {"preprocess_threads": 1025}, "preprocess_threads"),
        (RuntimeConfig, {"prefetch_buffer": 0}, "prefetch_buffer"),
        (RuntimeConfig, {"on_error": "ignore"}, "on_error"),
        (RuntimeConfig, {"tolerate": "errors"}, "tolerate"),
    ],
)
def test_a_wrong_value_is_an_error_that_names_it(group, options, name):
    with pytest.raises(ValueError, match=f"^{name} "):
        group(**options)


def test_groups_do_not_change():
    with pytest.raises(FrozenInstanceError):
        RuntimeConfig().decoder = "dali"


def test_augmentation_has_the_seed_of_the_permutation_unless_it_has_its_own():
    assert SamplingConfig(batch_size=1, seed=5).augmentation_seed == 5
    assert SamplingConfig(batch_size=1, seed=5, seed_aug=0).augmentation_seed == 0


@pytest.mark.parametrize(
    ("options", "lengths"),
    [
        ({}, [4, 4, 4]),
        ({"round_batch": False}, [4, 4, 2]),
        ({"last_batch": "pad", "round_batch": False}, [4, 4, 4]),
        ({"last_batch": "short"}, [4, 4, 2]),
        ({"last_batch": "drop"}, [4, 4]),
    ],
)
def test_last_batch_replaces_round_batch(options, lengths):
    order = SamplingConfig(batch_size=4, **options).order(10)
    assert [len(selection.ids) for selection in order.batches(0)] == lengths


def test_the_shard_is_the_one_that_is_given():
    config = SamplingConfig(batch_size=2, num_parts=2, part_index=1)
    assert (config.shard.index, config.shard.count) == (1, 2)
    (first, _) = config.order(8).batches(0)
    assert first.ids.tolist() == [4, 5]
