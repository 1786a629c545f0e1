"""Images that take long to load, as their headers tell, and what makes them faster.

Source: `gpuio.pipeline.decode`, which says what the portable codec decodes, image by image.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from gpuio.errors import DecodeError
from gpuio.formats.exif import jpeg_orientation
from gpuio.formats.jpeg_segments import FRAMES, SOF2, SOS, Frame, head_segments, read_frame

HUGE: Final = 2_000_000
"""Pixels above which an image is huge: training on 224 x 224 keeps a fortieth of them."""

_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG"
_ENCODE_AGAIN: Final = "gpuio im2rec --quality 95 stores them as plain JPEGs, with a small loss"
_REASONS: Final = {
    "progressive": (
        "are progressive or in several scans",
        "gpuio im2rec --pass-through --baseline makes them baseline without loss",
    ),
    "cmyk": ("are CMYK", _ENCODE_AGAIN),
    "turned": ("are turned by EXIF", _ENCODE_AGAIN),
    "other": ("are neither JPEG nor PNG", _ENCODE_AGAIN),
    "huge": (
        f"have more than {HUGE / 1e6:g} megapixels",
        "gpuio im2rec --resize S makes their shorter side S pixels, a little above your crops",
    ),
}
"""By name: what such images are, and what to run."""


@dataclass(slots=True)
class SlowImages:
    """Counts of images that load slowly.

    Attributes:
        looked_at: Number of images whose headers were read.
        counts: Number of images for each reason; one may have several.
    """

    looked_at: int = 0
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_REASONS, 0))

    def add(self, image: bytes) -> None:
        """Look at the header of an encoded image."""
        self.looked_at += 1
        for reason in slow_reasons(image):
            self.counts[reason] += 1

    def describe(self) -> Iterator[str]:
        """A line for each reason that some images have: how many, and what to run."""
        for reason, count in self.counts.items():
            what, remedy = _REASONS[reason]
            if count:
                yield f"{count} of {self.looked_at} images {what}; {remedy}"

    def to_dict(self) -> dict[str, int]:
        """The counts, as JSON has them."""
        return {"looked_at": self.looked_at, **self.counts}


def slow_reasons(image: bytes) -> set[str]:
    """Why an encoded image loads slowly, as names of `SlowImages.counts`; empty if it does not.

    One whose header is damaged has no reason: `gpuio verify` finds those.
    """
    if image.startswith(_JPEG):
        return _reasons_of_jpeg(image)
    if image.startswith(_PNG):
        width, height = (int.from_bytes(image[at : at + 4], "big") for at in (16, 20))
        return {"huge"} if height * width > HUGE else set()
    return {"other"}


def _reasons_of_jpeg(image: bytes) -> set[str]:
    reasons: set[str] = set()
    frame: Frame | None = None
    try:
        for segment in head_segments(image):
            if segment.marker in FRAMES:
                frame = read_frame(image, segment)
            elif segment.marker == SOS and frame is not None:
                count = int.from_bytes(image[segment.body : segment.body + 1], "big")
                if frame.marker == SOF2 or count < len(frame.components):
                    reasons.add("progressive")
    except DecodeError:
        return set()
    if frame is None:
        return set()
    if len(frame.components) == 4:
        reasons.add("cmyk")
    if jpeg_orientation(image) != 1:
        reasons.add("turned")
    if frame.height * frame.width > HUGE:
        reasons.add("huge")
    return reasons
