"""Numba kernels, each written once for CPU and CUDA.

Compiled code of the CPU is kept on disk as code_cache.py says. That of CUDA is kept by numba-cuda,
which looks only at the file of the outermost function to see whether it is still good, while these
call each other across files: so whenever any file of this package or of a folder in it changes, all
of what numba-cuda has kept is dropped here.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


def _drop_stale_code(folder: Path) -> None:
    sources = sorted(folder.rglob("*.py"))
    stats = [source.stat() for source in sources]
    state = "\n".join(
        f"{s.relative_to(folder)} {t.st_mtime_ns} {t.st_size}"
        for s, t in zip(sources, stats, strict=True)
    )
    cache = folder / "__pycache__"
    stamp = cache / "sources.txt"
    with suppress(OSError):  # a folder that cannot be written holds no cached code either
        if stamp.exists() and stamp.read_text() == state:
            return
        for kind in ("*.nbi", "*.nbc"):
            for cached in folder.rglob(f"__pycache__/{kind}"):
                cached.unlink(missing_ok=True)
        cache.mkdir(exist_ok=True)
        stamp.write_text(state)


_drop_stale_code(Path(__file__).parent)
