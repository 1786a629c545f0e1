"""Plans of MXNet's keywords, for tests of what is done to images."""

from __future__ import annotations

from gpuio.mxnet.det_options import DetAugmentation, make_det_plan
from gpuio.mxnet.image_options import ImageAugmentation, ImageLabels, make_plan
from gpuio.mxnet.keywords import DET, IMAGE, Values
from gpuio.pipeline.config import OutputConfig
from gpuio.transforms.normalize import Normalization


def plan_of(normalization=None, **options):
    """The plan of keywords of ImageRecordIter, taken as they are."""
    values = _values(IMAGE, options)
    augmentation, labels = values.group(ImageAugmentation), values.group(ImageLabels)
    normalization = normalization or Normalization()
    return make_plan(values.group(OutputConfig), augmentation, normalization, labels.ops())


def det_plan_of(normalization, label_width, **options):
    """The plan of keywords of ImageDetRecordIter, taken as they are."""
    values = _values(DET, options)
    output, augmentation = values.group(OutputConfig), values.group(DetAugmentation)
    return make_det_plan(output, augmentation, normalization, label_width)


def _values(iterator, options):
    return Values({**Values.read(iterator, {}), "dtype": "float32", **options})
