"""What is said to be slow, by a clock that stands still until a stage is slow; profilers see it."""

from __future__ import annotations

import io
import json
import re
import sys
import time
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
from harness import our_threads

import gpuio
from gpuio import ImageRecordIter
from gpuio.core import timing
from gpuio.core.timing import PipelineStats, StageStats
from gpuio.observe import report as report_module
from gpuio.observe.report import Report, Spent
from gpuio.pipeline.executor import Executor
from gpuio.pipeline.planner import Planner
from gpuio.pipeline.read.reader import RecordReader
from gpuio.testing import draw, encode, write_rec

COUNT, BATCH = 48, 3
SHAPE = (3, 16, 16)


class Clock:
    """Seconds for stopwatches: they pass only when a test lets a stage take them."""

    def __init__(self):
        self.seconds, self.it = 0.0, None

    def perf_counter(self):
        return self.seconds

    def pass_while(self, *waiting):
        """Let a second pass, once the stopwatches called `waiting` run."""
        deadline = time.monotonic() + 60
        while self.it is not None and not all(map(self.runs, waiting)):
            assert time.monotonic() < deadline, f"{waiting} do not run"
            time.sleep(0.001)
        self.seconds += 1

    def runs(self, name):
        pipeline = self.it.pipeline
        watches = (*pipeline._reading.stopwatches, *pipeline._decoding.stopwatches)
        (watch,) = [each for each in watches if each.name == name]
        return watch._now[1] is not None


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(timing, "time", clock)
    monkeypatch.setattr(report_module, "time", clock)
    return clock


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("profile") / "a.rec"
    write_rec(path, [encode(draw(20, 20, seed=n), "BMP") for n in range(COUNT)])
    return path


@pytest.fixture
def make(path):
    made = []

    def make_(**options):
        shape = options.pop("data_shape", SHAPE)
        made.append(ImageRecordIter(path, shape, BATCH, **options))
        next(made[-1])  # what is compiled, and the start of an epoch, are out of the way
        return made[-1]

    yield make_
    for it in made:
        it.close()


def consume(it):
    for _ in it:
        pass


WAITING = "gpuio.read awaited", "gpuio.decode awaited"


def slow_reading(monkeypatch, clock, *, each=True, first=False):
    """Let files take a second for every batch, or for the first one, while all others wait."""
    real = RecordReader.__call__

    def call(*arguments):
        if first:
            clock.pass_while(*WAITING)
        for batch in real(*arguments):
            if each:
                clock.pass_while(*WAITING)
            yield batch

    monkeypatch.setattr(RecordReader, "__call__", call)


def test_a_slow_training_step_is_found(make, clock):
    it = clock.it = make()
    left = COUNT // BATCH - 1
    with gpuio.profile(it) as report:
        for number, _ in enumerate(it):
            if number < left - 3:  # later on, all others lie there
                clock.pass_while("gpuio.decode blocked")
    assert report.limit == "training"
    assert report.sentence.startswith("the training step is the limit: it waited 0 % ")
    figures = report.to_dict()
    assert figures["seconds"] == figures["stages"]["training"]["busy"] == left - 3
    assert figures["stages"]["decode"]["blocked"] == left - 3
    assert figures["waited"] == 0


def test_a_slow_reader_is_found(make, monkeypatch, clock):
    it = clock.it = make()
    slow_reading(monkeypatch, clock)
    it.reset()
    with gpuio.profile(it) as report:
        consume(it)
    assert report.limit == "read"
    assert report.sentence.startswith("read is the limit: busy 100 % of the time, 100 % of that in")
    figures = report.to_dict()
    assert figures["stages"]["read"]["busy"] == figures["files"] == COUNT // BATCH
    assert figures["stages"]["decode"]["starved"] == COUNT // BATCH
    assert figures["waited"] == figures["seconds"] == COUNT // BATCH


def test_slow_headers_and_draws_are_not_taken_for_files(make, monkeypatch, clock):
    it = clock.it = make()
    real = Planner.plan_batch

    def plan_batch(*arguments, **options):
        clock.pass_while(*WAITING)
        return real(*arguments, **options)

    it.reset()
    monkeypatch.setattr(Planner, "plan_batch", plan_batch)
    with gpuio.profile(it) as report:
        consume(it)
    assert report.limit == "read"
    assert report.to_dict()["files"] == 0
    assert report.to_dict()["stages"]["read"]["busy"] == COUNT // BATCH


def test_slow_decoding_that_leaves_the_cores_idle_is_found(make, monkeypatch, clock):
    it = clock.it = make()
    real = Executor._complete

    def complete(*arguments):
        clock.pass_while("gpuio.decode awaited")
        return real(*arguments)

    it.reset()
    monkeypatch.setattr(Executor, "_complete", complete)
    with gpuio.profile(it) as report:
        consume(it)
    assert report.limit in ("decode", "augment")
    assert "held up by Python or by other work on the machine" in report.sentence
    stages = report.to_dict()["stages"]
    assert stages["decode"]["busy"] + stages["augment"]["busy"] == COUNT // BATCH


