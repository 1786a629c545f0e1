"""All doors, by name."""

from __future__ import annotations

import random

from . import command_doors, file_doors, iterator_doors, jpeg_door, text_doors
from .case import Case, Door

DOORS: dict[str, type[Door]] = {
    door.name: door
    for module in (iterator_doors, file_doors, command_doors, text_doors, jpeg_door)
    for door in module.DOORS
}


def make_case(door: Door, seed: int) -> Case:
    """The case of a door that a seed stands for, the same wherever it is made."""
    return door.make(seed, random.Random(f"{door.name} {seed}"))
