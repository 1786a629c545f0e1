"""Warnings about keywords that are allowed but hardly what the user meant."""

from __future__ import annotations

import inspect
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gpuio.core.options import Group, options, read

if TYPE_CHECKING:
    from gpuio.transforms.normalize import Normalization

_LEVELS: Final = 255


class Rule(NamedTuple):
    """A condition under which keywords have no effect.

    Attributes:
        names: The keywords, with spaces between.
        why: The end of the warning, after "has no effect".
        applies: Takes the values of all keywords by name; true if these ones have no effect.
    """

    names: str
    why: str
    applies: Callable[[Mapping[str, Any]], object]


IMAGE_RULES: Final = (
    Rule("min_random_area max_random_area", "without random_resized_crop",
         lambda v: not v["random_resized_crop"]),
    Rule("rotate max_rotate_angle", "beside rotate_list", lambda v: v["rotate_list"]),
    Rule("max_rotate_angle", "beside rotate", lambda v: v["rotate"] not in (-1, 0)),
    Rule("rand_mirror", "beside mirror, which mirrors all", lambda v: v["mirror"]),
    Rule("crop_emit_mode emit_overlap_thresh", "without label_kind='boxes'",
         lambda v: v["label_kind"] != "boxes"),
    Rule("emit_overlap_thresh", "without crop_emit_mode='overlap'",
         lambda v: v["label_kind"] == "boxes" and v["crop_emit_mode"] != "overlap"),
    Rule("label_pad_value", "without label_kind='boxes' or 'points'",
         lambda v: v["label_kind"] == "values"),
    Rule("mask_fill", "without masks", lambda v: not v["masks"]),
)  # fmt: skip


def _without(needed: str, *names: str) -> Rule:
    """Keywords that have no effect unless another one, `needed`, is above 0."""
    return Rule(" ".join(names), f"without {needed}", lambda v: not v[needed] > 0)


_CROPS: Final = ("scales", "aspect_ratios", "overlaps", "sample_coverages", "object_coverages")
_COLORS: Final = ("hue", "saturation", "illumination", "contrast")
DET_RULES: Final = (
    *(_without(f"random_{color}_prob", f"max_random_{color}") for color in _COLORS),
    *(_without(f"max_random_{color}", f"random_{color}_prob") for color in _COLORS),
    _without("rand_pad_prob", "max_pad_scale"),
    Rule("rand_pad_prob", "without max_pad_scale above 1", lambda v: not v["max_pad_scale"] > 1),
    _without("rand_crop_prob", *(f"{end}_crop_{name}" for name in _CROPS for end in ("min", "max")),
             "num_crop_sampler", "max_crop_trials", "crop_emit_mode", "emit_overlap_thresh"),
    Rule("emit_overlap_thresh", "without crop_emit_mode='overlap'",
         lambda v: v["rand_crop_prob"] > 0 and v["crop_emit_mode"] != "overlap"),
)  # fmt: skip


def advise(
    rules: Sequence[Rule], groups: Sequence[Group], dtype: str, normalization: Normalization
) -> None:
    """Warn about keywords of an iterator.

    Args:
        rules: `IMAGE_RULES` or `DET_RULES`.
        groups: The options of the iterator that the rules name.
        dtype: The type of its batches.
        normalization: How its values are normalized.
    """
    values = {o.name: getattr(group, o.name) for group in groups for o in options(type(group))}
    fields = {o.name: o for group in groups for o in options(type(group))}
    for rule in rules:
        if rule.applies(values):
            for name in rule.names.split():
                value = values[name]
                if value != read(fields[name], fields[name].default):
                    shown = float(f"{value:.7g}") if isinstance(value, float) else value
                    warn(f"{name}={shown!r} has no effect {rule.why}")
    for text in _about_output(dtype, normalization):
        warn(text)


def about_scale(
    mean: Sequence[float], std: Sequence[float], scale: float, names: Callable[[str, int], str]
) -> Iterator[str]:
    """Warnings about means and standard deviations that fit values of 0 to 1 instead of levels.

    Args:
        mean: The mean of each channel; 0 is no mean.
        std: The standard deviation of each channel; 0 and 1 are none.
        scale: The factor of the normalized values.
        names: Takes "mean" or "std" and a channel, and returns the name of that parameter.
    """
    means = {names("mean", c): value for c, value in enumerate(mean) if value}
    if any(value < 1 for value in means.values()) and all(0 < v <= 1 for v in means.values()):
        yield (
            f"{_shown(means)} would be right for values of 0 to 1, but means are subtracted from "
            f"levels of 0 to 255: give {_shown(means, _LEVELS)}"
        )
    stds = {names("std", c): value for c, value in enumerate(std) if value not in (0, 1)}
    if scale == 1 and stds and all(0 < value < 1 for value in stds.values()):
        yield (
            f"{_shown(stds)} would be right for values of 0 to 1, but levels of 0 to 255 are "
            f"divided by it: give {_shown(stds, _LEVELS)}, or scale=1/255"
        )


def advise_list(made: Mapping[str, Any], function: Callable[..., Any]) -> None:
    """Warn about keywords of `function`, which makes a list of augmenters, beside `aug_list`."""
    known = inspect.signature(function).parameters
    for name, value in made.items():
        if repr(value) != repr(known[name].default):  # equal arrays are no truth value
            warn(f"{name}={value!r} has no effect beside aug_list")


def warn(text: str, category: type[Warning] = UserWarning) -> None:
    """Warn, with the line outside gpuio that led here as its place, once for each such line."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and _is_own(frame.f_globals.get("__name__", "")):
        level, frame = level + 1, frame.f_back
    warnings.warn(text, category, stacklevel=level)


def _is_own(module: str) -> bool:
    return module == "gpuio" or module.startswith("gpuio.")


def _about_output(dtype: str, n: Normalization) -> Iterator[str]:
    off = {f"std_{c}": value for c, value in zip("rgba", n.std, strict=True) if value not in (0, 1)}
    off |= {"scale": n.scale} if n.scale != 1 else {}
    if dtype == "uint8":
        off |= {f"mean_{c}": value for c, value in zip("rgba", n.mean, strict=True) if value}
    if dtype in ("int8", "uint8"):
        for name, value in off.items():
            yield f"{name}={value:g} has no effect with dtype={dtype!r}"
    if dtype != "uint8":
        std = n.std if dtype != "int8" else ()
        yield from about_scale(n.mean, std, n.scale, lambda kind, c: f"{kind}_{'rgba'[c]}")


def _shown(values: dict[str, float], factor: float = 1) -> str:
    return ", ".join(f"{name}={value * factor:g}" for name, value in values.items())