def work(it):
    """CPU seconds of decoding and of augmentation."""
    consume(it)
    stats = it.stats()
    return stats["decoding"], stats["augmenting"]


def test_the_work_of_an_enlargement_is_augmentation(make):
    decoding, augmenting = work(make(data_shape=(3, 400, 400), resize=400, inter_method=4))
    assert 0 < decoding < augmenting


def test_the_work_of_large_images_is_decoding(tmp_path):
    path = tmp_path / "large.rec"
    write_rec(path, [encode(draw(600, 800), "JPEG", quality=95)] * 40)
    with ImageRecordIter(path, SHAPE, 2, resize=16, inter_method=0) as it:
        next(it)
        decoding, augmenting = work(it)
    assert decoding > augmenting > 0


def test_epochs_that_are_too_short_are_found(make, monkeypatch, clock):
    it = clock.it = make()
    slow_reading(monkeypatch, clock, each=False, first=True)
    with gpuio.profile(it) as report:
        for _ in range(3):
            it.reset()
            next(it)
    assert report.limit == "start"
    assert report.sentence.startswith("the start of 3 epochs is the limit: 3.0 s until")
    assert report.sentence.endswith("that is of 3 batches only, look at more.")
    assert report.to_dict()["waited_for_first_batches"] == 3


def test_a_report_counts_what_was_taken(make):
    it = make(round_batch=True)
    consume(it)
    with gpuio.profile(it) as report:
        consume(it)
        halfway = report.to_dict()
        consume(it)
    figures = report.to_dict()
    assert (halfway["epochs"], figures["epochs"]) == (1, 2)
    assert (halfway["images"], figures["images"]) == (COUNT, 2 * COUNT)
    assert figures["batches"] == 2 * COUNT // BATCH
    assert figures["images_per_second"] == pytest.approx(2 * COUNT / figures["seconds"])
    stages = figures["stages"]
    assert stages["read"]["images"] == stages["augment"]["images"] == 2 * COUNT
    assert stages["read"]["nbytes"] == 2 * sum(
        len(encode(draw(20, 20), "BMP")) for _ in range(COUNT)
    )
    assert stages["training"]["nbytes"] == 2 * COUNT * 3 * 16 * 16 * 4
    consume(it)
    assert report.to_dict() == figures  # it ended with the block


def test_padding_is_no_image(path):
    with ImageRecordIter(path, SHAPE, 32) as it:
        consume(it)
        assert it.stats()["images"] == COUNT
        assert it.stats()["batches"] == 2


def test_a_report_is_json_and_a_table(make):
    it = make()
    with gpuio.profile(it) as report:
        consume(it)
    assert json.loads(json.dumps(report.to_dict())) == report.to_dict()
    lines = str(report).splitlines()
    assert lines[0].endswith(" images/s")
    assert lines[1].split() == ["stage", "busy", "starved", "blocked", "MB/s", "images/s", "alone"]
    assert [line.split()[0] for line in lines[2:6]] == ["read", "decode", "augment", "training"]
    assert lines[6] == report.sentence
    assert len({len(line) for line in lines[1:6]}) == 1


def test_without_a_batch_nothing_is_reported(make):
    with gpuio.profile(make()) as report:
        pass
    assert report.limit == ""
    assert report.sentence == "no batch was taken: nothing can be said."
    assert str(report)


def test_a_report_survives_an_error_in_the_loop(make):
    it, reports = make(), []

    def train():
        with gpuio.profile(it, ranges=[lambda name: pytest.fail(name)]) as report:
            reports.append(report)
            raise KeyError

    with pytest.raises(KeyError):
        train()
    figures = reports[0].to_dict()
    it.reset()
    consume(it)  # and no range is shown any more
    assert reports[0].to_dict() == figures


def test_masks_have_stages_of_their_own(path, tmp_path):
    masks = tmp_path / "masks.rec"
    write_rec(masks, [encode(np.zeros((20, 20, 1), np.uint8))] * COUNT)
    with ImageRecordIter(path, SHAPE, BATCH, masks=masks) as it:
        with gpuio.profile(it) as report:
            consume(it)
        names = ["read", "decode", "augment", "masks read", "masks decode", "masks augment"]
        assert list(report.to_dict()["stages"]) == [*names, "training"]
        assert report.to_dict()["images"] == COUNT


def test_a_loader_for_a_framework_can_be_looked_at(make):
    it = make()
    it.reset()
    loader = it.numpy()
    with gpuio.profile(loader) as report:
        assert len(list(loader)) == COUNT // BATCH
    assert report.to_dict()["images"] == COUNT


