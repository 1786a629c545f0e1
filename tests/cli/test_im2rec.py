"""gpuio im2rec: arguments in, files and exit status out."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from gpuio.cli import main
from gpuio.formats.image_record import unpack
from gpuio.formats.index import Index
from gpuio.formats.recordio import RecordFile
from gpuio.sources.recordio.source import RecordIOSource
from gpuio.testing import draw, encode


@pytest.fixture
def work(tmp_path, monkeypatch) -> Path:
    """A working folder with a tree of six images."""
    monkeypatch.chdir(tmp_path)
    for number in range(6):
        folder = tmp_path / "images" / ("cat", "dog")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        picture = Image.new("RGB", (30 + number, 20), (9 * number, 99, 200))
        picture.save(folder / f"{number}.jpg")
    return tmp_path


def sizes(prefix: str) -> list[tuple[int, int]]:
    with RecordFile(f"{prefix}.rec") as file:
        payloads = [file.read(o)[0] for o in Index.load(f"{prefix}.idx").offsets.tolist()]
    return [Image.open(io.BytesIO(unpack(payload)[1])).size for payload in payloads]


def test_lists_and_records_are_made_in_two_steps(work, capsys):
    assert main(["im2rec", "--list", "--recursive", "data", "images"]) == 0
    assert capsys.readouterr().out == "cat 0\ndog 1\n"
    assert "0\t0.000000\tcat/0.jpg\n" in (work / "data.lst").read_text()
    assert main(["im2rec", "data", "images"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{work / 'data.rec'}: 6 images, 0 skipped, 0.0 MB, ")
    assert Index.load("data.idx").keys.tolist() == [
        int(line.split()[0]) for line in (work / "data.lst").read_text().splitlines()
    ]


def test_every_flag_of_the_list_stage_is_understood(work):
    flags = ["--exts", ".jpg", ".png", "--chunks", "2", "--train-ratio", "0.5"]
    flags += ["--test-ratio", "0.4", "--recursive", "--no-shuffle", "--list"]
    assert main(["im2rec", "data", "images", *flags]) == 0
    assert (work / "data_1_test.lst").read_text() == "3\t1.000000\tdog/1.jpg\n"
    assert len(list(work.glob("data_[01]_*.lst"))) == 6


def test_every_flag_of_the_pack_stage_is_understood(work):
    (work / "data.lst").write_text("0\t1\t2\tcat/0.jpg\n3\t1\t2\tdog/1.jpg\n")
    flags = ["--center-crop", "--quality", "50", "--num-thread", "3"]
    flags += ["--color", "-1", "--encoding", ".png", "--pack-label"]
    assert main(["im2rec", "data", "images", *flags]) == 0
    assert sizes("data") == [(20, 20), (20, 20)]
    assert main(["im2rec", "data", "images", "--pass-through"]) == 0
    assert sizes("data") == [(30, 20), (31, 20)]
    assert main(["im2rec", "data", "images", "--resize", "10"]) == 0
    assert sizes("data") == [(15, 10), (15, 10)]


def test_transcoding_is_reported(work, capsys):
    whole = encode(draw(40, 60), "JPEG", progressive=True)
    for number, data in enumerate((whole, whole[:-40])):
        (work / f"{number}.jpg").write_bytes(data)
    (work / "data.lst").write_text("0\t1\t0.jpg\n1\t1\t1.jpg\n")
    assert main(["im2rec", "data", ".", "--pass-through", "--baseline", "--optimize"]) == 0
    out, err = capsys.readouterr()
    assert ": 2 images, 0 skipped, 1 transcoded, 0.0 MB, " in out
    assert "stored as it is ./1.jpg: JPEG: " in err
    assert main(["im2rec", "data", ".", "--optimize"]) == 2
    assert "it needs pass_through (--pass-through)" in capsys.readouterr().err


def test_all_lists_of_a_prefix_are_packed(work):
    for name in ("data_train", "data_val", "database"):
        (work / f"{name}.lst").write_text("0\t1\tcat/0.jpg\n")
    assert main(["im2rec", "data", "images"]) == 0
    assert sorted(path.name for path in work.glob("*.rec")) == ["data_train.rec", "data_val.rec"]


def test_lists_are_cut_into_shards(work, capsys):
    lines = [f"{n}\t1\t{'dog' if n % 2 else 'cat'}/{n}.jpg\n" for n in range(6)]
    for name in ("data_train", "data_val"):
        (work / f"{name}.lst").write_text("".join(lines))
    assert main(["im2rec", "data", "images", "--num-shards", "4"]) == 0
    out = capsys.readouterr().out
    for name in ("data_train", "data_val"):
        assert f"{work / name}-*-of-00004.rec: 6 images, 0 skipped, " in out
        assert RecordIOSource.open(f"{name}-*.rec").keys.tolist() == [0, 1, 2, 3, 4, 5]
    assert main(["im2rec", "data", "images", "--num-shards", "7"]) == 2
    assert "6 images cannot be cut into 7 shards" in capsys.readouterr().err


def test_skipped_images_are_named_and_make_the_status_1(work, capsys):
    (work / "data.lst").write_text("0\t1\tcat/0.jpg\n1\t1\tgone.jpg\n2\t1\tcat\n")
    assert main(["im2rec", "data", "images"]) == 1
    out, err = capsys.readouterr()
    assert ": 1 images, 2 skipped, " in out
    assert f"skipped {Path('images', 'gone.jpg')}: No such file or directory\n" in err
    assert (
        f"skipped {Path('images', 'cat')}: a plain file expected, found a folder, pipe or device\n"
        in err
    )


def test_a_missing_list_is_an_error(work, capsys):
    assert main(["im2rec", "data", "images"]) == 2
    prefix = work / "data"
    assert capsys.readouterr().err == (
        f"gpuio: {prefix}.lst: no such list; make one with: gpuio im2rec --list {prefix} images\n"
    )


def test_a_list_that_cannot_be_parsed_is_an_error(work, capsys):
    (work / "data.lst").write_text("0\t1\tcat/0.jpg\nid\t1\tcat/2.jpg\n")
    assert main(["im2rec", "data", "images"]) == 2
    assert "data.lst: line 2: index must be a 64-bit integer, found 'id'" in capsys.readouterr().err
    assert not list(work.glob("data.rec*"))


def test_no_images_are_an_error(work, capsys):
    assert main(["im2rec", "--list", "data", "images"]) == 2
    expected = "images: no .jpeg .jpg .png files directly in it; --recursive goes into folders\n"
    assert expected in capsys.readouterr().err
    assert not list(work.glob("data*"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["data"], "the following arguments are required: ROOT"),
        (["data", "images", "--color", "3"], "invalid choice: 3"),
        (["data", "images", "--encoding", ".gif"], "invalid choice: '.gif'"),
        (["data", "images", "--what"], "unrecognized arguments: --what"),
        (["data", "images", "--num-thread", "0"], "--num-thread must be at least 1, got 0"),
        (["data", "images", "--num-shards", "0"], "--num-shards must be at least 1, got 0"),
        (["data", "images", "--quality", "101"], "quality must be in [0, 100], got 101"),
        (["data", "images", "--list", "--chunks", "0"], "no .jpeg"),
        (["data", "nowhere", "--list"], "No such file or directory: 'nowhere'"),
    ],
)
def test_wrong_arguments_are_status_2(work, capsys, arguments, message):
    (work / "images" / "empty").mkdir()
    try:
        status = main(["im2rec", *arguments])
    except SystemExit as error:
        status = error.code
    assert status == 2
    assert message in capsys.readouterr().err


_NEVER_DONE = """
import sys, threading
from gpuio.pack import packing as pack
from gpuio.cli import script

