"""Work is split so that all decoders end together; these are made up, and so is their clock."""

from __future__ import annotations

import numpy as np
import numpy.testing as npt
import pytest

from gpuio.pipeline.decode.work_split import WorkSplit

NAMES = ("engines", "gpu", "cpu")
SETTLED = 20  # batches after which the split is to be good
IN_FLIGHT = 2


class Decoders:
    """Decoders with made-up rates, each of which takes one call after the other.

    Args:
        rates: Work in a second, of a batch by its number.
        call: Seconds that each call takes besides.
        noise: Deviation of the time of a call, as a part of it.
        cores: How much longer "gpu" takes if all work is that of "cpu", which needs the same cores.
        slots: Images that each decodes at once; the rate is that of all together.
        apart: Those that have so many for each batch in flight.
    """

    def __init__(self, rates, *, call=0.0, noise=0.0, cores=0.0, slots=(1, 1, 1), apart=()):
        self.rates = rates if callable(rates) else lambda batch: rates
        self.call, self.noise, self.cores = call, noise, cores
        self.slots, self.apart = slots, np.isin(NAMES, apart)
        self.random = np.random.default_rng(0)

    def seconds(self, batch, parts):
        """How long each decoder takes for its images of a batch."""
        longest = np.zeros(len(parts))
        for number, (part, slots) in enumerate(zip(parts, self.slots, strict=True)):
            loads = np.zeros(slots)
            for amount in np.sort(part)[::-1]:
                loads[loads.argmin()] += amount
            longest[number] = loads.max() * slots
        longer = 1 + self.noise * self.random.standard_normal(len(parts))
        times = self.call + longest / self.rates(batch) * np.maximum(longer, 0.1)
        times[1] *= 1 + self.cores * parts[2].sum() / sum(part.sum() for part in parts)
        return np.where(longest > 0, times, 0.0)


class Fixed:
    """Always the same split."""

    def __init__(self, *parts):
        self.parts, self.owed = np.array(parts), np.zeros(len(parts))

    def assign(self, work, allowed):
        chosen = np.zeros(len(work), int)
        self.owed += self.parts * work.sum()
        for place in np.argsort(-work):
            chosen[place] = np.where(allowed[place], self.owed, -np.inf).argmax()
            self.owed[chosen[place]] -= work[place]
        return chosen

    def report(self, worker, work, begin, end):
        pass


def run(split, decoders, batches, allowed=None):
    """When each batch was done, and the part of its work that each decoder had."""
    free, done, shares, measured = np.zeros(len(NAMES)), [], [], []
    for number, work in enumerate(batches):
        begin = done[number - IN_FLIGHT] if number >= IN_FLIGHT else 0.0
        over = sorted((row for row in measured if row[0] <= begin), key=lambda row: row[:2])
        measured = [row for row in measured if row[0] > begin]
        for end, worker, part, given in over:
            split.report(worker, part, given, end)
        can = np.ones((len(work), len(NAMES)), bool) if allowed is None else allowed(number, work)
        chosen = split.assign(work, can)
        assert can[np.arange(len(work)), chosen].all()
        parts = [work[chosen == worker] for worker in range(len(NAMES))]
        works = np.array([part.sum() for part in parts])
        start = np.where(decoders.apart, begin, np.maximum(free, begin))
        ends = np.where(works > 0, start + decoders.seconds(number, parts), free)
        free = ends
        measured += [
            (float(ends[worker]), int(worker), parts[worker], float(begin))
            for worker in np.flatnonzero(works)
        ]
        done.append(max([begin, *done[-1:], *ends[works > 0]]))
        shares.append(works / works.sum())
    return np.array(done), np.array(shares)


def throughput(done, batches, first=SETTLED, last=None):
    """Work in a second from one batch to another."""
    last = len(batches) - 1 if last is None else last
    return sum(work.sum() for work in batches[first + 1 : last + 1]) / (done[last] - done[first])