def test_an_iterator_without_stages_cannot_be_profiled():
    arrays = gpuio.io.NDArrayIter(np.zeros((4, 2)), batch_size=2)
    with (
        pytest.raises(TypeError, match=r"an iterator over images .*, not NDArrayIter"),
        gpuio.profile(arrays),
    ):
        pass


def spent(*, waited=0.0, first=0.0, busy=0.0, starved=0.0, blocked=0.0, work=(0.0, 0.0), **more):
    """Ten seconds in which much was done, by two threads."""
    account = PipelineStats(
        epochs=2,
        read=StageStats(100, 1000, 10**6, more.pop("reading", 1.0), 0.0, 9.0),
        decode=StageStats(100, 1000, 10**7, busy, starved, blocked),
        files=0.5,
        waited=waited,
        first=first,
        decoding=work[0],
        augmenting=work[1],
    )
    accounts = {"": account} | ({"masks": more["masks"]} if "masks" in more else {})
    return Spent(10.0, more.get("batches", 100), 1000, 10**7, 2, accounts)


@pytest.mark.parametrize(
    ("case", "sentence"),
    [
        (
            spent(waited=3.1, busy=9.9, work=(17.0, 3.0)),
            (
                "decode is the limit: 2 of 2 CPU threads busy; the training step waited 31 % of "
                "the time."
            ),
        ),
        (
            spent(waited=9.0, busy=9.9, work=(4.0, 15.0)),
            (
                "augmentation is the limit: 1.9 of 2 CPU threads busy, 79 % of that augmentation;"
                " the training step waited 90 % of the time."
            ),
        ),
        (
            spent(waited=3.1, busy=9.9, work=(6.0, 2.0)),
            (
                "decode is the limit: 0.8 of 2 CPU threads busy, held up by Python or by other "
                "work on the machine; the training step waited 31 % of the time."
            ),
        ),
        (
            spent(waited=3.1, busy=9.9),
            (
                "decode is the limit: busy 99 % of the time; the training step waited 31 % of the"
                " time."
            ),
        ),
        (
            spent(waited=8.0, busy=1.0, starved=9.0, reading=9.8, work=(3.0, 1.0)),
            (
                "read is the limit: busy 98 % of the time, 5 % of that in files; the training "
                "step waited 80 % of the time."
            ),
        ),
        (
            spent(waited=0.1, busy=4.0, blocked=6.0, work=(6.0, 1.0)),
            "the training step is the limit: it waited 1 % of the time; 0.7 of 2 CPU threads busy.",
        ),
        (
            spent(waited=0.1, busy=4.0, blocked=6.0),
            "the training step is the limit: it waited 1 % of the time.",
        ),
        (
            spent(waited=3.0, first=2.0, busy=5.0, blocked=5.0),
            (
                "the start of 2 epochs is the limit: 2.0 s until the first batch; the training "
                "step waited 30 % of the time."
            ),
        ),
        (
            spent(waited=2.0, busy=4.0, blocked=5.0),
            (
                "no stage is the limit, batches are taken in bursts: finished ones lay there 50 %"
                " of the time, a larger prefetch_buffer holds more of them; the training step "
                "waited 20 % of the time."
            ),
        ),
        (
            spent(
                waited=6.0, busy=1.0, starved=9.0, masks=PipelineStats(read=StageStats(busy=9.0))
            ),
            (
                "read of masks is the limit: busy 90 % of the time, 0 % of that in files; the "
                "training step waited 60 % of the time."
            ),
        ),
        (
            spent(waited=3.1, busy=9.9, batches=4),
            (
                "decode is the limit: busy 99 % of the time; the training step waited 31 % of the"
                " time; that is of 4 batches only, look at more."
            ),
        ),
    ],
)
def test_the_sentence_says_what_a_user_needs(case, sentence):
    assert case.sentence() == sentence


def test_without_times_of_threads_decoding_and_augmentation_are_one():
    stages = spent(waited=1.0, busy=5.0, starved=4.0, blocked=1.0).stages()
    assert list(stages) == ["read", "decode", "training"]
    assert stages["decode"].nbytes == 10**7
    assert stages["decode"].images_per_second == 200


@pytest.fixture
def seen():
    """Ranges as a profiler would see them: (thread, name)."""
    import threading

    found = set()

    @contextmanager
    def mark(name):
        yield
        found.add((threading.current_thread().name, name))

    return SimpleNamespace(mark=mark, found=found)


