"""Work is split so that all decoders end together; these are made up, and so is their clock."""

from __future__ import annotations

import heapq
from itertools import compress

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
            loads = [0.0] * slots
            for amount in sorted(part.tolist(), reverse=True):
                heapq.heapreplace(loads, loads[0] + amount)
            longest[number] = max(loads) * slots
        longer = 1 + self.noise * self.random.standard_normal(len(parts))
        times = self.call + longest / self.rates(batch) * np.maximum(longer, 0.1)
        times[1] *= 1 + self.cores * parts[2].sum() / sum(part.sum() for part in parts)
        return np.where(longest > 0, times, 0.0)


class Fixed:
    """Always the same split."""

    def __init__(self, parts):
        self.parts, self.owed = np.array(parts), np.zeros(len(parts))

    def assign(self, work, allowed):
        chosen, amounts, can = np.zeros(len(work), int), work.tolist(), allowed.tolist()
        owed = (self.owed + self.parts * work.sum()).tolist()
        for place in np.argsort(-work).tolist():
            best = max(compress(range(len(owed)), can[place]), key=owed.__getitem__)
            chosen[place] = best
            owed[best] -= amounts[place]
        # What a decoder could not do in a burst it is not to make up for after it.
        self.owed = np.clip(owed, -work.sum(), work.sum())
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


def splits(parts, *others):
    """All fixed splits in so many parts, and others that are given by their ratios."""
    grid = [(a, b, parts - a - b) for a in range(parts + 1) for b in range(parts + 1 - a)]
    return [np.array(way) / sum(way) for way in (*grid, *others)]


def best_fixed(ways, rates, batches, *windows, allowed=None, **options):
    """Work in a second, in each window from one batch to another, by the split best for it."""
    runs = (run(Fixed(way), Decoders(rates, **options), batches, allowed)[0] for way in ways)
    return np.max([[throughput(done, batches, *each) for each in windows] for done in runs], axis=0)


def largest_move(shares):
    """How much a batch moves the mean of the shares since they are settled, after 8 of them."""
    settled = shares[SETTLED:]
    means = settled.cumsum(axis=0) / np.arange(1, len(settled) + 1)[:, None]
    return np.abs(np.diff(means, axis=0))[8:].max()


def batches_of(size, count=60, seed=1):
    """Images whose work differs as that of photographs does."""
    random = np.random.default_rng(seed)
    return [random.lognormal(0, 0.6, size) / size for _ in range(count)]


def heavy_tailed(size, count=60, seed=1):
    """Images of which one may be as much work as all others of its batch."""
    random = np.random.default_rng(seed)
    return [(random.pareto(1.5, size) + 1) / size for _ in range(count)]


def slow(rates, worker, factor, first, last):
    """Rates of which one is lower, by a factor, from one batch to before another."""

    def at(number):
        found = list(rates)
        found[worker] /= factor if first <= number < last else 1
        return found

    return at


def progressive(part, first, last):
    """What may decode which images, where a part is progressive from one batch to another."""

    def allowed(number, work):
        can = np.ones((len(work), len(NAMES)), bool)
        can[: int(len(work) * part), 0] = not first <= number < last
        return can

    return allowed


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
    assert largest_move(shares) < 0.02  # no swinging around the best split


@pytest.mark.parametrize("call", [0, 0.005, 0.02])
@pytest.mark.parametrize("cores", [0, 0.5, 2])
@pytest.mark.parametrize("rates", [(14, 6, 2), (4, 6, 10)], ids=str)
def test_it_is_as_good_as_the_best_fixed_split(rates, cores, call):
    batches, options = batches_of(16, 50), {"call": call, "cores": cores}
    best = best_fixed(splits(8), rates, batches, (SETTLED,), **options)
    done, _ = run(equal_start(), Decoders(rates, **options), batches)
    assert throughput(done, batches) > 0.95 * best


@pytest.mark.parametrize("size", [32, 128])
@pytest.mark.parametrize("rates", [(14, 6, 2), (2, 6, 14), (5, 5, 5)], ids=str)
def test_heavy_tails_are_split_as_well_as_by_the_best_fixed_split(rates, size):
    batches = heavy_tailed(size, 40)
    best = best_fixed(splits(5, rates), rates, batches, (SETTLED,), noise=0.1)
    done, _ = run(equal_start(), Decoders(rates, noise=0.1), batches)
    assert throughput(done, batches) > 0.95 * best


SLOTS, APART = (7, 8, 8), ("gpu", "cpu")
OPTIONS = {"noise": 0.1, "slots": SLOTS, "apart": APART}


def together(rates):
    """What decoders with slots do in a second while two batches are in flight."""
    return tuple(rate * (1 + (name in APART)) for rate, name in zip(rates, NAMES, strict=True))


def with_slots():
    slots = dict(zip(NAMES, SLOTS, strict=True))
    return WorkSplit(dict.fromkeys(NAMES, 1.0), slots=slots, apart=APART)


