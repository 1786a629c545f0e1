"""Augmenters: callables from an image to an image, and the list of them that `ImageIter` uses.

They draw from Python's `random`, and `LightingAug` from `numpy.random`, in MXNet's order, so that
equal seeds give equal images. Jitters, lighting and normalization change floating-point images in
place and never clip; they refuse integer images with a TypeError, where MXNet 1.9.1 cuts the
factors to whole numbers.

The base classes `Resizing`, `Cropping` and `Coloring` say what an augmenter does without doing it,
so that `compiled.py` can have kernels do it.

Source: MXNet 1.9.1, python/mxnet/image/image.py.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypedDict

import numpy as np
import numpy.typing as npt

from gpuio.core.parameters import without_torch
from gpuio.core.signatures import suggest
from gpuio.mxnet import advice
from gpuio.mxnet.image.arrays import as_ndarray, by_channel, floating, image_array
from gpuio.mxnet.image.functions import (
    Box,
    center_box,
    color_normalize,
    fixed_crop,
    random_box,
    random_size_box,
    renamed_min_area,
    resize_to,
    short_size,
)
from gpuio.mxnet.ndarray import NDArray

Image = npt.NDArray[Any]

_OWN: Final = __name__.rpartition(".")[0] + "."
_MEAN = (123.68, 116.28, 103.53)
_STD = (58.395, 57.12, 57.375)
_EIGENVALUES = (55.46, 4.794, 1.148)
_EIGENVECTORS = (
    (-0.5675, 0.7192, 0.4009),
    (-0.5808, -0.0045, -0.8140),
    (-0.5836, -0.6948, 0.4203),
)
LUMA = (0.299, 0.587, 0.114)
_SAME = np.eye(3, 4)  # matrix of a `ColorMap` that keeps all colours
_GRAY = np.array([[*LUMA, 0]] * 3)  # matrix of one that gives all channels the luma
_YIQ = ((0.299, 0.587, 0.114), (0.596, -0.274, -0.321), (0.211, -0.523, 0.311))
_RGB = ((1.0, 0.956, 0.621), (1.0, -0.272, -0.647), (1.0, -1.107, 1.705))


class Described:
    """Base of augmenters, which can tell what they were made with.

    Args:
        **kwargs: The arguments that `dumps` tells; arrays are kept as lists.
    """

    def __init__(self, **kwargs: Any) -> None:
        self._kwargs = {
            name: value.tolist() if isinstance(value, np.ndarray) else value
            for name, value in kwargs.items()
        }

    def dumps(self) -> Any:
        """JSON text of a list: the name of the class in lower case, and its arguments."""
        return json.dumps([type(self).__name__.lower(), self._kwargs])


class Augmenter(Described):
    """Base of augmenters of images."""

    def __call__(self, src: Image) -> Image:
        """The augmented image."""
        raise NotImplementedError(f"{type(self).__name__} must define __call__(self, src)")


class SequentialAug(Augmenter):
    """All of `ts`, in order."""

    def __init__(self, ts: list[Augmenter]) -> None:
        super().__init__()
        self.ts = ts

    def dumps(self) -> list[Any]:
        """A list: the name of the class in lower case, and the `dumps` of `ts`."""
        return [type(self).__name__.lower(), [aug.dumps() for aug in self.ts]]

    def __call__(self, src: Image) -> Image:
        for aug in self.ts:
            src = aug(src)
        return src


class RandomOrderAug(SequentialAug):
    """All of `ts`, in random order: as in MXNet, the list itself is shuffled."""

    def __call__(self, src: Image) -> Image:
        random.shuffle(self.ts)
        return super().__call__(src)


class _Sized(Augmenter):
    """Base of augmenters that resize to `size` by the interpolation `interp`."""

    def __init__(self, size: Any, interp: int = 2) -> None:
        super().__init__(size=size, interp=interp)
        self.size = size
        self.interp = interp


class Resizing(_Sized):
    """Base of augmenters that resize whole images."""

    def target(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the result for an image of a height and width, in pixels."""
        raise NotImplementedError

    def __call__(self, src: Image) -> NDArray:
        height, width, _ = src.shape
        return resize_to(src, *self.target(height, width), self.interp)


