"""Train a small convolutional network with JAX, over all devices of one or many processes.

    python examples/train_jax.py train.rec

Each process loads its part of the data, and its batches are its part of an array over all devices.
Add `--distributed` in processes that Slurm, Open MPI or a TPU runtime started. Needs `pip
install 'gpuio[cpu]' jax`; with `--device cuda`, the GPUs of the machine.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

import gpuio

WIDTHS = 3, 16, 32, 64


def main() -> int:
    """Train; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rec", metavar="REC", help="images, with their class as label")
    parser.add_argument("--classes", type=int, default=1000, help="(default: 1000)")
    parser.add_argument("--side", type=int, default=128, help="of the square images (default: 128)")
    parser.add_argument("--batch-size", type=int, default=64, help="per process (default: 64)")
    parser.add_argument("--epochs", type=int, default=10, help="(default: 10)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    parser.add_argument("--distributed", action="store_true", help="join the other processes")
    args = parser.parse_args()
    if args.distributed:
        jax.distributed.initialize()
    mesh = jax.make_mesh((jax.device_count(),), ("data",))
    loader = gpuio.ImageRecordIter(
        args.rec,
        (3, args.side, args.side),
        args.batch_size,
        shuffle=True,
        random_resized_crop=True,
        min_random_area=0.3,
        rand_mirror=True,
        layout="NHWC",
        num_parts="auto",
        device=args.device,
        **dict(zip(("mean_r", "mean_g", "mean_b"), (123.68, 116.28, 103.53), strict=True)),
        **dict(zip(("std_r", "std_g", "std_b"), (58.4, 57.12, 57.38), strict=True)),
    ).jax(sharding=mesh)
    everywhere = NamedSharding(mesh, PartitionSpec())
    weights = jax.device_put(first_weights(args.classes), everywhere)
    for epoch in range(args.epochs):
        for images, labels in loader:
            weights, loss = train(weights, images, labels)
        if jax.process_index() == 0:
            print(f"epoch {epoch}: loss {float(loss):.4f}, on {jax.device_count()} devices")
    loader.close()
    return 0


def first_weights(classes: int) -> list[Any]:
    """Kernels of the convolutions, and the last matrix."""
    keys = jax.random.split(jax.random.key(0), len(WIDTHS))
    he = jax.nn.initializers.he_normal()
    pairs = zip(keys, pairwise(WIDTHS), strict=False)
    kernels = [he(key, (3, 3, *widths)) for key, widths in pairs]
    return [*kernels, he(keys[-1], (WIDTHS[-1], classes))]


def scores(weights: list[Any], images: Any) -> Any:
    """(N, H, W, 3) images to (N, classes)."""
    x = images
    for kernel in weights[:-1]:
        layout = ("NHWC", "HWIO", "NHWC")
        x = jax.lax.conv_general_dilated(x, kernel, (2, 2), "SAME", dimension_numbers=layout)
        x = jax.nn.relu(x)
    return x.mean(axis=(1, 2)) @ weights[-1]


@partial(jax.jit, donate_argnums=0)
def train(weights: list[Any], images: Any, labels: Any) -> tuple[list[Any], Any]:
    """One step of gradient descent: the weights after it, and the loss before."""

    def loss_of(weights: list[Any]) -> Any:
        likely = jax.nn.log_softmax(scores(weights, images))
        return -jnp.take_along_axis(likely, labels[:, None], axis=1).mean()

    loss, slopes = jax.value_and_grad(loss_of)(weights)
    return jax.tree.map(lambda w, slope: w - 0.05 * slope, weights, slopes), loss


if __name__ == "__main__":
    sys.exit(main())
