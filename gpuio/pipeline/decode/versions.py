"""Which versions of nvImageCodec can be used, and for what."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from gpuio.errors import BackendError

Version = tuple[int, int, int]
"""Major, minor, patch."""

SUPPORTED: Final = (0, 9)
"""Versions whose structures `nvimgcodec_abi` holds; those of 0.8 and before are others."""

GPU_WINDOWS: Final[dict[Version, bool]] = {
    (0, 8, 0): True,
    (0, 9, 0): False,  # error 8 on A100 and GB200, a crash on H100 and B200: its issue 55
}
"""Whether a GPU decodes a part of an image; no version is trusted that is not here."""


def check(version: Version, path: Path, cuda: int) -> None:
    """Refuse a version that cannot be used.

    Args:
        version: Of the library.
        path: Where it is, for the message.
        cuda: Major version of CUDA that it was built for, likewise.

    Raises:
        BackendError: Its structures are not known.
    """
    if version[:2] != SUPPORTED:
        found, wanted = (".".join(map(str, numbers[:2])) for numbers in (version, SUPPORTED))
        raise BackendError(
            f"{path}: version is {found}, not {wanted}: "
            f"pip install 'nvidia-nvimgcodec-cu{cuda}=={wanted}.*'"
        )


def gpu_windows(version: Version) -> bool:
    """Whether this version may decode a part of an image on a GPU."""
    return GPU_WINDOWS.get(version, False)
