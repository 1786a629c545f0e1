"""The gallery of augmentations: a row of examples for each, and one for all together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from PIL import Image

from gpuio.mxnet.iterators.batch import DataBatch
from gpuio.mxnet.iterators.image_record import ImageRecordIter
from gpuio.observe import contact_sheet

SIDE: Final = 96  # of an example, in pixels
_SHAPE: Final = (3, 224, 224)
_BESIDE: Final = 2  # rows that stand side by side


@dataclass(frozen=True, slots=True)
class Augmentation:
    """A row of the gallery.

    Attributes:
        example: Keywords of the augmentation, with values that show it well.
        shows: Caption under each image: names in `batch.augmentation` whose sampled values are
            shown, each with a word to write before it.
        edge: Shorter edge of the images before the augmentation, in pixels; -1 does not resize.
        together: Values for the row of all together; None where it does not go with others.
    """

    example: Mapping[str, Any]
    shows: Mapping[str, str]
    edge: int = SIDE
    together: Mapping[str, Any] | None = None


AUGMENTATIONS: Final = (
    Augmentation(
        {
            "random_resized_crop": True,
            "min_random_area": 0.1,
            "max_random_area": 1,
            "min_aspect_ratio": 0.75,
            "max_aspect_ratio": 1.33,
        },
        {"crop_window": ""},
        edge=-1,
    ),
    Augmentation(
        {"min_crop_size": 60, "max_crop_size": 140, "rand_crop": True}, {"crop_size": "side"}, 140
    ),
    Augmentation({"rand_crop": True}, {"crop_x": "x", "crop_y": "y"}, 160, {"rand_crop": True}),
    Augmentation({"rand_mirror": True}, {"mirror": "mirrored"}, together={"rand_mirror": True}),
    Augmentation({"mirror": True}, {}),
    Augmentation({"max_rotate_angle": 45}, {"angle": "angle"}, together={"max_rotate_angle": 15}),
    Augmentation({"rotate_list": (-90, 0, 90, 180)}, {"angle": "angle"}),
    Augmentation({"rotate": 30}, {}),
    Augmentation({"max_shear_ratio": 0.4}, {"shear": "shear"}, together={"max_shear_ratio": 0.1}),
    Augmentation(
        {"min_random_scale": 1, "max_random_scale": 2},
        {"scale": "scale"},
        together={"min_random_scale": 1, "max_random_scale": 1.3},
    ),
    Augmentation(
        {"min_aspect_ratio": 0.6, "max_aspect_ratio": 1.6},
        {"aspect_ratio": "ratio"},
        together={"max_aspect_ratio": 0.2},
    ),
    Augmentation({"pad": 12}, {}, SIDE - 24, together={"pad": 6}),
    Augmentation({"brightness": 0.5}, {"brightness": "times"}, together={"brightness": 0.3}),
    Augmentation({"contrast": 0.6}, {"contrast": "times"}, together={"contrast": 0.3}),
    Augmentation({"saturation": 0.9}, {"saturation": "times"}, together={"saturation": 0.3}),
    Augmentation({"random_h": 90}, {"hue": "hue"}, together={"random_h": 9}),
    Augmentation({"random_s": 150}, {"color_saturation": "plus"}, together={"random_s": 20}),
    Augmentation({"random_l": 100}, {"lightness": "plus"}, together={"random_l": 20}),
    Augmentation({"pca_noise": 1.0}, {"lighting": ""}, together={"pca_noise": 0.1}),
    Augmentation({"rand_gray": 0.5}, {"gray": "gray"}),
    Augmentation({"max_random_contrast": 0.6}, {"gain": "times"}),
    Augmentation({"max_random_illumination": 80}, {"offset": "plus"}),
)
"""All augmentations; a keyword belongs to the first row that has it."""

# The gallery shows levels from 0 to 255, so normalisation and layout are left at these values.
_OUTPUT: Final = {
    "dtype": "float32", "layout": "NCHW", "mean_img": "", "scale": 1,
    **{f"mean_{channel}": 0 for channel in "rgba"}, **{f"std_{channel}": 1 for channel in "rgba"},
}  # fmt: skip

Open = Callable[..., ImageRecordIter]


def draw(open_loader: Open, options: Mapping[str, Any], count: int) -> Image.Image:
    """A sheet with a row of `count` examples for each augmentation, of the same images.

    An image gets the same sampled values in the row of one augmentation and in that of all.

    Args:
        open_loader: Makes an iterator from keywords.
        options: Keywords of ImageRecordIter. If augmentations are among them, these are shown;
            otherwise all augmentations, with values that show them well. Keywords of the output
            (`mean_r`, `dtype` and so on) are ignored.
        count: Images in a row.
    """
    rows = []
    for title, keywords, shows in _rows(options):
        with open_loader(**(keywords | _OUTPUT | {"batch_size": count})) as batches:
            batch = batches.next()
            data = np.asarray(batches.getdata()[0])
        captions = [_caption(batch, place, shows) for place in range(count)]
        images = np.clip(np.rint(data), 0, 255).astype(np.uint8)
        tiles = list(images.transpose(0, 2, 3, 1))
        rows.append(contact_sheet.draw(tiles, captions, columns=count, tile=SIDE, title=title))
    return contact_sheet.stack(rows, _BESIDE)


def _rows(
    options: Mapping[str, Any],
) -> Iterator[tuple[str, dict[str, Any], Mapping[str, str]]]:
    """For each row its title, its keywords, and `Augmentation.shows`."""
    named = {name for row in AUGMENTATIONS for name in row.example}
    base = {name: value for name, value in options.items() if name not in named}
    given = {name: value for name, value in options.items() if name in named}
    if given:
        base = {"data_shape": _SHAPE} | base
        yield "original", base, {}
        rest = dict(given)
        for row in AUGMENTATIONS:
            if next(iter(row.example)) in rest:
                own = {name: rest.pop(name) for name in row.example if name in rest}
                yield _title(own), base | own, row.shows
        for name, value in rest.items():
            yield _title({name: value}), {**base, name: value}, {}
        yield "all together", base | given, {}
        return
    base["data_shape"] = (3, SIDE, SIDE)
    yield "original", {"resize": SIDE} | base, {}
    together: dict[str, Any] = {}
    for row in AUGMENTATIONS:
        yield _title(row.example), {"resize": row.edge, **row.example} | base, row.shows
        together.update(row.together or {})
    yield "all together", {"resize": SIDE * 5 // 4} | together | base, {}


def _title(keywords: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in keywords.items())


def _caption(batch: DataBatch, place: int, shows: Mapping[str, str]) -> str:
    """The values that were sampled for an image."""
    words = []
    for name, word in shows.items():
        value = np.asarray(batch.augmentation[name][place])
        if value.dtype == bool:
            words += [word] if value else []
        else:
            numbers = " ".join(f"{number:.3g}" for number in value.reshape(-1).tolist())
            words.append(f"{word} {numbers}".strip())
    return ", ".join(words)