def encode_image(path, options):
    print("at work", flush=True)
    threading.Event().wait()

pack.encode_image = encode_image
sys.argv[1:] = ["im2rec", "data", "images", "--num-thread", "1"]
script()
"""


@pytest.mark.parametrize("inherited", [signal.SIG_DFL, signal.SIG_IGN], ids=["default", "ignored"])
@pytest.mark.parametrize(
    ("number", "status", "word"),
    [
        (signal.SIGINT, 130, "interrupted"),
        (signal.SIGTERM, 143, "terminated"),
        (signal.SIGHUP, 129, "terminated"),
    ],
    ids=["SIGINT", "SIGTERM", "SIGHUP"],
)
def test_a_signal_ends_it_and_leaves_nothing(work, number, status, word, inherited):
    def inherit():
        # A shell without job control has what it starts in the background ignore interrupts.
        signal.signal(signal.SIGINT, inherited)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # also where nohup runs the tests

    (work / "data.lst").write_text("0\t1\tcat/0.jpg\n1\t1\tdog/1.jpg\n")
    with subprocess.Popen(
        [sys.executable, "-c", _NEVER_DONE],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=inherit,
    ) as process:
        try:
            assert process.stdout.readline() == "at work\n"
            assert list(work.glob("data.rec.*.partial"))
            process.send_signal(number)
            assert process.wait(20) == status
            assert process.stderr.read() == f"gpuio: {word}\n"
        finally:
            process.kill()
    assert not list(work.glob("data.[ri]*"))


def test_a_pipe_in_place_of_an_image_is_left_out(work, capsys):
    os.mkfifo(work / "images" / "pipe.jpg")
    (work / "data.lst").write_text("0\t1\tpipe.jpg\n1\t1\tdog/1.jpg\n")
    assert main(["im2rec", "data", "images"]) == 1
    err = capsys.readouterr().err
    expected = "a plain file expected, found a folder, pipe or device"
    assert f"skipped {Path('images', 'pipe.jpg')}: {expected}\n" in err


def test_a_wrong_root_leaves_the_old_files(work, capsys):
    assert main(["im2rec", "--list", "--recursive", "data", "images"]) == 0
    assert main(["im2rec", "data", "images"]) == 0
    before = [(work / f"data.{suffix}").read_bytes() for suffix in ("rec", "idx")]
    (work / "empty").mkdir()
    capsys.readouterr()
    assert main(["im2rec", "data", "nowhere"]) == 2
    assert capsys.readouterr().err.startswith("gpuio: nowhere: no such folder")
    assert main(["im2rec", "data", "empty"]) == 2
    # One line, however many images there are.
    (line,) = capsys.readouterr().err.splitlines()
    assert "none of 6 listed images could be packed" in line
    assert "is empty their folder?" in line
    assert [(work / f"data.{suffix}").read_bytes() for suffix in ("rec", "idx")] == before


def test_a_much_smaller_file_is_written_only_with_overwrite(work, capsys):
    assert main(["im2rec", "--list", "--recursive", "data", "images"]) == 0
    assert main(["im2rec", "data", "images"]) == 0
    lines = (work / "data.lst").read_text().splitlines(keepends=True)
    (work / "data.lst").write_text("".join(lines[:2]))
    assert main(["im2rec", "data", "images"]) == 2
    assert "it has 6 images, and the new one would have 2; --overwrite" in capsys.readouterr().err
    assert len(sizes("data")) == 6
    assert main(["im2rec", "data", "images", "--overwrite"]) == 0
    assert len(sizes("data")) == 2


def test_help_tells_the_exit_status(capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["im2rec", "--help"])
    assert exit_.value.code == 0
    assert "1 if some were left out" in capsys.readouterr().out


def test_repeated_ids_are_reported(tmp_path, capsys):
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    (tmp_path / "a.lst").write_text("0\t1\ta.png\n0\t1\ta.png\n1\t1\ta.png\n")
    assert main(["im2rec", str(tmp_path / "a"), str(tmp_path)]) == 0
    assert f"{tmp_path / 'a.lst'}: 1 of 3 lines repeat an id" in capsys.readouterr().err
