"""gpuio warm: compile the kernels of a plan ahead, so that its first batch does not wait."""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any, Final

from gpuio.cli import loader
from gpuio.kernels import code_cache
from gpuio.mxnet.iterators.image_record import ImageRecordIter
from gpuio.testing import draw, encode, write_rec

_SHAPE: Final = (3, 224, 224)
_OF_RECORDS: Final = (
    "batch_size", "cache_dir", "cache_size", "label_kind", "label_width", "last_batch", "masks",
    "num_parts", "part_index", "round_batch",
)  # fmt: skip
"""Parameters that suit other records than those that are drawn here; kernels do not depend on them,
but for those of masks."""
_SIZES: Final = ((375, 500), (448, 448), (96, 128))  # heights and widths, in pixels
_CROPPED: Final = {"resize": 256, "rand_crop": True, "rand_mirror": True}
_NORMALIZED: Final = {
    f"{name}_{channel}": 100.0 for name in ("mean", "std") for channel in ("r", "g", "b")
}
_USUAL: Final[dict[str, dict[str, Any]]] = {
    "images as they are": {},
    "resized, cropped, float32": {**_CROPPED, **_NORMALIZED},
    "resized, cropped, float16": {**_CROPPED, **_NORMALIZED, "dtype": "float16"},
    "resized, cropped, uint8, NHWC": {**_CROPPED, "dtype": "uint8", "layout": "NHWC"},
    "windows with jitter of colours": {
        "random_resized_crop": True,
        "min_random_area": 0.08,
        "max_random_area": 1.0,
        "min_aspect_ratio": 0.75,
        "max_aspect_ratio": 1.33,
        "rand_mirror": True,
        "brightness": 0.4,
        "contrast": 0.4,
        "saturation": 0.4,
        **_NORMALIZED,
    },
}
"""Plans that are compiled where none is given, by what they do."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.epilog = (
        "Kernels are compiled when a plan first needs them, and kept on disk. This makes a batch "
        "of drawn pictures with the plan of the loader options, or without any with the usual "
        f"plans, so that they are there: in the folder of the package or, where that cannot be "
        "written, in the user's folder of caches; or in that which NUMBA_CACHE_DIR names. The "
        "default of "
        f"--data-shape is {_SHAPE}. Run it where containers and images are made, on a processor "
        "like the one that will run them. Example: gpuio warm --resize 256 --rand-crop "
        "--rand-mirror --dtype float16. Exit status: 0, or 2 for a wrong parameter or where no "
        "folder can be written."
    )
    parser.usage = "%(prog)s [loader options]"
    loader.configure_parameters(parser, _parameters())


def run(args: argparse.Namespace) -> int:
    """Compile, print how long that took and return the exit status."""
    folder = code_cache.writable_folder()
    if folder is None:
        tried = ", ".join(str(place) for place in code_cache.places())
        raise ValueError(f"no folder for code can be written ({tried}); set NUMBA_CACHE_DIR to one")
    chosen = {name: value for name, value in loader.chosen(args).items() if name in _parameters()}
    plans = {"the plan": chosen} if chosen else _USUAL
    with tempfile.TemporaryDirectory() as scratch:
        rec = Path(scratch) / "drawn.rec"
        alpha = str(chosen.get("data_shape", "")).startswith("4")
        kinds = ("PNG", "PNG") if alpha else ("JPEG", "PNG")
        pictures = [draw(*size, 4 if alpha else 3, seed=n) for n, size in enumerate(_SIZES)]
        write_rec(rec, [encode(picture, kind) for picture in pictures for kind in kinds])
        for name, options in plans.items():
            begin = time.perf_counter()
            _make_batch(rec, options)
            print(f"{name}: {time.perf_counter() - begin:.1f} s", flush=True)
    print(f"kept in {folder}")
    return 0


def _parameters() -> list[str]:
    """The parameters of a plan: all but those that say what records there are."""
    return [n for n in loader.PARAMETERS if not n.startswith("path_") and n not in _OF_RECORDS]


def _make_batch(rec: Path, options: dict[str, Any]) -> None:
    defaults = {"data_shape": _SHAPE, "batch_size": 2 * len(_SIZES)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what a training run will be told
        with ImageRecordIter(rec, **{**defaults, **options}) as batches:
            next(batches)
