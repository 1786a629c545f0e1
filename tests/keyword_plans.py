"""Plans of MXNet's keywords, for tests of what is done to images."""

from __future__ import annotations

from gpuio.mxnet.det_keywords import DetColor, DetGeometry, DetLabels
from gpuio.mxnet.det_plan import make_det_plan
from gpuio.mxnet.image_keywords import ImageColor, ImageGeometry, ImageLabels
from gpuio.mxnet.image_plan import make_plan
from gpuio.mxnet.keywords import DET, IMAGE, Values
from gpuio.pipeline.config import OutputConfig
from gpuio.transforms.normalize import Normalization


def plan_of(normalization=None, **options):
    """The plan of keywords of ImageRecordIter, taken as they are."""
    of = Values({**Values.read(IMAGE, {}), **options}).group
    output, geometry, color = of(OutputConfig), of(ImageGeometry), of(ImageColor)
    normalization = normalization or Normalization()
    return make_plan(output, geometry, color, normalization, of(ImageLabels).ops())


def det_plan_of(normalization, label_width, **options):
    """The plan of keywords of ImageDetRecordIter, taken as they are."""
    of = Values({**Values.read(DET, {}), **options}).group
    groups = of(OutputConfig), of(DetLabels), of(DetGeometry), of(DetColor)
    return make_det_plan(*groups, normalization, label_width)
