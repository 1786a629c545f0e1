"""Which versions of nvImageCodec can be used, and for what."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from gpuio.errors import BackendError

Version = tuple[int, int, int]
"""Major, minor, patch."""

SUPPORTED: Final = (0, 9)
"""The version whose structures `nvimgcodec_abi` holds; those of 0.8 and before differ."""

GPU_WINDOWS: Final[dict[Version, bool]] = {
    (0, 8, 0): True,
    (0, 9, 0): False,  # error 8 on A100 and GB200, a crash on H100 and B200: nvImageCodec issue 55
}
"""Whether a version decodes a part of an image on a GPU; a version that is not here may not."""


def check(version: Version, path: Path, cuda: int) -> None:
    """Refuse a version that cannot be used.

    Args:
        version: The version of the library.
        path: Where the library is, for the message.
        cuda: Major version of CUDA that it was built for, for the message.

    Raises:
        BackendError: The structures of this version are not known.
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
