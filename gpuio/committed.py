"""Files that appear under their names only when they are complete."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def committed(*paths: str | os.PathLike[str], tag: str = "") -> Iterator[list[Path]]:
    """Other names for `paths`, with `tag` and `.partial` added, to write to.

    A tag of its own keeps apart what several processes may write at a time: the last one stays.

    On leaving, the files get their own names; after an exception, whichever it is, they are
    removed. The first file is the main one: if the process is killed between two renamings, it
    stands alone, never beside an old one of the others.
    """
    partial = [Path(f"{os.fspath(path)}{tag}.partial") for path in paths]
    try:
        yield partial
        for path in paths[1:]:
            Path(path).unlink(missing_ok=True)
        for source, path in zip(partial, paths, strict=True):
            source.replace(path)
    finally:
        for source in partial:
            source.unlink(missing_ok=True)
