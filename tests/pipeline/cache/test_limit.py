"""A limit is a number of bytes, and says which memory it is about."""

from __future__ import annotations

import pytest

from gpuio.pipeline.cache.limit import CacheLimit


@pytest.mark.parametrize(
    ("text", "nbytes", "on_gpu"),
    [
        ("8GB", 8 * 10**9, False),
        (" 1.5 tb ", 15 * 10**11, False),
        ("2GiB", 2 << 30, False),
        ("gpu:20GB", 20 * 10**9, True),
        ("gpu: 300 MB", 3 * 10**8, True),
    ],
)
def test_a_limit_is_a_number_of_bytes_of_ram_or_of_the_gpu(text, nbytes, on_gpu):
    limit = CacheLimit.parse(text)
    assert (limit.nbytes, limit.on_gpu) == (nbytes, on_gpu)
    assert str(limit) == text.strip()


@pytest.mark.parametrize("text", ["8", "GB", "-8GB", "0GB", "8 G", "cpu:8GB", "8GB!", 8, True])
def test_what_is_no_limit_is_an_error_that_shows_one(text):
    with pytest.raises(ValueError, match=r"^cache must be like '8GB' or 'gpu:20GB', got "):
        CacheLimit.parse(text)
