"""The part of the data set that this process reads, as its launcher says.

These are asked in turn, until one knows the part:

1. torch.distributed, if its process group is initialised;
2. RANK and WORLD_SIZE, which torchrun sets;
3. JAX, if jax.distributed is initialised;
4. Ray Train, in a training function;
5. OMPI_COMM_WORLD_RANK and OMPI_COMM_WORLD_SIZE, which Open MPI sets;
6. SLURM_PROCID and SLURM_NTASKS, which srun of Slurm sets.

If none does, there is one part. No framework is imported or started for this: one that the script
has not imported has not been initialised either.
"""

from __future__ import annotations

import logging
import os
import sys
from dataclasses import dataclass
from functools import partial
from typing import Final

from gpuio.core import parameters as p

AUTO: Final = "auto"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Shard:
    """One of the parts of a data set that several readers share.

    Attributes:
        index: The index of this reader, from 0 to count - 1.
        count: The number of readers.
        source: Where these two numbers come from.

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


def resolve_shard(num_parts: int | str, part_index: int | None) -> Shard:
    """The part that two parameters name, or the one that `find_shard` finds.

    Args:
        num_parts: The number of parts, or "auto" to find both numbers.
        part_index: The index of this part; 0 or None with "auto".

    Raises:
        ValueError: A parameter is wrong, or the numbers that were found are.
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
    part = find_shard()
    _log.info("num_parts='auto': %s", part)
    return part


def find_shard() -> Shard:
    """The part of this process, from the first launcher or framework that knows it.

    Raises:
        ValueError: The numbers of that launcher contradict each other.
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


def _jax() -> Shard | None:
    # jax.process_index() reads the same state, but starts a backend, which takes memory.
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
    """The part that two environment variables name; None if neither is set."""
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


_torchrun = partial(_variables, "RANK", "WORLD_SIZE")
_open_mpi = partial(_variables, "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE")
_SOURCES: Final = (_torch_distributed, _torchrun, _jax, _ray_train, _open_mpi, _slurm)
