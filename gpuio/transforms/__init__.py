"""What happens to images: one file for each family of transforms.

Each transform is a frozen dataclass that checks its parameters. A `Plan` holds them in the order in
which they apply; importing them needs NumPy alone. Transforms of one's own derive from `Op`; where
pixels are new, `register_pixel_step` adds the function that makes them.
"""

from __future__ import annotations

from gpuio.kernels.steps import register_pixel_step
from gpuio.transforms.affine import Affine
from gpuio.transforms.blur import GaussianBlur
from gpuio.transforms.border import Pad
from gpuio.transforms.color import ColorJitter, Exposure, HlsJitter, Lighting, RandomGray
from gpuio.transforms.crop import Crop, RandomResizedCrop, SquareCrop
from gpuio.transforms.detection import (
    ColorShift,
    FitInto,
    MirrorObjects,
    Objects,
    PackLabels,
    PadObjects,
    TopLeft,
)
from gpuio.transforms.label_transforms import MoveBoxes, MovePoints
from gpuio.transforms.mirror import Mirror
from gpuio.transforms.normalize import Normalization
from gpuio.transforms.object_crop import CropObjects, Sampler
from gpuio.transforms.op import BatchPlan, Op
from gpuio.transforms.resize import ResizeShorterEdge

__all__ = [
    "Affine", "BatchPlan", "ColorJitter", "ColorShift", "Crop", "CropObjects", "Exposure",
    "FitInto", "GaussianBlur", "HlsJitter", "Lighting", "Mirror", "MirrorObjects", "MoveBoxes",
    "MovePoints", "Normalization", "Objects", "Op", "PackLabels", "Pad", "PadObjects",
    "RandomGray", "RandomResizedCrop", "ResizeShorterEdge", "Sampler", "SquareCrop", "TopLeft",
    "register_pixel_step",
]  # fmt: skip
