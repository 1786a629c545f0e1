from __future__ import annotations

import json

import pytest

from robustness.campaign import Campaign, signature
from robustness.case import CRASH, EXCEPTION, HANG, OK, Verdict
from robustness.minimise import minimise
from robustness.planted import BAD, CLEAN, PLANTED
from robustness.runner import Limits, Runner

SHORT = Limits(cpu=1, idle=2, wall=10)


@pytest.fixture
def runner(tmp_path):
    with Runner(tmp_path, SHORT, module="robustness.planted") as runner:
        yield runner


@pytest.mark.slow
@pytest.mark.parametrize(
    ("door", "kind", "text"),
    [
        ("planted-crash", CRASH, "SIGSEGV"),
        ("planted-exit", CRASH, "exit 3"),
        ("planted-busy", HANG, "s of CPU time"),
        ("planted-still", HANG, "s in all"),
        ("planted-memory", EXCEPTION, "MemoryError"),
    ],
)
def test_a_worker_that_is_lost_costs_its_case_alone(runner, door, kind, text):
    results = list(runner.run(door, 2, 3))
    assert [result.seed for result in results] == [2, 3, 4]
    assert [result.verdict.kind for result in results] == [OK, kind, OK]
    assert text in results[1].verdict.text


@pytest.mark.slow
def test_a_fault_is_reduced_kept_and_written_to_the_journal(tmp_path, monkeypatch):
    runner = Runner(tmp_path, SHORT, module="robustness.planted")
    monkeypatch.setattr("robustness.campaign.Runner", lambda folder: runner)
    with Campaign(tmp_path) as campaign:
        campaign.run(["planted-exception", "planted-named"], seed=1, cases=4)
        assert list(campaign.found.values()) == [1]
        table = campaign.table()
        assert "1 x planted-exception: exception: seed 3: IndexError" in table
        path = tmp_path / "found" / "planted-exception-3.pickle"
        assert "seed 3: exception: IndexError" in campaign.replay(path)
    assert BAD in path.with_suffix(".part2").read_bytes()
    assert not path.with_suffix(".part1").exists()
    lines = [json.loads(line) for line in (tmp_path / "journal.jsonl").read_text().splitlines()]
    assert [line["seed"] for line in lines] == [1, 2, 3, 4] * 2


def test_the_smallest_damage_is_left():
    door = PLANTED["planted-exception"]()
    case = door.make(3, None)
    small = minimise(case, lambda case: BAD in case.parts[2], 10)
    assert small.damaged == {2}
    assert len(small.parts[2]) < 20
    long = case.with_part(0, b"FIRST").with_part(2, CLEAN[2])
    small = minimise(long, lambda case: b"R" in case.parts[0], 10)
    assert small.parts == (b"fiRst", *CLEAN[1:])


def test_faults_at_one_place_are_one_whatever_the_numbers_are():
    first = Verdict(EXCEPTION, "IndexError: 3 of 4 | index.py:7 load")
    second = Verdict(EXCEPTION, "IndexError: 9 of 1 | index.py:7 load")
    other = Verdict(EXCEPTION, "IndexError: 3 of 4 | index.py:8 load")
    assert signature(first) == signature(second) != signature(other)
