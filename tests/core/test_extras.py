"""What is said where a package is missing."""

from __future__ import annotations

import subprocess
import sys

import pytest

from gpuio.core.extras import explained
from gpuio.errors import BackendError, MissingPackageError

CASES = {
    "gpuio.ImageRecordIter": ("numba", "import gpuio; gpuio.ImageRecordIter"),
    "gpuio.io.ImageRecordIter": ("numba", "from gpuio.io import ImageRecordIter"),
    "resizing": (
        "numba",
        "import gpuio; gpuio.image.imresize(pixels, 2, 2)",
    ),
    "gpuio.torch": ("torch", "from gpuio.torch import RecordDataset"),
    "encoding images": ("PIL", "import gpuio; gpuio.recordio.pack_img((0, 1, 2, 0), pixels)"),
    "bfloat16": ("ml_dtypes", "from gpuio.core.parameters import as_dtype; as_dtype('bfloat16')"),
}
EXTRA = {"torch": "torch"}


@pytest.mark.parametrize("purpose", CASES)
def test_an_error_about_a_missing_package_tells_how_to_install_it(purpose):
    module, code = CASES[purpose]
    script = f"""
import sys
import numpy as np
sys.modules[{module!r}] = None
pixels = np.zeros((4, 4, 3), np.uint8)
try:
    exec({code!r})
except ImportError as error:
    from gpuio import MissingPackageError
    assert isinstance(error, MissingPackageError), repr(error)
    print(error)
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.startswith(f"{purpose} needs ")
    assert f"pip install 'gpuio[{EXTRA.get(module, 'cpu')}]'" in run.stdout


def test_it_is_an_importerror_and_a_backenderror():
    with pytest.raises(ImportError) as raised, explained("this"):
        raise ModuleNotFoundError("No module named 'numba'", name="numba.core")
    assert isinstance(raised.value, MissingPackageError)
    assert isinstance(raised.value, BackendError)
    assert str(raised.value) == (
        "this needs Numba, which is not installed: pip install 'gpuio[cpu]'"
    )


def test_an_import_error_of_another_package_is_passed_on():
    with pytest.raises(ModuleNotFoundError, match="mine") as raised, explained("this"):
        raise ModuleNotFoundError("No module named 'mine'", name="mine")
    assert type(raised.value) is ModuleNotFoundError
