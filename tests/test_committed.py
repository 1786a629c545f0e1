"""Files that appear when they are complete."""

from __future__ import annotations

import pytest

from gpuio.committed import committed


def test_files_appear_at_the_end(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    b.write_text("old")
    with committed(a, b) as partial:
        for path in partial:
            path.write_text("new")
        assert not a.exists()
        assert b.read_text() == "old"
    assert a.read_text() == b.read_text() == "new"
    assert sorted(tmp_path.iterdir()) == [a, b]


def test_a_tag_keeps_writers_apart(tmp_path):
    path = tmp_path / "a"
    with committed(path, tag=".1") as (one,), committed(path, tag=".2") as (other,):
        one.write_text("one")
        other.write_text("other")
    assert path.read_text() == "one"
    assert one.name == "a.1.partial"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_after_an_exception_all_is_as_before(tmp_path, error):
    def write():
        with committed(tmp_path / "a", tmp_path / "b") as (partial, _):
            partial.write_text("new")
            raise error

    (tmp_path / "a").write_text("old")
    with pytest.raises(error):
        write()
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]
