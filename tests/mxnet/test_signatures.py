"""Every keyword of every public name can be seen, by people and by editors."""

from __future__ import annotations

import inspect
import types

import pytest

import gpuio

MODULES = ("gpuio", "io", "image", "recordio", "nd", "base", "context")
# `dumps` tells whatever a derived augmenter hands to its base; `progress` hands on to tqdm.
OPEN = {"Augmenter", "DetAugmenter", "progress"}
PLAIN = (types.ModuleType, str, int)


def public():
    """(place, object) of all that can be called, the methods of classes too."""
    for name in MODULES:
        module = gpuio if name == "gpuio" else getattr(gpuio, name)
        for attribute in module.__all__:
            value = getattr(module, attribute)
            error = inspect.isclass(value) and issubclass(value, Exception)
            if not isinstance(value, PLAIN) and not error:
                yield f"{name}.{attribute}", value
            if inspect.isclass(value):
                for method, function in inspect.getmembers(value, inspect.isfunction):
                    ours = getattr(function, "__module__", "").startswith("gpuio")
                    if ours and not method.startswith("_"):
                        yield f"{name}.{attribute}.{method}", function


NAMES = dict(public())


def test_the_walk_finds_every_public_function():
    assert {"io.NDArrayIter", "image.ImageIter", "image.ImageIter.next", "nd.array"} <= set(NAMES)
    assert len(NAMES) > 200


@pytest.mark.parametrize("place", NAMES)
def test_every_keyword_is_in_the_signature(place):
    if place.rpartition(".")[2] in OPEN:
        return
    for parameter in inspect.signature(NAMES[place]).parameters.values():
        assert parameter.kind is not parameter.VAR_KEYWORD, f"{place} takes **{parameter.name}"


@pytest.mark.parametrize("place", NAMES)
def test_every_function_is_annotated(place):
    if inspect.isclass(NAMES[place]):
        return
    for parameter in inspect.signature(NAMES[place]).parameters.values():
        known = parameter.name in ("self", "cls") or parameter.annotation is not parameter.empty
        assert known, f"{place}: {parameter.name} has no annotation"


def test_the_defaults_of_the_iterators_are_those_of_mxnet():
    parameters = inspect.signature(gpuio.image.ImageIter).parameters
    defaults = {name: p.default for name, p in parameters.items()}
    assert defaults["inter_method"] == 2
    assert defaults["label_width"] == 1
    for make, iterator in (
        (gpuio.image.CreateAugmenter, gpuio.image.ImageIter),
        (gpuio.image.CreateDetAugmenter, gpuio.image.ImageDetIter),
    ):
        theirs = inspect.signature(iterator).parameters
        for name, parameter in inspect.signature(make).parameters.items():
            assert name in theirs
            if name != "data_shape":
                assert theirs[name].default == parameter.default
