"""Train a small residual network with Lightning, and resume it in mid-epoch.

    python examples/train_lightning.py train.rec run --devices 2

Checkpoints are written to the folder `run`; run it again and it resumes from the last one. Needs
`pip install 'gpuio[cpu]' torch lightning`; with `--device cuda`, as many GPUs as `--devices` says.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from small_resnet import SmallResNet
from torch.nn.functional import cross_entropy

import gpuio


class Classifier(lightning.LightningModule):
    """The network and its data.

    Args:
        classes: The number of classes.
        options: Parameters of `ImageRecordIter`.
    """

    def __init__(self, classes: int, options: dict[str, Any]) -> None:
        super().__init__()
        self.net = SmallResNet(classes)
        self.options = options

    def train_dataloader(self) -> Any:
        """Lightning calls this in each process, where `num_parts="auto"` finds its part."""
        source = gpuio.ImageRecordIter(num_parts="auto", device=str(self.device), **self.options)
        return source.torch()

    def training_step(self, batch: Any, number: int) -> torch.Tensor:
        images, labels = batch
        loss = cross_entropy(self.net(images), labels)
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)


def main() -> int:
    """Train; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rec", metavar="REC", help="images, with their class as label")
    parser.add_argument("out_dir", metavar="OUT_DIR", type=Path, help="folder of the checkpoints")
    parser.add_argument("--classes", type=int, default=1000, help="(default: 1000)")
    parser.add_argument("--side", type=int, default=128, help="of the square images (default: 128)")
    parser.add_argument("--batch-size", type=int, default=64, help="per process (default: 64)")
    parser.add_argument("--epochs", type=int, default=10, help="(default: 10)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    parser.add_argument("--devices", type=int, default=1, help="how many (default: 1)")
    parser.add_argument("--every", type=int, default=100, help="steps between saves (default: 100)")
    args = parser.parse_args()
    options = {
        "path_imgrec": args.rec,
        "data_shape": (3, args.side, args.side),
        "batch_size": args.batch_size,
        "shuffle": True,
        "random_resized_crop": True,
        "min_random_area": 0.3,
        "rand_mirror": True,
        "mean_r": 123.68, "mean_g": 116.28, "mean_b": 103.53,
        "std_r": 58.4, "std_g": 57.12, "std_b": 57.38,
    }  # fmt: skip
    lightning.seed_everything(0)
    saves = ModelCheckpoint(args.out_dir, every_n_train_steps=args.every, save_last=True)
    trainer = lightning.Trainer(
        accelerator="gpu" if args.device == "cuda" else "cpu",
        devices=args.devices,
        max_epochs=args.epochs,
        callbacks=[saves],
        default_root_dir=args.out_dir,
        logger=False,
    )
    last = args.out_dir / "last.ckpt"
    model = Classifier(args.classes, options)
    trainer.fit(model, ckpt_path=last if last.exists() else None)
    if trainer.is_global_zero:
        print(f"step {trainer.global_step}", *trainer.callback_metrics.items())
    return 0


if __name__ == "__main__":
    sys.exit(main())
