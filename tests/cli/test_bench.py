"""gpuio bench."""

from __future__ import annotations

import json

import pytest

from gpuio.cli import main
from gpuio.cli.bench import Measurement, measure, verdict

SMALL = {"data_shape": "3,16,16", "batch_size": "4"}


def test_whole_epochs_are_counted_without_repeats(rec):
    found = measure(str(rec), SMALL, 0.3)
    assert found.seconds >= 0.3
    assert found.epochs > 1
    whole, rest = divmod(found.batches, 4)
    assert found.images == 13 * whole + 4 * rest  # the last batch of each epoch has one image
    assert whole in (found.epochs - 1, found.epochs)


def test_time_is_split_between_busy_starved_and_blocked(rec):
    found = measure(str(rec), SMALL, 0.3)
    assert list(found.stages) == ["read", "decode"]
    for name in found.stages:
        shares = [found.share(name, state) for state in ("busy", "starved", "blocked")]
        assert min(shares) >= 0
        assert sum(shares) <= 1.1


def test_the_report_ends_in_a_verdict(rec, tmp_path, capsys):
    path = tmp_path / "bench.json"
    arguments = ["--seconds", "0.2", "--data-shape", "3,16,16", "--batch-size", "4", "--shuffle"]
    assert main(["bench", str(rec), *arguments, "--json", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "images/s" in lines[0]
    assert "limit" in lines[-1]
    figures = json.loads(path.read_text())
    assert figures["images_per_second"] == pytest.approx(figures["images"] / figures["seconds"])
    assert figures["parameters"]["shuffle"] is True
    assert set(figures["stages"]) == {"read", "decode"}


@pytest.mark.parametrize(
    ("busy", "sentence"),
    [
        ((9, 5), "The limit is read: busy 90 % of the time."),
        (
            (1, 8),
            (
                "The limit is decode: busy 80 % of the time, 75 % of its work decoding, the rest "
                "augmentation."
            ),
        ),
        (
            (2, 3),
            "No room is the limit: decode is busy most, 30 % of the time; epochs may be too short.",
        ),
    ],
)
def test_the_busiest_room_is_the_limit(busy, sentence):
    times = [{"busy": seconds, "starved": 0, "blocked": 0} for seconds in busy]
    stages = dict(zip(("read", "decode"), times, strict=True))
    assert verdict(Measurement(seconds=10, stages=stages, decoding=3, augmenting=1)) == sentence


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
