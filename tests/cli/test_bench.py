"""gpuio bench."""

from __future__ import annotations

import json
import time

import pytest

from gpuio import ImageRecordIter
from gpuio.cli import bench, main
from gpuio.cli.bench import measure
from gpuio.testing import draw, encode, write_rec

SMALL = {"data_shape": "3,16,16", "batch_size": "4"}


def test_whole_epochs_are_counted_without_repeats(rec):
    found = measure(str(rec), SMALL, 0.3)[0].to_dict()
    assert found["seconds"] >= 0.3
    assert found["epochs"] > 1
    whole, rest = divmod(found["batches"], 4)
    assert found["images"] == 13 * whole + 4 * rest  # the last batch of each epoch has one image
    assert whole in (found["epochs"] - 1, found["epochs"])


def test_the_time_to_the_first_batch_is_apart(rec, monkeypatch):
    real = ImageRecordIter.next

    def late(self):
        time.sleep(0.3)
        return real(self)

    monkeypatch.setattr(ImageRecordIter, "next", late)
    report, first_batch, _ = measure(str(rec), SMALL, 0.1)
    assert first_batch >= 0.3
    assert report.to_dict()["seconds"] < first_batch


def test_the_report_ends_in_a_verdict(rec, tmp_path, capsys):
    path = tmp_path / "bench.json"
    arguments = ["--seconds", "0.2", "--data-shape", "3,16,16", "--batch-size", "4", "--shuffle"]
    assert main(["bench", str(rec), *arguments, "--json", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("first batch after ")
    assert lines[1].startswith("slow images: 13 of 13 images are neither JPEG nor PNG; ")
    assert lines[2].endswith(" images/s")
    assert "limit" in lines[-1]
    figures = json.loads(path.read_text())
    assert figures["images_per_second"] == pytest.approx(figures["images"] / figures["seconds"])
    assert figures["parameters"]["shuffle"] is True
    assert set(figures["stages"]) == {"read", "decode", "augment", "training"}
    assert figures["sentence"] == lines[-1]


def test_faults_are_reported(tmp_path, capsys):
    path = tmp_path / "holes.rec"
    write_rec(path, [encode(draw(16, 16)), b"broken"] * 4)
    arguments = ["--seconds", "0.1", "--data-shape", "3,16,16", "--batch-size", "4"]
    assert main(["bench", str(path), *arguments, "--on-error", "skip"]) == 0
    assert " images could not be read or decoded" in capsys.readouterr().out


def test_images_that_load_slowly_are_reported(tmp_path, capsys):
    path, figures = tmp_path / "slow.rec", tmp_path / "bench.json"
    plain, progressive = (encode(draw(16, 16), "JPEG", progressive=p) for p in (False, True))
    write_rec(path, [plain, progressive] * 4)
    arguments = ["--seconds", "0.1", "--data-shape", "3,16,16", "--batch-size", "4"]
    assert main(["bench", str(path), *arguments, "--json", str(figures)]) == 0
    assert "slow images: 4 of 8 images are progressive or in several scans; " in (
        capsys.readouterr().out
    )
    assert json.loads(figures.read_text())["slow_images"]["progressive"] == 4


def test_few_images_are_looked_at(tmp_path, monkeypatch):
    path = tmp_path / "many.rec"
    write_rec(path, [b"no picture"] * 50)
    monkeypatch.setattr(bench, "_SAMPLE", 20)
    assert bench.look_for_slow_images(str(path), "").looked_at == 20
    monkeypatch.setattr(bench, "_LOOK_SECONDS", -1)
    assert bench.look_for_slow_images(str(path), "").looked_at == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seconds", "0"], "--seconds must be above 0"),
        (["--last-batch", "drop"], "an epoch has no batch"),
        (["--batch-size", "none"], "batch_size must be an integer"),
    ],
)
def test_a_wrong_parameter_is_named(rec, capsys, arguments, message):
    assert main(["bench", str(rec), *arguments]) == 2
    assert message in capsys.readouterr().err
