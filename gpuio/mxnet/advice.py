"""Warnings about keywords that are allowed, but are surely not what the user meant."""

from __future__ import annotations

import inspect
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from gpuio.mxnet.det_options import DetOptions
    from gpuio.mxnet.image_options import Options
    from gpuio.transforms.normalize import Normalization

_LEVELS: Final = 255
_DET_COLORS: Final = ("hue", "saturation", "illumination", "contrast")


class Rule(NamedTuple):
    """A condition under which keywords have no effect.

    Attributes:
        names: The keywords.
        why: The end of the warning, after "has no effect".
        idle: Takes the options; True where the keywords have no effect.
    """

    names: tuple[str, ...]
    why: str
    idle: Callable[[Any], bool]


_RULES: Final = (
    Rule(
        ("min_random_area", "max_random_area"),
        "without random_resized_crop",
        lambda o: not o.random_resized_crop,
    ),
    Rule(("rotate", "max_rotate_angle"), "beside rotate_list", lambda o: bool(o.rotate_list)),
    Rule(("max_rotate_angle",), "beside rotate", lambda o: o.rotate not in (-1, 0)),
    Rule(("rand_mirror",), "beside mirror, which mirrors all", lambda o: o.mirror),
    Rule(
        ("crop_emit_mode", "emit_overlap_thresh"),
        "without label_kind='boxes'",
        lambda o: o.label_kind != "boxes",
    ),
    Rule(
        ("emit_overlap_thresh",),
        "without crop_emit_mode='overlap'",
        lambda o: o.label_kind == "boxes" and o.crop_emit_mode != "overlap",
    ),
    Rule(
        ("label_pad_value",),
        "without label_kind='boxes' or 'points'",
        lambda o: o.label_kind == "values",
    ),
)


def _is_off(name: str, options: Any) -> bool:
    return not getattr(options, name) > 0


_CROPS: Final = ("scales", "aspect_ratios", "overlaps", "sample_coverages", "object_coverages")
_DET_RULES: Final = (
    *(
        Rule((name,), f"without {other}", partial(_is_off, other))
        for color in _DET_COLORS
        for name, other in (
            (f"max_random_{color}", f"random_{color}_prob"),
            (f"random_{color}_prob", f"max_random_{color}"),
        )
    ),
    Rule(("max_pad_scale",), "without rand_pad_prob", lambda o: not o.rand_pad_prob > 0),
    Rule(("rand_pad_prob",), "without max_pad_scale above 1", lambda o: not o.max_pad_scale > 1),
    Rule(
        (
            *(f"{end}_crop_{name}" for name in _CROPS for end in ("min", "max")),
            "num_crop_sampler",
            "max_crop_trials",
            "crop_emit_mode",
            "emit_overlap_thresh",
        ),
        "without rand_crop_prob",
        lambda o: not o.rand_crop_prob > 0,
    ),
    Rule(
        ("emit_overlap_thresh",),
        "without crop_emit_mode='overlap'",
        lambda o: o.rand_crop_prob > 0 and o.crop_emit_mode != "overlap",
    ),
)


def advise(options: Options, normalization: Normalization) -> None:
    """Warn about keywords of `ImageRecordIter`."""
    _warn_all(_idle(options, _RULES))
    _warn_all(_about_output(options.dtype, normalization))


def advise_det(options: DetOptions, normalization: Normalization) -> None:
    """Warn about keywords of `ImageDetRecordIter`."""
    _warn_all(_idle(options, _DET_RULES))
    _warn_all(_about_output(options.dtype, normalization))


def about_scale(
    mean: Sequence[float], std: Sequence[float], scale: float, names: Callable[[str, int], str]
) -> Iterator[str]:
    """What is wrong with means and standard deviations made for values of 0 to 1.

    Args:
        mean: By channel; 0 is none.
        std: By channel; 0 and 1 are none.
        scale: What multiplies the normalized values.
        names: How the "mean" or "std" of a channel is called.
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
    """Warn about keywords of `function`, which makes lists of augmenters, beside `aug_list`."""
    known = inspect.signature(function).parameters
    for name, value in made.items():
        if repr(value) != repr(known[name].default):  # equal arrays are no truth value
            warn(f"{name}={value!r} has no effect beside aug_list")


def warn(text: str) -> None:
    """A warning at the line outside of gpuio that led here, once for each such line."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and _is_own(frame.f_globals.get("__name__", "")):
        level, frame = level + 1, frame.f_back
    warnings.warn(text, stacklevel=level)


def _warn_all(texts: Iterator[str]) -> None:
    for text in texts:
        warn(text)


def _is_own(module: str) -> bool:
    return module == "gpuio" or module.startswith("gpuio.")


def _idle(options: Any, rules: Sequence[Rule]) -> Iterator[str]:
    defaults: dict[str, Any] = {field.name: field.default for field in fields(options)}
    for rule in rules:
        if rule.idle(options):
            for name in rule.names:
                value, default = getattr(options, name), defaults[name]
                if isinstance(value, float):  # as float32 has it, in which both are used
                    value, default = float(f"{value:.7g}"), float(default)
                if value != default:
                    yield f"{name}={value!r} has no effect {rule.why}"


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
