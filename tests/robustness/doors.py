"""All doors, by name."""

from __future__ import annotations

import random

from . import command_doors, file_doors, iterator_doors, text_doors
from .case import Case, Door

DOORS: dict[str, type[Door]] = {
    door.name: door
    for door in (*iterator_doors.DOORS, *file_doors.DOORS, *command_doors.DOORS, *text_doors.DOORS)
}


def make_case(door: Door, seed: int) -> Case:
    """The case of a door that a seed stands for, the same wherever it is made."""
    return door.make(seed, random.Random(f"{door.name} {seed}"))
