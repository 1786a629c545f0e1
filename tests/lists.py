"""Image lists made in memory, for tests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from gpuio.formats.image_list import ImageList


def image_list(
    ids: npt.ArrayLike, labels: Sequence[npt.ArrayLike], paths: Sequence[str]
) -> ImageList:
    """A list from N ids, N labels (each a number or a sequence of numbers) and N paths."""
    rows = [np.asarray(label, np.float32).ravel() for label in labels]
    starts = np.cumsum([0, *map(len, rows)], dtype=np.int64)
    values = np.concatenate([np.zeros(0, np.float32), *rows])
    return ImageList(np.array(ids, np.int64).reshape(-1), values, starts, paths)
