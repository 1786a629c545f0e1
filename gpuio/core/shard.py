"""Which part of the data set this process reads: asked of what started it.

The first of these that has an answer gives it:

1. torch.distributed, where its process group is initialised;
2. RANK and WORLD_SIZE, which torchrun sets;
3. JAX, where jax.distributed is initialised;
4. Ray Train, in a training function;
5. OMPI_COMM_WORLD_RANK and OMPI_COMM_WORLD_SIZE, which Open MPI sets;
6. SLURM_PROCID and SLURM_NTASKS, which Slurm's srun sets;
7. none: one part.

Nothing is imported or started for this. A framework that the script has not imported has set
nothing up, and one that it has is asked only for what it knows already.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from gpuio.core import parameters as p

AUTO: Final = "auto"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Shard:
    """A part of a data set that several readers share.

    Attributes:
        index: Of this reader, in [0, count).
        count: Readers.
        source: Who says so.

    Raises:
        ValueError: `index` is not in [0, count).
    """

    index: int
    count: int
    source: str

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise ValueError(
                f"{self.source}: rank must be in [0, world size), got rank {self.index} of "
                f"{self.count}: correct that, or give num_parts and part_index as numbers"
            )

    def __str__(self) -> str:
        return f"part_index={self.index} of num_parts={self.count} ({self.source})"


def resolve_shard(num_parts: Any, part_index: Any) -> Shard:
    """The part that two parameters name, or, where `num_parts` is "auto", the one that is found.

    Args:
        num_parts: A number, or "auto".
        part_index: A number; with "auto", 0 or None.

    Raises:
        ValueError: A parameter is wrong, or what was found is.
    """
    if not isinstance(num_parts, str) or num_parts != AUTO:
        count = p.integer("num_parts", num_parts, least=1)
        index = p.integer("part_index", part_index)
        if not 0 <= index < count:
            raise ValueError(f"part_index must be in [0, num_parts), got {index} of {count}")
        return Shard(index, count, "given")
    if part_index is not None and p.integer("part_index", part_index):
        raise ValueError(
            f"part_index must be left out with num_parts='auto', which finds it, got {part_index}"
        )
    part = find()
    _log.info("num_parts='auto': %s", part)
    return part


def find() -> Shard:
    """The part of this process, as the first that knows it says.

    Raises:
        ValueError: What it says makes no sense.
    """
    for ask in _SOURCES:
        part = ask()
        if part is not None:
            return part
    return Shard(0, 1, "no launcher found")


def _torch_distributed() -> Shard | None:
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return None
    return Shard(distributed.get_rank(), distributed.get_world_size(), "torch.distributed")


def _torchrun() -> Shard | None:
    return _variables("RANK", "WORLD_SIZE")


def _jax() -> Shard | None:
    # jax.process_index() would start a backend and take its memory; this is where it looks.
    distributed = sys.modules.get("jax._src.distributed")
    state = getattr(distributed, "global_state", None)
    if state is None or state.client is None:
        return None
    return Shard(state.process_id, state.num_processes, "jax.distributed")


def _ray_train() -> Shard | None:
    train = sys.modules.get("ray.train")
    if train is None:
        return None
    try:
        context = train.get_context()
        return Shard(context.get_world_rank(), context.get_world_size(), "Ray Train")
    except (RuntimeError, DeprecationWarning):  # outside a training function; in Ray Tune
        return None


def _open_mpi() -> Shard | None:
    return _variables("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE")


def _slurm() -> Shard | None:
    part = _variables("SLURM_PROCID", "SLURM_NTASKS")
    if part is not None and part.count > 1 and "SLURM_STEP_ID" not in os.environ:
        _log.warning(
            "%s, but SLURM_STEP_ID is not set: a script that srun did not start is one process, "
            "and nobody reads the other parts",
            part,
        )
    return part


def _variables(rank: str, size: str) -> Shard | None:
    """What two environment variables say, where they are set."""
    found = {name: os.environ[name] for name in (rank, size) if name in os.environ}
    if not found:
        return None
    if len(found) == 1:
        (name,) = found
        missing = size if name == rank else rank
        raise ValueError(
            f"num_parts='auto': {name} is {found[name]!r}, but {missing} is not set: start with a "
            "launcher that sets both, unset it, or give num_parts and part_index as numbers"
        )
    return Shard(p.integer(rank, found[rank]), p.integer(size, found[size]), f"{rank}, {size}")


_SOURCES: Final[tuple[Callable[[], Shard | None], ...]] = (
    _torch_distributed,
    _torchrun,
    _jax,
    _ray_train,
    _open_mpi,
    _slurm,
)
