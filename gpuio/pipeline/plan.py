"""What is done to every image, as plain data."""

from __future__ import annotations

from dataclasses import dataclass, field

from gpuio.transforms.normalize import Normalization
from gpuio.transforms.op import Op


@dataclass(frozen=True, slots=True)
class Plan:
    """What is done to every image.

    Attributes:
        ops: In the order they apply.
        shape: Channels, height and width of the output, in pixels.
        dtype: float32, float16, bfloat16, int8 or uint8.
        layout: NCHW or NHWC.
        normalization: Of the output.
    """

    ops: tuple[Op, ...]
    shape: tuple[int, int, int]
    dtype: str = "float32"
    layout: str = "NCHW"
    normalization: Normalization = field(default_factory=Normalization)

    def output_shape(self, count: int) -> tuple[int, int, int, int]:
        """Of a batch of `count` images."""
        channels, height, width = self.shape
        if self.layout == "NHWC":
            return count, height, width, channels
        return count, channels, height, width

    def __str__(self) -> str:
        channels, height, width = self.shape
        n = self.normalization
        lines = [f"decode to {channels} channels, only the window that is needed"]
        lines += [f"{op}: {op.cost}" for op in self.ops]
        if self.dtype != "uint8":
            mean = "mean_img" if n.image is not None else n.mean[:channels]
            scaled = "" if self.dtype == "int8" else f" * {n.scale} / {n.std[:channels]}"
            lines.append(f"(v - {mean}){scaled}")
        lines.append(f"to {self.dtype} {self.layout} {channels} x {height} x {width}")
        return "\n".join(f"{number}. {line}" for number, line in enumerate(lines, 1))
