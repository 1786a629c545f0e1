"""What numba-cuda keeps on disk is dropped when any source changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpuio.kernels import _drop_stale_code

CACHED = ("device_color._color-2.py311.nbi", "device_color._color-2.py311.1.nbc")


def test_code_goes_when_a_source_changes(tmp_path):
    cache = tmp_path / "__pycache__"
    cache.mkdir()
    source = tmp_path / "device.py"
    source.write_text("a = 1\n")
    _drop_stale_code(tmp_path)
    for name in CACHED:
        (cache / name).touch()
    _drop_stale_code(tmp_path)
    assert all((cache / name).exists() for name in CACHED)
    source.write_text("a = 1234\n")
    _drop_stale_code(tmp_path)
    assert not any((cache / name).exists() for name in CACHED)


def test_code_of_a_folder_within_goes_with_the_rest(tmp_path):
    cache = tmp_path / "jpeg" / "__pycache__"
    cache.mkdir(parents=True)
    (tmp_path / "jpeg" / "encode.py").write_text("a = 1\n")
    (tmp_path / "color.py").write_text("a = 1\n")
    _drop_stale_code(tmp_path)
    (cache / CACHED[0]).touch()
    _drop_stale_code(tmp_path)
    assert (cache / CACHED[0]).exists()
    (tmp_path / "color.py").write_text("a = 1234\n")
    _drop_stale_code(tmp_path)
    assert not (cache / CACHED[0]).exists()
    (cache / CACHED[0]).touch()
    (tmp_path / "jpeg" / "encode.py").write_text("a = 1234\n")
    _drop_stale_code(tmp_path)
    assert not (cache / CACHED[0]).exists()


def test_code_of_a_device_lies_where_it_is_dropped_under_these_endings(monkeypatch):
    dispatcher = pytest.importorskip("numba.cuda.dispatcher")
    from gpuio.kernels import device_color

    monkeypatch.setattr("numba.cuda.core.config.CACHE_DIR", "")
    cache = dispatcher.CUDACache(device_color.COLOR.body)
    assert Path(cache.cache_path) == Path(device_color.__file__).parent / "__pycache__"
    assert cache._cache_file._index_name.endswith(".nbi")
    assert cache._cache_file._data_name(1).endswith(".nbc")
