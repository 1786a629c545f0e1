"""Train a small residual network with Ray Train, on the workers of a cluster.

    python examples/train_ray.py train.rec run --workers 2

Ray keeps checkpoints in the folder `run`, which all workers must reach; workers that fail, and runs
that are started again, resume from the last one with the very next batch. Needs `pip install
'gpuio[cpu]' torch 'ray[train]'`; with `--device cuda`, a GPU for each worker.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import ray
import torch
from ray import train
from ray.train.torch import TorchTrainer, get_device, prepare_model
from small_resnet import SmallResNet
from torch.nn.functional import cross_entropy

import gpuio


def work(config: dict[str, Any]) -> None:
    """Train in one worker."""
    torch.manual_seed(0)
    device = get_device()
    model = SmallResNet(config["classes"])
    net = prepare_model(model)  # on the device, in step with the other workers
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    loader = gpuio.ImageRecordIter(
        config["rec"],
        (3, config["side"], config["side"]),
        config["batch_size"],
        shuffle=True,
        random_resized_crop=True,
        min_random_area=0.3,
        rand_mirror=True,
        num_parts="auto",
        device=str(device),
        **dict(zip(("mean_r", "mean_g", "mean_b"), (123.68, 116.28, 103.53), strict=True)),
        **dict(zip(("std_r", "std_g", "std_b"), (58.4, 57.12, 57.38), strict=True)),
    ).torch()
    parts = {"model": model, "optimizer": optimizer, "loader": loader}
    step = load(train.get_checkpoint(), parts, device)
    for epoch in range(loader.epoch, config["epochs"]):
        for images, labels in loader:
            loss = cross_entropy(net(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            if step % config["every"] == 0 or loader.epoch == config["epochs"]:
                report({"epoch": epoch, "step": step, "loss": loss.item()}, parts)
    loader.close()


def report(metrics: dict[str, Any], parts: dict[str, Any]) -> None:
    """Report metrics to Ray; the first worker reports a checkpoint, too."""
    if train.get_context().get_world_rank():
        train.report(metrics)
        return
    with tempfile.TemporaryDirectory() as folder:
        states = {name: part.state_dict() for name, part in parts.items()}
        torch.save({"step": metrics["step"]} | states, Path(folder) / "state.pt")
        train.report(metrics, checkpoint=train.Checkpoint.from_directory(folder))


def load(checkpoint: train.Checkpoint | None, parts: dict[str, Any], device: Any) -> int:
    """Load a checkpoint, if there is one; the number of steps made."""
    if checkpoint is None:
        return 0
    with checkpoint.as_directory() as folder:
        state = torch.load(Path(folder) / "state.pt", map_location=device, weights_only=True)
    for name, part in parts.items():
        part.load_state_dict(state[name])
    return int(state["step"])


def main() -> int:
    """Train; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rec", metavar="REC", help="images, with their class as label")
    parser.add_argument("out_dir", metavar="OUT_DIR", type=Path, help="folder of the checkpoints")
    parser.add_argument("--classes", type=int, default=1000, help="(default: 1000)")
    parser.add_argument("--side", type=int, default=128, help="of the square images (default: 128)")
    parser.add_argument("--batch-size", type=int, default=64, help="per worker (default: 64)")
    parser.add_argument("--epochs", type=int, default=10, help="(default: 10)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    parser.add_argument("--workers", type=int, default=2, help="(default: 2)")
    parser.add_argument("--every", type=int, default=100, help="steps between saves (default: 100)")
    parser.add_argument("--address", help="of a Ray cluster (default: one is started here)")
    args = parser.parse_args()
    ray.init(address=args.address)
    config = vars(args) | {"rec": str(Path(args.rec).resolve())}
    del config["out_dir"]
    trainer = TorchTrainer(
        work,
        train_loop_config=config,
        scaling_config=train.ScalingConfig(num_workers=args.workers, use_gpu=args.device == "cuda"),
        run_config=train.RunConfig(
            name="gpuio",
            storage_path=str(args.out_dir.resolve()),
            failure_config=train.FailureConfig(max_failures=3),
        ),
    )
    result = trainer.fit()
    print(f"step {result.metrics['step']}, loss {result.metrics['loss']:.4f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
