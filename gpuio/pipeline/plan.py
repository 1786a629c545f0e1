"""What happens to every image, in order, as plain data."""

from __future__ import annotations

from dataclasses import dataclass, field

from gpuio.pipeline.cache.limit import CacheLimit
from gpuio.transforms.normalize import Normalization
from gpuio.transforms.op import Op, format_value

_PROBLEMS = {
    "geometry": "moves pixels",
    "colors": "changes colours",
    "labels": "changes labels",
    "output": "changes the normalized values",
}


@dataclass(frozen=True, slots=True)
class Plan:
    """What happens to every image: the ops in their order, then normalization and output.

    Attributes:
        ops: In the order in which they apply.
        shape: Channels, height and width of the output, in pixels.
        dtype: float32, float16, bfloat16, int8 or uint8.
        layout: NCHW or NHWC.
        normalization: Normalisation of levels to values.
        cache: Where pixels are kept that are the same in every epoch; None to keep none.
        scaled_decode: Whether JPEGs may be decoded to a smaller size, if the first op makes a
            smaller one of them.

    Raises:
        ValueError: An op cannot apply after another; or the first one is no resize, and
            `scaled_decode` is set.
    """

    ops: tuple[Op, ...]
    shape: tuple[int, int, int]
    dtype: str = "float32"
    layout: str = "NCHW"
    normalization: Normalization = field(default_factory=Normalization)
    cache: CacheLimit | None = None
    scaled_decode: bool = False

    def __post_init__(self) -> None:
        for number, op in enumerate(self.ops):
            for later in self.ops[number + 1 :]:
                if later.changes in op.last_of:
                    raise ValueError(
                        f"{type(later).__name__} {_PROBLEMS[later.changes]} and cannot follow "
                        f"{type(op).__name__}: put it before"
                    )
        if self.scaled_decode and self.least_edge is None:
            found = self._first_of_pixels
            begin = "changes no pixels" if found is None else f"begins with {found}"
            raise ValueError(
                "scaled_decode=True needs a plan that begins with a resize of the shorter edge, "
                f"and this one {begin}: give resize=256 or the like"
            )

    @property
    def cached_after(self) -> int:
        """How many ops the images in the cache have been through: 1 if the first one is fixed."""
        return int(bool(self.ops) and self.ops[0].is_fixed)

    @property
    def least_edge(self) -> int | None:
        """Pixels that the shorter edge of a decoded image needs; None to decode to full size."""
        first = self._first_of_pixels
        return first.least_edge if self.scaled_decode and first is not None else None

    @property
    def _first_of_pixels(self) -> Op | None:
        """The op that decoded images are given to; None if they are the output."""
        return next((op for op in self.ops if op.changes != "labels"), None)

    def output_shape(self, count: int) -> tuple[int, int, int, int]:
        """The shape of a batch of `count` images."""
        channels, height, width = self.shape
        if self.layout == "NHWC":
            return count, height, width, channels
        return count, channels, height, width

    def __str__(self) -> str:
        channels, height, width = self.shape
        n = self.normalization
        lines = [f"decode to {channels} channels, only the window that is needed"]
        lines += [f"{op}: {op.cost}" for op in self.ops]
        if self.cache is not None:
            lines[0] = f"decode to {channels} channels, all of an image that goes into the cache"
            lines.insert(1 + self.cached_after, f"cache of {self.cache}: later epochs begin here")
        if self.scaled_decode:
            smaller = (
                f"1/2, 1/4 or 1/8 of its size, at least {self.least_edge} pixels wide and high"
            )
            lines[0] += f"; a baseline JPEG to {smaller}"
        if self.dtype != "uint8":
            mean, std = (format_value(of_each[:channels]) for of_each in (n.mean, n.std))
            if n.image is not None:
                mean = "mean_img"
            scaled = "" if self.dtype == "int8" else f" * {format_value(n.scale)} / {std}"
            lines.append(f"(v - {mean}){scaled}")
        lines.append(f"to {self.dtype} {self.layout} {channels} x {height} x {width}")
        return "\n".join(f"{number}. {line}" for number, line in enumerate(lines, 1))
