"""What `gpuio.image` is, and what it costs to import."""

from __future__ import annotations

import subprocess
import sys

import gpuio

# What MXNet 1.9.1 has in mx.image, but for its imports.
NAMES = """
    Augmenter BrightnessJitterAug CastAug CenterCropAug ColorJitterAug ColorNormalizeAug
    ContrastJitterAug CreateAugmenter CreateDetAugmenter CreateMultiRandCropAugmenter DetAugmenter
    DetBorrowAug DetHorizontalFlipAug DetRandomCropAug DetRandomPadAug DetRandomSelectAug
    ForceResizeAug HorizontalFlipAug HueJitterAug ImageDetIter ImageIter LightingAug RandomCropAug
    RandomGrayAug RandomOrderAug RandomSizedCropAug ResizeAug SaturationJitterAug SequentialAug
    center_crop color_normalize copyMakeBorder fixed_crop imdecode imread imresize imrotate
    random_crop random_rotate random_size_crop resize_short scale_down
"""


def test_mxnets_names_are_there_and_public():
    assert set(NAMES.split()) <= set(gpuio.image.__all__)
    for name in gpuio.image.__all__:
        assert getattr(gpuio.image, name) is not None


def test_img_is_image():
    assert gpuio.img is gpuio.image


def test_importing_loads_no_codec_and_no_compiler():
    heavy = ("numba", "PIL", "simplejpeg", "cv2")
    script = f"import sys, gpuio.image; print([n for n in {heavy} if n in sys.modules])"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