class ResizeAug(Resizing):
    """Resize the shorter side to `size` pixels."""

    def target(self, height: int, width: int) -> tuple[int, int]:
        return short_size(height, width, self.size)


class ForceResizeAug(Resizing):
    """Resize to `size`, (width, height), whatever the aspect ratio."""

    def target(self, height: int, width: int) -> tuple[int, int]:
        width, height = self.size
        return height, width


class Cropping(_Sized):
    """Base of augmenters that crop a window and resize it to `size`, (width, height)."""

    def box(self, height: int, width: int) -> Box:
        """The window (x0, y0, width, height) in an image of a height and width, in pixels."""
        raise NotImplementedError

    def __call__(self, src: Image) -> NDArray:
        height, width, _ = src.shape
        return fixed_crop(src, *self.box(height, width), self.size, self.interp)


class RandomCropAug(Cropping):
    """`random_crop` to `size`, (width, height)."""

    def box(self, height: int, width: int) -> Box:
        return random_box(height, width, self.size)


class CenterCropAug(Cropping):
    """`center_crop` to `size`, (width, height)."""

    def box(self, height: int, width: int) -> Box:
        return center_box(height, width, self.size)


class RandomSizedCropAug(Cropping):
    """`random_size_crop` to `size`, (width, height); `min_area` is the former name of `area`."""

    @suggest
    def __init__(
        self,
        size: Sequence[int],
        area: float | Sequence[float],
        ratio: Sequence[float],
        interp: int = 2,
        *,
        min_area: float | None = None,
    ) -> None:
        Augmenter.__init__(self, size=size, area=area, ratio=ratio, interp=interp)
        self.size, self.interp = size, interp
        self.area = renamed_min_area(area, min_area)
        self.ratio = ratio

    def box(self, height: int, width: int) -> Box:
        return random_size_box(height, width, self.size, self.area, self.ratio)


class ColorMap(NamedTuple):
    """A map of the colours of an image.

    Attributes:
        matrix: (3, 4) float64 that maps (R, G, B, 1).
        luma: Factor of the image's mean luma, which is then added to each channel.
    """

    matrix: npt.NDArray[np.float64]
    luma: float = 0.0


class Coloring(Augmenter):
    """Base of augmenters that change colours, each pixel by itself."""

    def draw_map(self) -> ColorMap:
        """Draw the map of the next image."""
        raise NotImplementedError


def _factor(most: float) -> float:
    """A factor from 1 - `most` to 1 + `most`."""
    return 1.0 + random.uniform(-most, most)


def _mix(matrix: npt.ArrayLike, shift: npt.ArrayLike = 0.0) -> ColorMap:
    """The map that multiplies colours by a (3, 3) `matrix` and adds a (3,) `shift`."""
    columns = np.empty((3, 4))
    columns[:, :3], columns[:, 3] = matrix, shift
    return ColorMap(columns)


class BrightnessJitterAug(Coloring):
    """Multiply by 1 - `brightness` to 1 + `brightness`."""

    def __init__(self, brightness: float) -> None:
        super().__init__(brightness=brightness)
        self.brightness = brightness

    def draw_map(self) -> ColorMap:
        return ColorMap(_SAME * _factor(self.brightness))

    def __call__(self, src: Image) -> Image:
        image = floating(src)
        image *= _factor(self.brightness)
        return image


class ContrastJitterAug(Coloring):
    """Multiply the distance from the mean luma by 1 - `contrast` to 1 + `contrast`."""

    def __init__(self, contrast: float) -> None:
        super().__init__(contrast=contrast)
        self.contrast = contrast
        self.coef = _table([[LUMA]])

    def draw_map(self) -> ColorMap:
        alpha = _factor(self.contrast)
        return ColorMap(_SAME * alpha, 1.0 - alpha)

    def __call__(self, src: Image) -> Image:
        image = floating(src)
        alpha = _factor(self.contrast)
        luma = float(_luma(image).mean(dtype=np.float64))
        image *= alpha
        image += (1.0 - alpha) * luma
        return image