def test_every_stage_is_a_range_in_its_thread(make, seen, monkeypatch, clock):
    it = clock.it = make()
    slow_reading(monkeypatch, clock)
    it.reset()
    with gpuio.profile(it, ranges=[seen.mark]):
        consume(it)
        monkeypatch.undo()
        it.reset()
        next(it)
        clock.pass_while("gpuio.read blocked", "gpuio.decode blocked")
        consume(it)
    assert seen.found >= {
        ("gpuio-read", "gpuio.read"),
        ("gpuio-read", "gpuio.files"),
        ("gpuio-read", "gpuio.read blocked"),
        ("gpuio-decode", "gpuio.decode"),
        ("gpuio-decode", "gpuio.read awaited"),
        ("gpuio-decode", "gpuio.decode blocked"),
        ("MainThread", "gpuio.decode awaited"),
    }
    it.reset()
    seen.found.clear()
    consume(it)
    assert not seen.found


@pytest.mark.slow
@pytest.mark.parametrize("everywhere", [False, True])
def test_torch_profiler_shows_the_ranges(make, tmp_path, monkeypatch, clock, everywhere):
    profiler = pytest.importorskip("torch.profiler")
    it = clock.it = make()
    slow_reading(monkeypatch, clock)
    it.reset()
    config = profiler._ExperimentalConfig(profile_all_threads=everywhere)
    handler = profiler.tensorboard_trace_handler(str(tmp_path))
    activities = [profiler.ProfilerActivity.CPU]
    with (
        profiler.profile(activities=activities, on_trace_ready=handler, experimental_config=config),
        gpuio.profile(it),
    ):
        consume(it)
    (trace,) = tmp_path.glob("*.pt.trace.json")  # what TensorBoard takes
    events = json.loads(trace.read_text())["traceEvents"]
    names = {event["name"] for event in events if event.get("cat") == "user_annotation"}
    assert "gpuio.decode awaited" in names
    threads = {"gpuio.read", "gpuio.files", "gpuio.decode", "gpuio.read awaited"}
    assert names & threads == (threads if everywhere else set())


def test_nvtx_gets_the_ranges_where_it_is_installed(make, seen, monkeypatch):
    monkeypatch.delitem(sys.modules, "torch.profiler", raising=False)
    nvtx = pytest.importorskip("nvtx")
    monkeypatch.setattr(nvtx, "annotate", seen.mark)
    it = make()
    it.reset()
    with gpuio.profile(it):
        consume(it)
    assert ("gpuio-read", "gpuio.read") in seen.found


def test_profilers_that_are_not_there_are_not_needed(make, monkeypatch):
    monkeypatch.delitem(sys.modules, "torch.profiler", raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    it = make()
    with gpuio.profile(it) as report:
        consume(it)
    assert report.to_dict()["batches"] == COUNT // BATCH - 1


def test_progress_shows_a_line_for_an_epoch(make):
    it, file = make(), io.StringIO()
    it.reset()
    batches = list(gpuio.progress(it, file=file, disable=False, mininterval=0))
    assert len(batches) == COUNT // BATCH
    line = file.getvalue().split("\r")[-1]
    assert line.startswith("epoch 1: 100%")
    assert f"{COUNT // BATCH}/{COUNT // BATCH}" in line
    assert " images/s, waited " in line


def test_progress_begins_where_the_epoch_is(make):
    it, file = make(), io.StringIO()
    left = list(gpuio.progress(it, file=file, disable=False, mininterval=0))
    assert len(left) == COUNT // BATCH - 1
    shown = [int(n) for n in re.findall(rf" (\d+)/{COUNT // BATCH} ", file.getvalue())]
    assert shown[:2] == [0, 2]  # the second batch is the first one here
    assert shown[-1] == COUNT // BATCH
    loader = it.numpy()
    assert len(list(gpuio.progress(loader))) == COUNT // BATCH


def test_progress_may_be_left_early(make):
    it = make()
    for _ in gpuio.progress(it):
        break
    it.close()
    assert "gpuio-read" not in our_threads()


def test_progress_over_nothing_is_nothing(path):
    with ImageRecordIter(path, SHAPE, COUNT + 1, last_batch="drop") as it:
        assert list(gpuio.progress(it)) == []


def test_a_report_begins_when_it_is_made(make):
    it = make()
    consume(it)
    report = Report(it)
    assert report.to_dict()["batches"] == 0


def test_stats_are_of_the_epoch_under_way(make):
    it = make()
    consume(it)
    first = it.stats()
    assert (first["batches"], first["images"]) == (COUNT // BATCH, COUNT)
    assert first["images_per_second"] == pytest.approx(COUNT / first["seconds"])
    assert first["stages"]["read"]["images"] == first["stages"]["decode"]["images"] == COUNT
    assert first["stages"]["decode"]["nbytes"] == COUNT * 3 * 16 * 16 * 4
    assert it.stats()["seconds"] == first["seconds"]  # up to the last batch
    it.reset()
    next(it)
    second = it.stats()
    assert (second["batches"], second["images"]) == (1, BATCH)
    assert second["decoding"] < first["decoding"]
    assert second["waited"] <= second["seconds"]
