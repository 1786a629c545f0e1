"""A small residual network, for the examples that train with PyTorch."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812  as everybody calls it


class Block(nn.Module):
    """Two convolutions, and a shortcut around them that averages before it convolves (ResNet-D).

    oneDNN 3.12, which PyTorch 2.13 uses on CPUs, writes past its memory in the backward pass of a
    strided 1 x 1 convolution of three channels_last channels, so there is none here.

    Source: He et al., "Bag of Tricks for Image Classification", CVPR 2019, figure 2 (c);
    github.com/uxlfoundation/oneDNN/issues/6035.
    """

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, out, 3, stride=2, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(out)
        self.second = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(out)
        halve = nn.AvgPool2d(2, ceil_mode=True)  # to the size that `first` gives
        self.shortcut = nn.Sequential(halve, nn.Conv2d(channels, out, 1, bias=False))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.first_norm(self.first(x)))
        return F.relu(self.second_norm(self.second(y)) + self.shortcut(x))


class SmallResNet(nn.Module):
    """(N, 3, H, W) images to (N, classes) scores."""

    def __init__(self, classes: int, width: int = 16) -> None:
        super().__init__()
        widths = [3, *(width << n for n in range(4))]
        blocks = [Block(*pair) for pair in pairwise(widths)]
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(images).mean(dim=(2, 3)))