@pytest.mark.parametrize("noise", [0, 0.1])
@pytest.mark.parametrize("size", [32, 64, 256])
@pytest.mark.parametrize("rates", [(30, 11, 16), (5, 11, 16), (30, 1, 16)], ids=str)
def test_decoders_of_several_threads_are_used_as_well_as_by_the_best_fixed_split(
    rates, size, noise
):
    batches, options = batches_of(size, 40), {**OPTIONS, "noise": noise}
    best = best_fixed(splits(5, together(rates)), rates, batches, (SETTLED,), **options)
    done, shares = run(with_slots(), Decoders(rates, **options), batches)
    assert throughput(done, batches) > 0.95 * best
    assert largest_move(shares) < max(0.02, 1 / size)  # of an image, where it is more


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize(
    ("rates", "least"), [((30, 11, 16), 1.05), ((30, 1, 16), 1.05), ((5, 11, 16), 0.95)], ids=str
)
def test_heavy_tails_are_split_among_threads_better_than_by_a_fixed_split_if_engines_are_fast(
    rates, least, size, seed
):
    batches = heavy_tailed(size, 45, seed)
    best = best_fixed(splits(5, together(rates)), rates, batches, (SETTLED,), **OPTIONS)
    done, _ = run(with_slots(), Decoders(rates, **OPTIONS), batches)
    assert throughput(done, batches) > least * best


@pytest.mark.parametrize("part", [0.5, 0.8])
@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize("rates", [(30, 11, 16), (10, 11, 16), (5, 11, 16)], ids=str)
def test_threads_share_a_burst_that_the_engines_cannot_decode(rates, size, part):
    batches, windows = batches_of(size, 65), [(33, 43), (50, 64)]
    allowed = progressive(part, 30, 45)
    ways = splits(6, together(rates))
    best = best_fixed(ways, rates, batches, *windows, allowed=allowed, **OPTIONS)
    done, _ = run(with_slots(), Decoders(rates, **OPTIONS), batches, allowed)
    assert ([throughput(done, batches, *each) for each in windows] > 0.95 * best).all()


@pytest.mark.parametrize("worker", [0, 1, 2])
@pytest.mark.parametrize("rates", [(30, 11, 16), (5, 11, 16)], ids=str)
def test_threads_that_slow_down_get_less_and_then_more_again(rates, worker):
    batches, windows = batches_of(64, 110), [(50, 68), (90, 108)]
    slower = slow(rates, worker, 14, 30, 70)
    ways = splits(5, together(rates), together(slower(30)))
    best = best_fixed(ways, slower, batches, *windows, **OPTIONS)
    done, _ = run(with_slots(), Decoders(slower, **OPTIONS), batches)
    assert ([throughput(done, batches, *each) for each in windows] > 0.95 * best).all()


@pytest.mark.parametrize("last", [61, 100])
@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize(
    ("start", "options", "rates"),
    [
        (with_slots, OPTIONS, (30, 11, 16)),
        (with_slots, OPTIONS, (5, 11, 16)),
        (equal_start, {"noise": 0.1}, (14, 6, 2)),
    ],
    ids=["slots, fast engines", "slots, slow engines", "queues"],
)
def test_a_decoder_that_was_a_hundred_times_slower_gets_its_share_back(
    start, options, rates, size, last
):
    batches, back = batches_of(size, last + 70), slice(last + 50, None)
    _, usual = run(start(), Decoders(rates, **options), batches)
    for worker in range(len(NAMES)):
        slower = slow(rates, worker, 100, 60, last)
        _, shares = run(start(), Decoders(slower, **options), batches)
        assert shares[back, worker].mean() > 0.8 * usual[back, worker].mean()


def test_a_decoder_that_stays_slow_is_tried_ever_more_seldom():
    batches, slower = batches_of(64, 600), slow((30, 11, 16), 2, 100, 60, 600)
    _, shares = run(with_slots(), Decoders(slower, **OPTIONS), batches)
    gaps = np.diff(np.flatnonzero(shares[70:, 2]))
    assert gaps[0] < 40
    assert gaps[-1] > 80


def test_rates_are_those_of_all_slots_together():
    split = with_slots()
    split.report(1, np.ones(16), 0.0, 2.0)  # two images in each of eight slots
    split.report(1, np.ones(8), 1.0, 2.0)  # in slots of their own
    assert split.rates == {"engines": 0.0, "gpu": pytest.approx(8.0), "cpu": 0.0}


def test_images_that_the_engines_cannot_decode_move_the_rest_to_them():
    batches, rates = batches_of(64), (6, 6, 2)
    done, _ = run(equal_start(), Decoders(rates), batches, progressive(0.5, 30, 45))
    assert throughput(done, batches, 33, 43) > 0.95 * sum(rates)
    assert throughput(done, batches, 48) > 0.95 * sum(rates)


def test_a_decoder_that_slows_down_gets_less_and_then_more_again():
    batches = batches_of(64, 120)
    done, _ = run(equal_start(), Decoders(slow((14, 6, 2), 0, 14, 30, 70)), batches)
    assert throughput(done, batches, 50, 68) > 0.95 * 9
    assert throughput(done, batches, 95) > 0.95 * 22


def test_a_decoder_that_got_nothing_is_tried_again_with_a_small_image():
    batches = batches_of(4, 1200)
    done, shares = run(equal_start(), Decoders((10, 10, 0.2)), batches)
    tries = np.flatnonzero(shares[SETTLED:, 2])
    assert len(tries) > 2
    assert np.diff(tries).min() >= 32
    assert throughput(done, batches) > 0.95 * 20

    batches = batches_of(64, 200)
    done, _ = run(equal_start(), Decoders(slow((10, 10, 10), 2, 20, 0, 60)), batches)
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


def test_measurements_that_are_as_expected_but_for_their_unit_change_nothing():
    images = batches_of(64, 1)[0], np.ones((64, len(NAMES)), bool)
    split, unmeasured = with_slots(), with_slots()
    for each in split, unmeasured:
        each.assign(*images)
    for worker, slots in enumerate(SLOTS):
        split.report(worker, np.ones(slots), 0.0, slots / 1e6)  # 1e6 in a second instead of 1
    npt.assert_array_equal(split.assign(*images), unmeasured.assign(*images))


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
