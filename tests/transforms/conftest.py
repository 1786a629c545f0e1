"""The stage that executes plans, without the stages before it: arrays in, a batch out."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from harness import open_device
from keyword_plans import plan_of

from gpuio.devices.cpu import CpuDevice
from gpuio.devices.ring import Ring
from gpuio.pipeline.decode.base import Decoder, DecoderOptions
from gpuio.pipeline.decode.jobs import DecodeJobs, Headers
from gpuio.pipeline.executor import Executor
from gpuio.pipeline.plan import Plan
from gpuio.pipeline.planner import PlannedBatch, Planner
from gpuio.pipeline.read.reader import RecordBatch, Samples
from gpuio.transforms.crop import Crop
from gpuio.transforms.op import BatchPlan
from gpuio.transforms.random import Draws

_GUARD = 64


class Guarded(CpuDevice):
    """Memory with guard bytes on both sides, all filled with `fill` at first."""

    def __init__(self, fill=0):
        super().__init__(2)
        self.fill = fill
        self.lent = []

    def empty(self, shape, dtype):
        nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        memory = np.full(nbytes + 2 * _GUARD, self.fill, np.uint8)
        self.lent.append(memory)
        return memory[_GUARD:-_GUARD].view(dtype).reshape(shape)

    def check(self):
        """Nothing was written beside the memory that was asked for."""
        for memory in self.lent:
            assert (memory[:_GUARD] == self.fill).all()
            assert (memory[-_GUARD:] == self.fill).all()


class Decoded(Decoder):
    """A decoder whose images are decoded already: nothing fails, and nothing is to be freed."""

    name = "none"

    def open(self, records):
        raise AssertionError("nothing is to be opened")


def ops_plan(*ops, shape, dtype="uint8"):
    """A plan of given ops, and of a crop from the middle if they do not end with one."""
    if not isinstance(ops[-1], Crop):
        ops = (*ops, Crop(shape[1:]))
    return Plan(ops, shape, dtype)


def samples_of(ids, label=(0,)):
    ids = np.asarray(ids, np.int64)
    return Samples(ids, ids, np.array([label] * len(ids), np.float32), 0)


def surrounded(image, box, poison):
    """The window `box` of an image among bytes of `poison`: the memory, pixel (0, 0), the pitch."""
    y, x, height, width = box
    channels = image.shape[2]
    memory = np.full((height + 4, (width + 5) * channels), poison, np.uint8)
    memory[2:-2, 2 * channels : (2 + width) * channels] = (
        image[y : y + height, x : x + width].reshape(height, -1)
    )  # fmt: skip
    pitch = memory.strides[0]
    return memory, memory.ctypes.data + (2 - y) * pitch + (2 - x) * channels, pitch


def run(plan, images, *, ids=None, seed=0, epoch=0, poison=0, place=surrounded, **options):
    """The batch that a plan makes of decoded images on the CPU.

    Only the windows that the plan asks for are there; all bytes around them are `poison`.

    Args:
        plan: What is done.
        images: (H, W, C) uint8 each.
        ids: Record numbers; 0, 1, 2, ... if None.
        seed: Of the augmentation.
        epoch: From 0.
        poison: A byte.
        place: Puts windows into memory.
        options: See `planned_batch`.
    """
    device = Guarded(poison)
    planned = planned_batch(plan, images, device, ids=ids, seed=seed, epoch=epoch, **options)
    jobs, keep = planned.jobs, []
    boxes = planned.batch_plan.geometry.window.tolist()
    for number, (image, box) in enumerate(zip(images, boxes, strict=True)):
        y, x, height, width = box
        assert 0 <= y < y + height <= image.shape[0]
        assert 0 <= x < x + width <= image.shape[1]
        memory, start, jobs.pitch[number] = place(image, box, poison)
        keep.append(memory)
        jobs.origin[number] = np.uint64(start % 2**64)
    made = execute(plan, planned, device)
    device.check()
    return made


def run_simulated(plan, images, **options):
    """The data of the batch that a plan makes of decoded images on the simulated device."""
    device = open_device("simulated")
    with device.scope():
        planned = planned_batch(plan, images, device, **options)
        for number, image in enumerate(images):
            planned.jobs.put(number, image)
        made = execute(plan, planned, device)
        made.ready.synchronize()
        return np.array(made.data)


def planned_batch(
    plan, images, device, *, ids=None, seed=0, epoch=0, label=(0,), overrides=None
):  # fmt: skip
    """A planned batch of decoded images, whose pixels are still to be put in their places.

    Args:
        plan: What is done.
        images: (H, W, C) uint8 each.
        device: Where they go.
        ids: Record numbers; 0, 1, 2, ... if None.
        seed: Of the augmentation.
        epoch: From 0.
        label: Labels of every image.
        overrides: Values to use instead of random ones.
    """
    decoder = Decoded(DecoderOptions(device, plan.shape[0], None))
    samples = samples_of(range(len(images)) if ids is None else ids, label)
    size = np.array([image.shape[:2] for image in images], np.int32)
    batch_plan = Planner(plan, decoder, seed=seed).plan_batch(
        samples, size, epoch=epoch, overrides=overrides
    )
    assert not batch_plan.rejected, batch_plan.rejected
    jobs = DecodeJobs(Headers(size, {}), np.zeros((len(images), 4), np.int32), plan.shape[0])
    jobs.in_scratch[:], jobs.nbytes[:] = False, 0
    count = np.zeros(len(images), np.int64)
    slot = Ring(device.empty_host, 1).acquire()
    records = RecordBatch(samples, count.astype(np.uint64), count, slot)
    return PlannedBatch(records, batch_plan, jobs)


def execute(plan, planned, device):
    """The one batch that comes of a planned one."""
    decoder = Decoded(DecoderOptions(device, plan.shape[0], None))
    executor = Executor(plan, decoder, len(planned.jobs.box), device)
    (made,) = executor([planned], Ring(device.empty_host, 1))
    return made


def planned(ops, size, *, ids=None, seed=0, epoch=0, overrides=None):
    """What ops decide about images of (N, 2) `size`, or of one size for all `ids`."""
    ids = np.arange(len(size)) if ids is None else np.asarray(ids)
    sizes = np.broadcast_to(np.asarray(size, np.int32), (len(ids), 2))
    made = BatchPlan.of(sizes, Draws(ids, seed=seed, epoch=epoch), overrides)
    for op in ops:
        op(made)
    made.finish()
    return made


@pytest.fixture(scope="session")
def stage():
    """The functions above, such as `stage.run`."""
    return SimpleNamespace(
        run=run, run_simulated=run_simulated, plan_of=plan_of, ops_plan=ops_plan, planned=planned
    )
