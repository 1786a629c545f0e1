"""Files that appear under their names only when they are complete."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from gpuio.location import is_url

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuio.remote.output import Upload


@contextmanager
def committed(*paths: str | os.PathLike[str], tag: str = "") -> Iterator[list[Path | Upload]]:
    """Other names for `paths`, with `tag` and `.partial` added, to write to.

    Of a file at a URL, what is to be opened and written instead.

    A tag of its own keeps apart what several processes may write at a time: the last one stays.

    On leaving, the files get their own names; after an exception, whichever it is, they are
    removed. The first file is the main one: if the process is killed between two renamings, it
    stands alone, never beside an old one of the others.
    """
    partial = [_partial(os.fspath(path), tag) for path in paths]
    try:
        yield partial
        for path in paths[1:]:
            _remove(os.fspath(path))
        for source, path in zip(partial, paths, strict=True):
            if isinstance(source, Path):
                source.replace(path)
            else:
                source.commit()
    except BaseException:
        for source in partial:
            if not isinstance(source, Path):
                source.discard()
        raise
    finally:
        for source in partial:
            if isinstance(source, Path):
                source.unlink(missing_ok=True)


def _partial(path: str, tag: str) -> Path | Upload:
    if not is_url(path):
        return Path(f"{path}{tag}.partial")
    from gpuio.remote.output import Upload

    return Upload(path)


def _remove(path: str) -> None:
    if not is_url(path):
        Path(path).unlink(missing_ok=True)
        return
    from gpuio.remote.output import remove

    remove(path)
