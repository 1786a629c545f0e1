"""Augmentations of colours, for pictures of three channels.

Source: MXNet 1.9.1, src/io/image_aug_default.cc; `RandomGray`: python/mxnet/image/image.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import permutations
from typing import ClassVar, Final

import numpy as np
import numpy.typing as npt

from gpuio.kernels.steps import ColorKind
from gpuio.transforms.op import BatchPlan, Changes, Op
from gpuio.transforms.random import Draw, Draws

_F32 = np.float32
_JITTERS: Final = ("brightness", "contrast", "saturation")
_KINDS: Final = np.array([ColorKind[name.upper()] for name in _JITTERS])
_ORDERS: Final = np.array(list(permutations(range(len(_JITTERS)))))
"""(6, 3) orders of the jitters, which `jitter_order` counts."""
HLS: Final = ("hue", "color_saturation", "lightness")
"""What shifts of hue, saturation and lightness are sampled as."""
# Principal components of ImageNet's RGB values, times the square roots of their variances.
# Source: Krizhevsky et al., ImageNet Classification with Deep Convolutional Neural Networks (2012).
_EIGENVALUES: Final = (55.46, 4.794, 1.148)
_EIGENVECTORS: Final = (
    (-0.5675, 0.7192, 0.4009),
    (-0.5808, -0.0045, -0.8140),
    (-0.5836, -0.6948, 0.4203),
)


@dataclass(frozen=True, slots=True)
class ColorJitter(Op):
    """Multiply brightness, contrast and saturation by random factors, in random order.

    Contrast keeps the mean gray of the picture as it is at this point.

    Oracle: MXNet 1.9.1, `brightness`, `contrast` and `saturation` of ImageRecordIter.

    Attributes:
        brightness: The factor of the brightness is 1 - brightness to 1 + brightness; at least 0.
        contrast: The factor of the contrast is 1 - contrast to 1 + contrast; at least 0.
        saturation: The factor of the saturation is 1 - saturation to 1 + saturation; at least 0.
    """

    cost: ClassVar[str] = "up to three loops over the picture"
    changes: ClassVar[Changes] = "colors"
    brightness: float = 0
    contrast: float = 0
    saturation: float = 0

    def __call__(self, batch: BatchPlan) -> None:
        count = len(_ORDERS)
        order = batch.choice(
            "jitter_order", count, lambda draws: draws.integers(Draw.JITTER_ORDER, 0, count - 1)
        )
        amounts = self.brightness, self.contrast, self.saturation
        factors = [
            batch.sample(name, partial(_factor, purpose=Draw[name.upper()], amount=amount))
            for name, amount in zip(_JITTERS, amounts, strict=True)
        ]
        for which in _ORDERS[order].T:
            factor = np.choose(which, factors)
            batch.add_color(np.where(factor == 1, ColorKind.NONE.value, _KINDS[which]), factor)


@dataclass(frozen=True, slots=True)
class HlsJitter(Op):
    """Shift hue, lightness and saturation by random whole numbers.

    A shift is -a to a, where a is the attribute. Shifts near 0 are more likely: each comes of
    (u + 4 v) / 5 of two uniform numbers.

    Oracle: MXNet 1.9.1, `random_h`, `random_s` and `random_l` of ImageRecordIter (OpenCV's HLS).

    Attributes:
        hue: Largest shift of the hue, in half degrees.
        saturation: Largest shift of the saturation, in levels.
        lightness: Largest shift of the lightness, in levels.
    """

    cost: ClassVar[str] = "a long loop over the picture"
    changes: ClassVar[Changes] = "colors"
    hue: int = 0
    saturation: int = 0
    lightness: int = 0

    def __call__(self, batch: BatchPlan) -> None:
        amounts = self.hue, self.saturation, self.lightness
        hue, saturation, lightness = (
            batch.sample(name, partial(_spread, purpose=name.upper(), amount=amount))
            for name, amount in zip(HLS, amounts, strict=True)
        )
        batch.add_color(ColorKind.HLS, hue, lightness, saturation)


@dataclass(frozen=True, slots=True)
class Lighting(Op):
    """Noise along the principal components of ImageNet's colours.

    Oracle: MXNet 1.9.1, `pca_noise` of ImageRecordIter.

    Attributes:
        std: Standard deviation of the noise along each component, in units of its own deviation.
    """

    cost: ClassVar[str] = "a loop over the picture"
    changes: ClassVar[Changes] = "colors"
    std: float

    def __call__(self, batch: BatchPlan) -> None:
        batch.add_color(ColorKind.SHIFT, *batch.sample("lighting", self._shifts).T)

    def _shifts(self, draws: Draws) -> npt.NDArray[np.float32]:
        """(N, 3) levels added to red, green and blue."""
        first = draws.normal(Draw.LIGHTING_RED, Draw.LIGHTING_GREEN)
        second = draws.normal(Draw.LIGHTING_BLUE, Draw.LIGHTING_SPARE)
        noise = np.stack([*first, second[0]], axis=1) * _F32(self.std)
        components = np.array(_EIGENVECTORS, _F32) * np.array(_EIGENVALUES, _F32)
        return noise @ components.T


@dataclass(frozen=True, slots=True)
class RandomGray(Op):
    """Make some images gray: 0.21 R + 0.72 G + 0.07 B in all channels.

    Oracle: MXNet 1.9.1, `rand_gray` of ImageRecordIter.

    Attributes:
        p: Probability for each image, in [0, 1].
    """

    cost: ClassVar[str] = "a loop over the picture for the images that become gray"
    changes: ClassVar[Changes] = "colors"
    p: float

    def __post_init__(self) -> None:
        if not 0 <= self.p <= 1:
            raise ValueError(f"rand_gray must be in [0, 1], got {self.p}")

    def __call__(self, batch: BatchPlan) -> None:
        gray = batch.sample("gray", lambda draws: draws.uniform(Draw.GRAY) < self.p)
        batch.add_color(np.where(gray, ColorKind.GRAY.value, ColorKind.NONE.value))


@dataclass(frozen=True, slots=True)
class Exposure(Op):
    """A gain and an offset for each image, applied with the normalization.

    Oracle: MXNet 1.9.1, `max_random_contrast` and `max_random_illumination` of ImageRecordIter.

    Attributes:
        contrast: The gain is 1 - contrast to 1 + contrast.
        illumination: The offset is -illumination to illumination, in levels.
    """

    cost: ClassVar[str] = "free, as a part of the normalization"
    changes: ClassVar[Changes] = "output"
    last_of: ClassVar[tuple[Changes, ...]] = ("geometry", "colors", "output")
    contrast: float = 0
    illumination: float = 0

    def __call__(self, batch: BatchPlan) -> None:
        gains = 1 - self.contrast, 1 + self.contrast
        levels = -self.illumination, self.illumination
        batch.gain[:] = batch.sample("gain", lambda draws: draws.uniform(Draw.GAIN, *gains))
        batch.offset[:] = batch.sample("offset", lambda draws: draws.uniform(Draw.OFFSET, *levels))


def _factor(draws: Draws, purpose: Draw, amount: float) -> npt.NDArray[np.float32]:
    """(N,) numbers between 1 - amount and 1 + amount."""
    return draws.uniform(purpose, 1 - amount, 1 + amount)


def _spread(draws: Draws, purpose: str, amount: int) -> npt.NDArray[np.int32]:
    """(N,) whole numbers between -amount and amount, the middle ones more often."""
    u, v = draws.uniform(Draw[purpose]), draws.uniform(Draw[f"{purpose}_SPREAD"])
    unit = (u + _F32(4) * v) / _F32(5)
    return np.trunc(unit * _F32(2 * amount) - _F32(amount)).astype(np.int32)
