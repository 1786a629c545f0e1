"""The sparse matrix that iterators return: SciPy's, with a few of MXNet's methods."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gpuio.errors import BackendError

if TYPE_CHECKING:
    _Matrix = Any
else:
    try:
        _Matrix = import_module("scipy.sparse").csr_array
    except ImportError as error:
        raise BackendError("matrices in CSR form need SciPy: pip install scipy") from error


class CSRNDArray(_Matrix):  # type: ignore[misc]  # SciPy has no types
    """A `scipy.sparse.csr_array` with the methods `asnumpy` and `asscipy`."""

    stype = "csr"

    def asnumpy(self) -> npt.NDArray[Any]:
        """All elements, as a dense NumPy array."""
        return np.asarray(self.toarray())

    def asscipy(self) -> Any:
        """The same matrix as SciPy's own class, without a copy."""
        return import_module("scipy.sparse").csr_array(self)
