"""Frameworks over the loader's batches: what they compute, late, is of the batch they were given.

A consumer queues slow work before it reads a batch, and drops the batch at once. If the loader then
used its memory again too early, the sums would be those of later batches.
"""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest

import gpuio
from gpuio.devices import visible_gpus

SLOW = 1024  # rows of matrices, a few milliseconds for a chain of their products
CHAIN = 8


def make(rec, scale, device=None):
    return gpuio.ImageRecordIter(
        rec,
        scale.shape,
        scale.batch_size,
        device=device or scale.device,
        dtype="uint8",
        deterministic=True,
    )


@pytest.fixture(scope="module")
def expected(rec, scale):
    """Sums of the images of each batch, read with nothing else to do."""
    with make(rec, scale) as loader:
        batches = [batch.data[0].asnumpy() for batch in loader]
    sums = [batch.reshape(len(batch), -1).sum(axis=1, dtype=np.int64) for batch in batches]
    assert len({*np.concatenate(sums).tolist()}) > scale.images // 2  # they tell batches apart
    return sums


def epochs(scale):
    return range(20 if scale.real else 2)


def check(found, expected):
    """Sums of the batches of several epochs."""
    assert len(found) % len(expected) == 0 < len(found)
    wrong = [k for k, sums in enumerate(found) if (sums != expected[k % len(expected)]).any()]
    assert not wrong, f"{len(wrong)} of {len(found)} batches, the first is {wrong[0]}"


class Torch:
    """PyTorch where the loader's arrays are: on the GPU, or on the host for the simulated one."""

    def __init__(self, scale):
        self.torch = pytest.importorskip("torch")
        self.real, self.device = scale.real, scale.device if scale.real else "cpu"
        self.matrix = self.torch.randn(SLOW if self.real else 2, 2048, device=self.device)

    def stream(self):
        """A stream of its own as the current one."""
        return self.torch.cuda.stream(self.torch.cuda.Stream()) if self.real else nullcontext()

    def late_sums(self, images):
        """Sums of images that are read after slow work."""
        product = self.matrix
        for _ in range(CHAIN if self.real else 1):
            product = product @ self.matrix.T @ self.matrix
        return images.flatten(1).sum(1, dtype=self.torch.int64)

    def capture(self, function):
        """What runs `function` again, as a CUDA graph that is captured beside loader threads."""
        if not self.real:
            return function
        graph = self.torch.cuda.CUDAGraph()
        with self.torch.cuda.graph(graph, capture_error_mode="thread_local"):
            result = function()

        def replay():
            graph.replay()
            return result.clone()

        return replay


@pytest.mark.parametrize("own_stream", [False, True], ids=["current stream", "side stream"])
def test_torch_reads_the_batch_it_was_given(rec, scale, expected, own_stream):
    torch = Torch(scale)
    found = []
    with make(rec, scale) as source, torch.stream() if own_stream else nullcontext():
        loader = source.torch()
        for _ in epochs(scale):
            for images, _ in loader:
                found.append(torch.late_sums(images))
                del images
        check([sums.cpu().numpy() for sums in found], expected)


def test_a_graph_is_captured_and_run_beside_the_loaders_threads(rec, scale, expected):
    torch = Torch(scale)
    shape = (scale.batch_size, *scale.shape)
    images = torch.torch.zeros(shape, dtype=torch.torch.uint8, device=torch.device)
    labels = torch.torch.zeros(scale.batch_size, dtype=torch.torch.int64, device=torch.device)
    found = []
    with make(rec, scale) as source, torch.stream():
        loader = source.torch(out=(images, labels))
        torch.late_sums(images)  # libraries start outside of a capture
        for _ in epochs(scale):
            batches = iter(loader)
            next(batches)  # from now on, threads of the loader are at work
            run = torch.capture(lambda: torch.late_sums(images))
            found.append(run())
            found += [run() for _ in batches]
        check([sums.cpu().numpy() for sums in found], expected)


def test_jax_reads_the_batch_it_was_given(rec, scale, expected):
    jax = pytest.importorskip("jax")
    device = jax.devices("gpu" if scale.real else "cpu")[0]
    matrix = jax.device_put(np.full((SLOW if scale.real else 2, 2048), 1e-3, np.float32), device)

    @jax.jit
    def late_sums(images, matrix):
        product = matrix
        for _ in range(CHAIN if scale.real else 1):
            product = product @ matrix.T @ matrix
        nothing = (product.sum() * 0).astype(np.uint8)  # the images are read after the products
        return (images + nothing).reshape(len(images), -1).sum(axis=1, dtype=np.int32)

    found = []
    with make(rec, scale) as source:
        loader = source.jax()
        for _ in epochs(scale):
            for images, _ in loader:
                assert images.devices() == {device}
                found.append(late_sums(images, matrix))
                del images
        check([np.asarray(sums) for sums in found], expected)


def test_a_loader_of_a_second_gpu_leaves_the_current_one(rec, scale, expected):
    torch = Torch(scale)
    if scale.real and visible_gpus() < 2:
        pytest.skip("there is one GPU")
    second = "cuda:1" if scale.real else scale.device
    found = []
    with make(rec, scale, second) as source:
        for images, _ in source.torch():
            found.append(images.flatten(1).sum(1, dtype=torch.torch.int64).cpu().numpy())
            if scale.real:
                assert str(images.device) == second
                assert torch.torch.cuda.current_device() == 0
    check(found, expected)