def batches_of(size, count=60, seed=1):
    """Images whose work differs as that of photographs does."""
    random = np.random.default_rng(seed)
    return [random.lognormal(0, 0.6, size) / size for _ in range(count)]


def equal_start():
    return WorkSplit(dict.fromkeys(NAMES, 1.0))


@pytest.mark.parametrize("size", [8, 64, 256])
@pytest.mark.parametrize("noise", [0, 0.1])
@pytest.mark.parametrize(
    "rates", [(14, 6, 2), (2, 6, 14), (5, 5, 5), (30, 1, 1), (10, 0.01, 3)], ids=str
)
def test_all_that_the_decoders_can_do_together_is_reached(rates, noise, size):
    batches = batches_of(size)
    done, shares = run(equal_start(), Decoders(rates, noise=noise), batches)
    assert throughput(done, batches) > 0.95 * sum(rates)
    moves = np.abs(np.diff(shares[SETTLED:].cumsum(axis=0) / np.arange(1, 41)[:, None], axis=0))
    assert moves[8:].max() < 0.02  # no swinging around the best split


@pytest.mark.parametrize("call", [0, 0.005, 0.02])
@pytest.mark.parametrize("cores", [0, 0.5, 2])
@pytest.mark.parametrize("rates", [(14, 6, 2), (4, 6, 10)], ids=str)
def test_it_is_as_good_as_the_best_fixed_split(rates, cores, call):
    batches = batches_of(16, 50)
    ways = [(a / 10, b / 10, (10 - a - b) / 10) for a in range(11) for b in range(11 - a)]
    best = max(
        throughput(run(Fixed(*way), Decoders(rates, call=call, cores=cores), batches)[0], batches)
        for way in ways
    )
    done, _ = run(equal_start(), Decoders(rates, call=call, cores=cores), batches)
    assert throughput(done, batches) > 0.95 * best


SLOTS, APART = (7, 8, 8), ("gpu", "cpu")


def with_slots():
    slots = dict(zip(NAMES, SLOTS, strict=True))
    return WorkSplit(dict.fromkeys(NAMES, 1.0), slots=slots, apart=APART)


@pytest.mark.parametrize("noise", [0, 0.1])
@pytest.mark.parametrize("size", [32, 64, 256])
@pytest.mark.parametrize("rates", [(30, 11, 16), (5, 11, 16), (30, 1, 16)], ids=str)
def test_decoders_of_several_threads_are_used_as_well_as_by_the_best_fixed_split(
    rates, size, noise
):
    batches = batches_of(size, 50)
    options = {"noise": noise, "slots": SLOTS, "apart": APART}
    ways = [(a / 8, b / 8, (8 - a - b) / 8) for a in range(9) for b in range(9 - a)]
    best = max(
        throughput(run(Fixed(*way), Decoders(rates, **options), batches)[0], batches)
        for way in ways
    )
    done, _ = run(with_slots(), Decoders(rates, **options), batches)
    assert throughput(done, batches) > 0.95 * best


def test_rates_are_those_of_all_slots_together():
    split = with_slots()
    split.report(1, np.ones(16), 0.0, 2.0)  # two images in each of eight slots
    split.report(1, np.ones(8), 1.0, 2.0)  # in slots of their own
    assert split.rates == {"engines": 0.0, "gpu": pytest.approx(8.0), "cpu": 0.0}


