"""Train a small residual network with PyTorch, in one or many processes, and resume it.

    python examples/train_torch.py train.rec --checkpoint run.pt
    torchrun --nproc-per-node=2 examples/train_torch.py train.rec --checkpoint run.pt

Run the same command again after a stop or a kill: it resumes from the checkpoint with the very next
batch. Needs `pip install 'gpuio[cpu]' torch`; with `--device cuda`, a GPU for each process.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from pathlib import Path
from typing import Any

import torch
from small_resnet import SmallResNet
from torch import distributed
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

import gpuio


def main() -> int:
    """Train; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rec", metavar="REC", help="images, with their class as label")
    parser.add_argument("--classes", type=int, default=1000, help="(default: 1000)")
    parser.add_argument("--side", type=int, default=128, help="of the square images (default: 128)")
    parser.add_argument("--batch-size", type=int, default=64, help="per process (default: 64)")
    parser.add_argument("--epochs", type=int, default=10, help="(default: 10)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    parser.add_argument("--checkpoint", type=Path, help="file to save to and to resume from")
    parser.add_argument("--every", type=int, default=100, help="steps between saves (default: 100)")
    args = parser.parse_args()

    device = torch.device(args.device)
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    if "RANK" in os.environ:  # torchrun has started this
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    first = int(os.environ.get("RANK", "0")) == 0

    torch.manual_seed(0)
    model = SmallResNet(args.classes).to(device, memory_format=torch.channels_last)
    net = DistributedDataParallel(model) if distributed.is_initialized() else model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
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
        device=str(device),
        **dict(zip(("mean_r", "mean_g", "mean_b"), (123.68, 116.28, 103.53), strict=True)),
        **dict(zip(("std_r", "std_g", "std_b"), (58.4, 57.12, 57.38), strict=True)),
    ).torch(channels_last=True)

    parts = {"model": model, "optimizer": optimizer, "loader": loader}
    step = load(args.checkpoint, parts, device) if args.checkpoint else 0
    for epoch in range(loader.epoch, args.epochs):
        for images, labels in loader:
            loss = cross_entropy(net(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            if args.checkpoint and first and step % args.every == 0:
                save(args.checkpoint, parts, step)
        if first:
            print(f"epoch {epoch}: step {step}, loss {loss.item():.4f}", flush=True)
    if first:
        print(f"weights {digest(model)}")
    loader.close()
    if distributed.is_initialized():
        distributed.destroy_process_group()
    return 0


def save(path: Path, parts: dict[str, Any], step: int) -> None:
    """Replace the checkpoint in one step, so that a kill leaves the old one or the new one."""
    fresh = path.with_suffix(".new")
    torch.save({"step": step} | {name: part.state_dict() for name, part in parts.items()}, fresh)
    fresh.replace(path)


def load(path: Path, parts: dict[str, Any], device: torch.device) -> int:
    """Load the checkpoint, if there is one; the number of steps made."""
    if not path.exists():
        return 0
    state = torch.load(path, map_location=device, weights_only=True)
    for name, part in parts.items():
        part.load_state_dict(state[name])
    return int(state["step"])


def digest(model: torch.nn.Module) -> str:
    """A short hash of the weights."""
    found = hashlib.sha256()
    for value in model.state_dict().values():
        found.update(value.cpu().contiguous().numpy().tobytes())
    return found.hexdigest()[:16]


if __name__ == "__main__":
    sys.exit(main())