class SaturationJitterAug(Coloring):
    """Multiply the distance from the luma by 1 - `saturation` to 1 + `saturation`."""

    def __init__(self, saturation: float) -> None:
        super().__init__(saturation=saturation)
        self.saturation = saturation
        self.coef = _table([[LUMA]])

    def draw_map(self) -> ColorMap:
        alpha = _factor(self.saturation)
        return ColorMap(_SAME * alpha + _GRAY * (1.0 - alpha))

    def __call__(self, src: Image) -> Image:
        image = floating(src)
        alpha = _factor(self.saturation)
        luma = _luma(image)
        luma *= 1.0 - alpha
        image *= alpha
        for channel in range(image.shape[2]):  # twice as fast as all at once
            image[..., channel] += luma
        return image


class HueJitterAug(Coloring):
    """Rotate the colours by -`hue` to `hue` half turns, in YIQ.

    Source: https://beesbuzz.biz/code/hsv_color_transforms.php, as MXNet gives it.
    """

    def __init__(self, hue: float) -> None:
        super().__init__(hue=hue)
        self.hue = hue
        self.tyiq = np.array(_YIQ)
        self.ityiq = np.array(_RGB)

    def draw_map(self) -> ColorMap:
        return _mix(self._draw())

    def __call__(self, src: Image) -> NDArray:
        return _multiplied(floating(src), self._draw().T)

    def _draw(self) -> npt.NDArray[np.float64]:
        """(3, 3) that maps (R, G, B) to the rotated colour, for the next image."""
        angle = random.uniform(-self.hue, self.hue) * math.pi
        u, v = math.cos(angle), math.sin(angle)
        turn = np.array([[1, 0, 0], [0, u, -v], [0, v, u]])
        product: npt.NDArray[np.float64] = self.ityiq @ turn @ self.tyiq
        return product


class ColorJitterAug(RandomOrderAug):
    """Jitter of brightness, contrast and saturation in random order, without those that are 0."""

    def __init__(self, brightness: float, contrast: float, saturation: float) -> None:
        jitters = (
            (BrightnessJitterAug, brightness),
            (ContrastJitterAug, contrast),
            (SaturationJitterAug, saturation),
        )
        super().__init__([kind(most) for kind, most in jitters if most > 0])


class LightingAug(Coloring):
    """Add to all pixels a colour drawn along the principal axes of the colours of a set of images.

    Args:
        alphastd: Standard deviation of the three values that are drawn.
        eigval: (3,) eigenvalues.
        eigvec: (3, 3) eigenvectors.

    Source: Krizhevsky et al., ImageNet classification with deep convolutional neural networks
    (2012), section 4.1.
    """

    def __init__(self, alphastd: float, eigval: Any, eigvec: Any) -> None:
        super().__init__(alphastd=alphastd, eigval=eigval, eigvec=eigvec)
        self.alphastd = alphastd
        self.eigval = eigval
        self.eigvec = eigvec

    def __call__(self, src: Image) -> Image:
        image = floating(src)
        by_channel(np.add, image, self.draw())
        return image

    def draw_map(self) -> ColorMap:
        return _mix(np.eye(3), self.draw())

    def draw(self) -> npt.NDArray[np.float64]:
        """(3,) float64, what is added to red, green and blue of the next image."""
        alpha = np.random.normal(0, self.alphastd, size=(3,))  # noqa: NPY002  as MXNet draws
        shift: npt.NDArray[np.float64] = (np.asarray(self.eigvec) * alpha) @ np.asarray(self.eigval)
        return shift


