"""Where compiled kernels are kept on disk, so that several processes may read and write at once.

Code lies in a folder whose name is a digest of all sources of this package, of the versions of what
compiles them and of the processor, so it is never stale: an edit, another version or another
machine has a folder of its own. The oldest are deleted; a process that wants one compiles again.
Files are written under another name and then renamed, so that nobody reads a part of one.

The folder is made in the package's own `__pycache__` or, where that cannot be written, in the
user's folder of caches; where `NUMBA_CACHE_DIR` is set, there and nowhere else. Code that was put
into the package, as when a container image is made, is also found where that can only be read.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Final

_PACKAGE: Final = Path(__file__).parent
_PREFIX: Final = "gpuio-code-"
_DIGEST_NBYTES: Final = 32
_KEPT: Final = 4
"""Folders of code in one place: those of older sources are removed when a new one is made."""


def source_digest(folder: Path) -> str:
    """A digest of the contents of all Python files in a folder and in folders in it."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(f"{path.relative_to(folder)}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


@cache
def folder_name() -> str:
    """Name of the folder for the code of this package, these compilers and this processor."""
    from llvmlite import binding

    parts = [
        source_digest(_PACKAGE),
        f"{sys.version_info[:2]} {version('numba')} {version('llvmlite')}",
        f"{binding.get_process_triple()} {binding.get_host_cpu_name()}",
        binding.get_host_cpu_features().flatten(),
        *(f"{name}={os.environ.get(name)}" for name in sorted(os.environ) if _matters(name)),
    ]
    return _PREFIX + hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]


def _matters(name: str) -> bool:
    """Whether an environment variable may change code: Numba's do, but for where that is kept."""
    return name.startswith("NUMBA_") and not name.startswith("NUMBA_CACHE")


def places() -> Iterator[Path]:
    """Where the folder may be, the best place first."""
    given = os.environ.get("NUMBA_CACHE_DIR")
    if given:
        yield Path(given)
        return
    yield _PACKAGE / "__pycache__"
    home = os.environ.get("XDG_CACHE_HOME")
    with suppress(RuntimeError):  # there is no home
        yield (Path(home) if home else Path.home() / ".cache") / "gpuio"


def load(name: str) -> bytes | None:
    """What `save` has kept under a name; None where there is nothing that is whole.

    A file may be cut off where a machine lost power, and code of half a function would crash.
    """
    for place in places():
        with suppress(OSError):
            stored = (place / folder_name() / name).read_bytes()
            digest, data = stored[:_DIGEST_NBYTES], stored[_DIGEST_NBYTES:]
            if hashlib.sha256(data).digest() == digest:
                return data
    return None


def save(name: str, data: bytes) -> None:
    """Keep data under a name; where no place can be written, it is not kept."""
    folder = writable_folder()
    if folder is not None:
        with suppress(OSError):  # such as a full disk
            _write(folder / name, hashlib.sha256(data).digest() + data)


def writable_folder() -> Path | None:
    """The folder for code, made if need be; None where none of the `places` can be written."""
    for place in places():
        folder = place / folder_name()
        with suppress(OSError):
            if not folder.exists():
                folder.mkdir(parents=True, exist_ok=True)
                _drop_old(place)
            tempfile.TemporaryFile(dir=folder).close()
            return folder
    return None


def _write(path: Path, data: bytes) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _drop_old(place: Path) -> None:
    """Remove all but the newest folders; a process that uses another one makes it again."""
    folders = sorted(place.glob(f"{_PREFIX}*"), key=_age, reverse=True)
    for folder in folders[_KEPT:]:
        shutil.rmtree(folder, ignore_errors=True)


def _age(folder: Path) -> float:
    with suppress(OSError):
        return folder.stat().st_mtime
    return 0.0
