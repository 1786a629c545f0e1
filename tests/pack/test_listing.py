"""Lists: what is found, in which order, in which file."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpuio.formats.image_list import ImageList
from gpuio.pack.listing import Found, find_images, find_lists, make_lists

SHUFFLED = [1, 4, 9, 0, 3, 8, 5, 6, 11, 10, 7, 2]


def touch(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def twelve() -> Found:
    return Found([f"{i}.jpg" for i in range(12)], [0] * 12, [])


def listed(tmp_path: Path, **options) -> dict[str, list[int]]:
    counts = make_lists(tmp_path / "data", twelve(), **options)
    found = {path.name: ImageList.load(path).ids.tolist() for path in tmp_path.glob("*")}
    assert {Path(name).name: count for name, count in counts.items()} == {
        name: len(ids) for name, ids in found.items()
    }
    return found


def test_files_come_by_name_and_only_those_in_the_folder(tmp_path):
    touch(tmp_path, "b.jpg", "B.JPEG", "a.png", "c.txt", "d/e.jpg", "no_suffix")
    (tmp_path / "dir.jpg").mkdir()
    found = find_images(tmp_path)
    assert found.paths == ["B.JPEG", "a.png", "b.jpg"]
    assert found.labels == [0, 0, 0]
    assert found.folders == []


def test_folders_with_images_are_labels_in_the_order_of_the_walk(tmp_path):
    touch(tmp_path, "z.jpg", "cats/b.jpg", "cats/a.jpg", "cats/old/x.jpg", "cats-2/x.jpg")
    touch(tmp_path, "empty/notes.txt", "empty/deep/x.png")
    found = find_images(tmp_path, recursive=True)
    assert found.folders == [".", "cats", "cats/old", "cats-2", "empty/deep"]
    assert list(zip(found.paths, found.labels, strict=True)) == [
        ("z.jpg", 0),
        ("cats/a.jpg", 1),
        ("cats/b.jpg", 1),
        ("cats/old/x.jpg", 2),
        ("cats-2/x.jpg", 3),
        ("empty/deep/x.png", 4),
    ]


def test_links_are_followed_but_not_in_circles(tmp_path):
    touch(tmp_path / "elsewhere", "a.jpg")
    touch(tmp_path / "root", "b/b.jpg")
    (tmp_path / "root" / "a").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "root" / "b" / "up").symlink_to(tmp_path / "root")
    assert find_images(tmp_path / "root", recursive=True).paths == ["a/a.jpg", "b/b.jpg"]


@pytest.mark.parametrize("recursive", [True, False])
def test_a_link_to_itself_is_no_image(tmp_path, recursive):
    touch(tmp_path, "a.jpg")
    (tmp_path / "b.jpg").symlink_to(tmp_path / "b.jpg")
    assert find_images(tmp_path, recursive=recursive).paths == ["a.jpg"]


@pytest.mark.parametrize("extensions", [[".gif", ".TIF"], ["gif", "tif"]])
def test_extensions_are_those_asked_for(tmp_path, extensions):
    touch(tmp_path, "a.jpg", "b.GIF", "c.tif", "gif")
    assert find_images(tmp_path, extensions=extensions).paths == ["b.GIF", "c.tif"]


def test_names_that_a_list_cannot_hold_are_an_error(tmp_path):
    touch(tmp_path, "a\tb.jpg")
    with pytest.raises(ValueError, match=r"'a\\tb.jpg': a list cannot hold tabs"):
        find_images(tmp_path)


def test_the_order_is_always_the_same(tmp_path):
    assert listed(tmp_path) == {"data.lst": SHUFFLED}


def test_the_order_can_be_that_of_names(tmp_path):
    assert listed(tmp_path, shuffle=False) == {"data.lst": list(range(12))}


def test_a_line_is_number_label_and_path(tmp_path):
    make_lists(tmp_path / "data", Found(["a/x y.jpg", "b/é.png"], [0, 7], ["a", "b"]))
    text = (tmp_path / "data.lst").read_text(encoding="utf-8")
    assert sorted(text.splitlines()) == ["0\t0.000000\ta/x y.jpg", "1\t7.000000\tb/é.png"]
    assert text.endswith("\n")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"chunks": 2}, {"_0": SHUFFLED[:6], "_1": SHUFFLED[6:]}),
        ({"chunks": 3}, {"_0": SHUFFLED[:4], "_1": SHUFFLED[4:8], "_2": SHUFFLED[8:]}),
        (
            {"chunks": 5},
            {f"_{i}": SHUFFLED[3 * i : 3 * i + 3] for i in range(5)},
        ),
        ({"train_ratio": 0.75}, {"_train": SHUFFLED[:9], "_val": SHUFFLED[9:]}),
        (
            {"train_ratio": 0.5, "test_ratio": 0.25},
            {"_test": SHUFFLED[:3], "_train": SHUFFLED[3:9], "_val": SHUFFLED[9:]},
        ),
        (
            {"train_ratio": 0.6, "test_ratio": 0.4},
            {"_test": SHUFFLED[:4], "_train": SHUFFLED[4:11]},
        ),
        ({"train_ratio": 1.0, "test_ratio": 0.5}, {"": SHUFFLED}),
        ({"train_ratio": 0.0}, {"_train": [], "_val": SHUFFLED}),
        ({"train_ratio": 0.0, "test_ratio": 1.0}, {"_test": SHUFFLED, "_train": []}),
        (
            {"chunks": 2, "train_ratio": 0.6, "test_ratio": 0.4},
            {
                "_0_test": SHUFFLED[:2],
                "_0_train": SHUFFLED[2:5],
                "_1_test": SHUFFLED[6:8],
                "_1_train": SHUFFLED[8:11],
            },
        ),
        (
            {"chunks": 2, "train_ratio": 0.5, "test_ratio": 0.2},
            {
                "_0_test": SHUFFLED[:1],
                "_0_train": SHUFFLED[1:4],
                "_0_val": SHUFFLED[4:6],
                "_1_test": SHUFFLED[6:7],
                "_1_train": SHUFFLED[7:10],
                "_1_val": SHUFFLED[10:],
            },
        ),
        (
            # Shares are those of a full chunk, also in the last, shorter one.
            {"chunks": 5, "train_ratio": 0.7},
            {
                **{f"_{i}_train": SHUFFLED[3 * i : 3 * i + 2] for i in range(5)},
                **{f"_{i}_val": SHUFFLED[3 * i + 2 : 3 * i + 3] for i in range(5)},
            },
        ),
    ],
    ids=str,
)
def test_lists_are_split_into_chunks_and_shares(tmp_path, options, expected):
    assert listed(tmp_path, **options) == {f"data{k}.lst": ids for k, ids in expected.items()}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"chunks": 0}, "chunks must be at least 1, got 0"),
        ({"train_ratio": 1.5}, r"train_ratio must be in \[0, 1\], got 1.5"),
        ({"test_ratio": -1}, r"test_ratio must be in \[0, 1\], got -1"),
    ],
)
def test_wrong_shares_are_named(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        make_lists(tmp_path / "data", twelve(), **options)
    assert not list(tmp_path.iterdir())


def test_a_prefix_stands_for_its_own_lists_only(tmp_path):
    own = ["data.lst", "data_0.lst", "data_1_train.lst", "data_test.lst", "data_train.lst"]
    touch(tmp_path, *own, "database.lst", "data2.lst", "data_old.lst", "data.rec", "my_data.lst")
    (tmp_path / "data_val.lst").mkdir()
    assert [Path(path).name for path in find_lists(tmp_path / "data")] == own


def test_a_folder_stands_for_all_lists_in_it(tmp_path):
    touch(tmp_path, "b.lst", "a.lst", "c.rec", "d/e.lst")
    assert [Path(path).name for path in find_lists(tmp_path)] == ["a.lst", "b.lst"]


def test_a_list_stands_for_itself(tmp_path):
    touch(tmp_path, "a.lst")
    assert find_lists(tmp_path / "a.lst") == [str(tmp_path / "a.lst")]
    (tmp_path / "a").mkdir()  # the images' folder, of the same name as their list
    assert find_lists(tmp_path / "a") == [str(tmp_path / "a.lst")]
    assert find_lists(tmp_path / "b.lst") == []
    assert find_lists(tmp_path / "nowhere" / "a") == []