class ColorNormalizeAug(Coloring):
    """`color_normalize` by `mean` and `std`; either may be None."""

    def __init__(self, mean: Any, std: Any) -> None:
        super().__init__(mean=mean, std=std)
        self.mean = None if mean is None else _table(mean)
        self.std = None if std is None else _table(std)

    def statistics(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """(3,) mean and (3,) standard deviation; 0 and 1 where there is none."""
        mean, std = np.zeros(3), np.ones(3)
        mean[:] = 0 if self.mean is None else self.mean
        std[:] = 1 if self.std is None else self.std
        return mean, std

    def draw_map(self) -> ColorMap:
        mean, std = self.statistics()
        matrix = _SAME / std[:, None]
        matrix[:, 3] = -mean / std
        return ColorMap(matrix)

    def __call__(self, src: Image) -> NDArray:
        return color_normalize(src, self.mean, self.std)


class RandomGrayAug(Coloring):
    """Make an image gray, in three equal channels, with probability `p`."""

    def __init__(self, p: float) -> None:
        super().__init__(p=p)
        self.p = p
        self.mat = _table([[0.21] * 3, [0.72] * 3, [0.07] * 3])

    def draw_map(self) -> ColorMap:
        return _mix(np.asarray(self.mat).T) if random.random() < self.p else ColorMap(_SAME)

    def __call__(self, src: Image) -> Image:
        if random.random() < self.p:
            return _multiplied(floating(src), self.mat)
        return src


class HorizontalFlipAug(Augmenter):
    """Mirror left to right with probability `p`."""

    def __init__(self, p: float) -> None:
        super().__init__(p=p)
        self.p = p

    def __call__(self, src: Image) -> Image:
        return mirrored(src) if random.random() < self.p else src


class CastAug(Augmenter):
    """Convert to the dtype `typ`."""

    def __init__(self, typ: npt.DTypeLike = "float32") -> None:
        typ = without_torch(typ)
        super().__init__(type=typ)
        self.typ = typ

    def __call__(self, src: Image) -> NDArray:
        return np.asarray(src).astype(self.typ).view(NDArray)


class SharedOptions(TypedDict, total=False):
    """The keywords that `CreateAugmenter` and `CreateDetAugmenter` share."""

    resize: int
    rand_mirror: bool
    mean: Any
    std: Any
    brightness: float
    contrast: float
    saturation: float
    hue: float
    pca_noise: float
    rand_gray: float
    inter_method: int


class AugmenterOptions(SharedOptions, total=False):
    """The keywords of `CreateAugmenter`."""

    rand_crop: bool
    rand_resize: bool


@suggest
def CreateAugmenter(  # noqa: PLR0913, PLR0917  MXNet's signature
    data_shape: Sequence[int],
    resize: int = 0,
    rand_crop: bool = False,
    rand_resize: bool = False,
    rand_mirror: bool = False,
    mean: Any = None,
    std: Any = None,
    brightness: float = 0,
    contrast: float = 0,
    saturation: float = 0,
    hue: float = 0,
    pca_noise: float = 0,
    rand_gray: float = 0,
    inter_method: int = 2,
) -> list[Augmenter]:
    """The augmenters of an `ImageIter`.

    In this order: resize, crop, mirror, cast to float32, brightness, contrast and saturation in
    random order, hue, lighting, gray, normalize.

    Args:
        data_shape: Channels, height, width of the result.
        resize: Length of the shorter side, in pixels; 0 keeps the size.
        rand_crop: Crop at a random place instead of the centre.
        rand_resize: Crop 8 to 100 % of the area at an aspect ratio of 3/4 to 4/3; needs
            `rand_crop`.
        rand_mirror: Mirror every image with probability 0.5.
        mean: (3,) or (1,) array to subtract; True for ImageNet's mean.
        std: (3,) or (1,) array to divide by; True for ImageNet's standard deviation.
        brightness: Largest change of the brightness, as a fraction.
        contrast: Largest change of the contrast, as a fraction.
        saturation: Largest change of the saturation, as a fraction.
        hue: Largest rotation of the hue, in half turns.
        pca_noise: Standard deviation of the lighting.
        rand_gray: Probability of gray.
        inter_method: How to resize: 0 nearest, 1 bilinear, 2 cubic, 3 area, 4 Lanczos, 9 by size,
            10 random.
    """
    augs: list[Augmenter] = []
    if resize > 0:
        augs.append(ResizeAug(resize, inter_method))
    size = (data_shape[2], data_shape[1])
    if rand_resize:
        assert rand_crop, "rand_resize needs rand_crop"
        augs.append(RandomSizedCropAug(size, 0.08, (3 / 4, 4 / 3), inter_method))
    else:
        augs.append((RandomCropAug if rand_crop else CenterCropAug)(size, inter_method))
    if rand_mirror:
        augs.append(HorizontalFlipAug(0.5))
    augs += color_augmenters(brightness, contrast, saturation, hue, pca_noise, rand_gray)
    # As float32, so that `dumps` tells the digits that MXNet's does.
    mean, std = (
        value if value is None else np.asarray(value, np.float32) for value in statistics(mean, std)
    )
    if mean is not None or std is not None:
        augs.append(ColorNormalizeAug(mean, std))
    return augs


def color_augmenters(
    brightness: float,
    contrast: float,
    saturation: float,
    hue: float,
    pca_noise: float,
    rand_gray: float,
) -> list[Augmenter]:
    """The cast to float32, and the augmenters that change colours at random."""
    augs: list[Augmenter] = [CastAug()]
    if brightness or contrast or saturation:
        augs.append(ColorJitterAug(brightness, contrast, saturation))
    if hue:
        augs.append(HueJitterAug(hue))
    if pca_noise > 0:
        augs.append(LightingAug(pca_noise, np.array(_EIGENVALUES), np.array(_EIGENVECTORS)))
    if rand_gray > 0:
        augs.append(RandomGrayAug(rand_gray))
    return augs


def statistics(mean: Any, std: Any) -> tuple[Image | None, Image | None]:
    """Mean and standard deviation as arrays; True stands for ImageNet's, and None stays.

    Raises:
        AssertionError: One is not an array of one or three values.
    """
    found = []
    for name, value, known in (("mean", mean, _MEAN), ("std", std, _STD)):
        if value is True:
            value = np.array(known)
        elif value is not None:
            fits = isinstance(value, np.ndarray) and value.shape[:1] in ((1,), (3,))
            assert fits, f"{name} must be True or an array of 1 or 3 values, got {value!r}"
        found.append(value)
    means, stds = ([] if value is None else np.ravel(value).tolist() for value in found)
    for text in advice.about_scale(means, stds, 1, lambda kind, c: f"{kind}[{c}]"):
        advice.warn(text.replace(", or scale=1/255", ""))
    return found[0], found[1]


def make_list(
    create: Callable[..., list[Any]],
    aug_list: Iterable[Any] | None,
    data_shape: Sequence[int],
    options: Mapping[str, Any],
) -> Sequence[Any]:
    """`aug_list`, with a warning about `options` given beside it; or `create` called with these."""
    if aug_list is None:
        return create(data_shape, **options)
    advice.advise_list(options, create)
    return aug_list if isinstance(aug_list, Sequence) else list(aug_list)


def is_own(aug: Any) -> bool:
    """Whether an augmenter, and every augmenter in it, is one of this package."""
    own = isinstance(aug, Augmenter) and type(aug).__module__.startswith(_OWN)
    return own and all(map(is_own, getattr(aug, "ts", ())))


def mirrored(src: Image) -> NDArray:
    """An image with its columns reversed, as a copy."""
    image = image_array(src)
    if image.dtype == np.uint8 and image.shape[2] == 3 and image.flags.c_contiguous:
        # A pixel at a time, which is three times as fast.
        pixels = image.view("V3")[:, ::-1].copy()
        return pixels.view(np.uint8).reshape(image.shape).view(NDArray)
    return as_ndarray(image[:, ::-1])


def _table(values: Any) -> NDArray:
    """Values as a float32 array of their own."""
    return np.array(values, np.float32).view(NDArray)


def _luma(image: Image) -> Image:
    """(H, W) luma of (H, W, 3) colours."""
    return np.asarray(image) @ np.asarray(LUMA, image.dtype)


def _multiplied(image: Image, matrix: Any) -> NDArray:
    """(H, W, 3) colours times a (3, 3) matrix."""
    return (np.asarray(image) @ np.asarray(matrix, image.dtype)).view(NDArray)
