"""Keep what the real mxnet.image answers, for tests/mxnet/image/test_golden.py.

    /path/to/python-with-mxnet tests/compat/make_image_golden.py

Needs MXNet 1.9.1, which in turn needs an old NumPy, and OpenCV to encode JPEGs. The calls are those
of image_recipe.py. Besides their results the file holds JPEGs, and how they were decoded.
"""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

import cv2
import mxnet
import numpy as np
from image_recipe import library, picture, png, run, save, turned

GOLDEN = Path(__file__).parents[1] / "mxnet" / "image" / "golden.npz"


def encoded():
    """Images by name, as bytes."""
    pixels = picture(17, 22)[..., ::-1]
    files = {"png": png(picture(9, 11))}
    for name, options in {
        "jpeg": [cv2.IMWRITE_JPEG_QUALITY, 90],
        "progressive": [cv2.IMWRITE_JPEG_PROGRESSIVE, 1],
    }.items():
        files[name] = cv2.imencode(".jpg", pixels, options)[1].tobytes()
    files["gray jpeg"] = cv2.imencode(".jpg", pixels[..., 1])[1].tobytes()
    files["bmp"] = cv2.imencode(".bmp", pixels[:7, :5])[1].tobytes()
    files["gray png"] = cv2.imencode(".png", pixels[..., 1])[1].tobytes()
    files["png with alpha"] = cv2.imencode(".png", picture(9, 11, 4))[1].tobytes()
    files["png of 16 bits"] = cv2.imencode(".png", picture(9, 11).astype(np.uint16) * 257)[
        1
    ].tobytes()
    return files


def main():
    """Write the file."""
    array = lambda values: mxnet.nd.array(values, dtype=values.dtype)  # noqa: E731
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = run(library(mxnet.image, mxnet.recordio, array), folder)
        kept = {"call " + name: value for name, value in results.items()}
        path = Path(folder) / "image"
        for name, data in encoded().items():
            kept["file " + name] = np.frombuffer(data, np.uint8)
            path.write_bytes(data)
            for flag in (0, 1):
                for rgb in (True, False):
                    got = mxnet.image.imdecode(data, flag, rgb).asnumpy()
                    read = mxnet.image.imread(str(path), flag, rgb).asnumpy()
                    assert (got == read).all(), name
                    if rgb or name == "jpeg":
                        kept[f"decoded {flag} {rgb:d} {name}"] = got
        jpeg = kept["file jpeg"].tobytes()
        for orientation in range(1, 9):
            for jfif in (True, False):
                path.write_bytes(turned(jpeg, orientation, jfif=jfif))
                for flag in (0, 1):
                    got = mxnet.image.imdecode(path.read_bytes(), flag).asnumpy()
                    assert (got == mxnet.image.imread(str(path), flag).asnumpy()).all()
                    kept[f"turned {orientation} {jfif:d} {flag}"] = got[::4, ::4]
    save(GOLDEN, kept)
    print(f"{len(kept)} results, {GOLDEN.stat().st_size} bytes")


if __name__ == "__main__":
    main()
