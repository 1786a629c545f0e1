"""Normalization: from levels to the values of the output.

Source: MXNet 1.9.1, src/io/iter_image_recordio_2.cc and iter_normalize.h.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gpuio.kernels.steps import NORM, OutputType

OUTPUTS = {output.name.lower(): output for output in OutputType}
"""Output types, by name of the dtype."""

_F32 = np.float32
_CHANNELS = 4


@dataclass(frozen=True, slots=True, eq=False)
class Normalization:
    """Levels v of red, green, blue and alpha, or gray, become `(v - mean) * scale / std`.

    Output of dtype uint8 is not normalized; int8 is only shifted, by the rounded mean.

    Oracle: MXNet 1.9.1, `mean_r`, `std_r`, `scale` and `mean_img` of ImageRecordIter.

    Attributes:
        mean: Mean of each of four channels, in levels.
        std: Standard deviation of each of four channels, in levels.
        scale: Factor of the result.
        image: (C, H, W) float32 in levels that replaces the means, or None.
    """

    mean: tuple[float, ...] = (0, 0, 0, 0)
    std: tuple[float, ...] = (1, 1, 1, 1)
    scale: float = 1
    image: npt.NDArray[np.float32] | None = None

    def table(
        self, dtype: str, gain: npt.NDArray[np.float32], offset: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.float32]:
        """(N, NORM) float32 as kernels take them: means, gains and biases of every image.

        Args:
            dtype: Name of the dtype of the output.
            gain: (N,) factors of `scale`.
            offset: (N,) in levels, added after the mean is subtracted.
        """
        std, scale = np.array(self.std, _F32), _F32(self.scale)
        table = np.empty((len(gain), NORM), _F32)
        table[:, :_CHANNELS] = round_half_away(self.mean) if dtype == "int8" else self.mean
        table[:, _CHANNELS : 2 * _CHANNELS] = (gain * scale)[:, None] / std
        table[:, 2 * _CHANNELS :] = (offset * scale)[:, None] / std
        return table

    def check(
        self, dtype: str, channels: int, contrast: float = 0, illumination: float = 0
    ) -> None:
        """Refuse numbers that give values which `dtype` cannot hold.

        Args:
            dtype: Name of the dtype of the output.
            channels: Channels of the output.
            contrast: Gains are at most 1 + contrast.
            illumination: Largest offset, in levels.
        """
        if dtype in ("int8", "uint8"):
            return
        most = float(np.finfo("float16" if dtype == "float16" else "float32").max)
        mean = np.abs(self.mean[:channels] if self.image is None else self.image).max()
        std = np.abs(self.std[:channels]).min()
        value = (255 + float(mean) + illumination) * abs(self.scale) * (1 + contrast) / std
        if not value <= most:
            raise ValueError(
                "mean, std, scale, max_random_contrast and max_random_illumination allow values of "
                f"up to {value:.3g}, and {dtype} holds up to {most:.3g}"
            )

    def mean_image(self, dtype: str) -> npt.NDArray[np.float32] | None:
        """`image` as kernels take it."""
        if self.image is None:
            return None
        image = round_half_away(self.image) if dtype == "int8" else self.image
        return np.ascontiguousarray(image, _F32)


def round_half_away(values: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """The nearest whole numbers, halves away from 0, as float32."""
    exact = np.asarray(values, np.float64)
    return np.trunc(exact + np.copysign(0.5, exact)).astype(_F32)