def test_images_that_the_engines_cannot_decode_move_the_rest_to_them():
    batches = batches_of(64)

    def allowed(number, work):
        can = np.ones((len(work), len(NAMES)), bool)
        can[: len(work) // 2, 0] = not 30 <= number < 45  # a burst of progressive JPEGs
        return can

    rates = 6, 6, 2
    done, _ = run(equal_start(), Decoders(rates), batches, allowed)
    assert throughput(done, batches, 33, 43) > 0.95 * sum(rates)
    assert throughput(done, batches, 48) > 0.95 * sum(rates)


def test_a_decoder_that_slows_down_gets_less_and_then_more_again():
    batches = batches_of(64, 120)

    def rates(number):
        return (14, 6, 2) if not 30 <= number < 70 else (1, 6, 2)

    done, _ = run(equal_start(), Decoders(rates), batches)
    assert throughput(done, batches, 50, 68) > 0.95 * 9
    assert throughput(done, batches, 95) > 0.95 * 22


def test_a_decoder_that_got_nothing_is_tried_again_with_a_small_image():
    batches = batches_of(4, 1200)
    done, shares = run(equal_start(), Decoders((10, 10, 0.2)), batches)
    tries = np.flatnonzero(shares[SETTLED:, 2])
    assert len(tries) > 2
    assert np.diff(tries).min() >= 32
    assert throughput(done, batches) > 0.95 * 20

    def rates(number):
        return (10, 10, 0.5 if number < 60 else 10)

    batches = batches_of(64, 200)
    done, _ = run(equal_start(), Decoders(rates), batches)
    assert throughput(done, batches, 150) > 0.95 * 30


@pytest.mark.parametrize("part", [0.0, 0.25, 0.6, 1.0])
def test_a_pinned_part_is_kept_and_the_others_share_the_rest(part):
    split = WorkSplit(dict.fromkeys(NAMES, 1.0), {"engines": part})
    _, shares = run(split, Decoders((9, 6, 2)), batches_of(32))
    mean = shares[SETTLED:].mean(axis=0)
    assert mean[0] == pytest.approx(part, abs=0.005)
    if part < 1:
        assert mean[1] / mean[2] == pytest.approx(3, rel=0.1)
    assert split.shares["engines"] == pytest.approx(part, abs=0.05)


def test_a_pinned_part_is_one_of_what_the_decoder_can_do():
    split = WorkSplit({"engines": 1.0, "cpu": 1.0}, {"engines": 0.5})
    photographs, drawings = [[True, True]] * 8, [[False, True]] * 8
    counts = [
        int((split.assign(np.ones(len(can)), np.array(can)) == 0).sum())
        for can in (photographs, drawings, photographs + drawings, photographs)
    ]
    assert counts == [4, 0, 4, 4]


def test_shares_are_parts_of_one_whole_when_a_decoder_gets_its_first_image():
    split = WorkSplit({"engines": 1.0, "cpu": 1.0})
    split.assign(np.ones(4), np.array([[True, False]] * 4))
    split.assign(np.ones(4), np.array([[False, True]] * 4))
    assert split.shares == pytest.approx({"engines": 0.9, "cpu": 0.1})


def test_images_that_only_the_pinned_decoder_takes_go_to_it():
    split = WorkSplit({"engines": 1.0, "cpu": 1.0}, {"engines": 0.0})
    allowed = np.array([[True, False], [True, True], [False, True], [False, False]])
    assert split.assign(np.ones(4), allowed).tolist() == [0, 1, 1, -1]


def test_a_batch_of_nothing_changes_nothing():
    split = equal_start()
    assert split.assign(np.zeros(0), np.zeros((0, 3), bool)).tolist() == []
    assert split.assign(np.ones(2), np.zeros((2, 3), bool)).tolist() == [-1, -1]
    assert split.shares == dict.fromkeys(NAMES, 0.0)


def test_images_without_work_have_a_decoder_too():
    chosen = equal_start().assign(np.zeros(3), np.ones((3, 3), bool))
    assert (chosen >= 0).all()


def test_what_is_expected_of_a_worker_keeps_its_ratio_to_what_is_measured_of_others():
    split = WorkSplit({"engines": 3.0, "cpu": 1.0})
    split.report(1, np.array([1e6]), 0.0, 0.5)
    chosen = split.assign(np.ones(40), np.ones((40, 2), bool))
    assert np.bincount(chosen).tolist() == [30, 10]


def test_calls_that_overlap_count_once():
    split = equal_start()
    split.report(0, np.array([4.0, 6.0]), 0.0, 2.0)
    split.report(0, np.array([10.0]), 1.0, 4.0)  # given while the one before was at work
    npt.assert_allclose(list(split.rates.values()), [20 / 4, 0, 0])
