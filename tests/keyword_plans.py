"""Plans of MXNet's keywords, for tests of what is done to images."""

from __future__ import annotations

from gpuio.core.options import options, read
from gpuio.mxnet.det_keywords import DetColor, DetGeometry, DetLabels
from gpuio.mxnet.det_plan import make_det_plan
from gpuio.mxnet.image_keywords import ImageColor, ImageGeometry, ImageLabels
from gpuio.mxnet.image_plan import make_plan
from gpuio.pipeline.config import OutputConfig
from gpuio.transforms.normalize import Normalization


def made(group, given):
    """A group of options, of values that are taken as they are."""
    return group(
        **{o.name: given[o.name] if o.name in given else read(o, o.default) for o in options(group)}
    )


def plan_of(normalization=None, **given):
    """The plan of keywords of ImageRecordIter, taken as they are."""
    output, geometry = made(OutputConfig, given), made(ImageGeometry, given)
    color, moves = made(ImageColor, given), made(ImageLabels, given).ops()
    return make_plan(output, geometry, color, normalization or Normalization(), moves)


def det_plan_of(normalization, label_width, **given):
    """The plan of keywords of ImageDetRecordIter, taken as they are."""
    groups = (made(group, given) for group in (OutputConfig, DetLabels, DetGeometry, DetColor))
    return make_det_plan(*groups, normalization, label_width)
