"""Machine code of NVIDIA GPUs as text: its blocks, and how often each instruction runs at least."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import LinearConstraint, milp

_LABEL = re.compile(r"^(\.L_x_\d+):")
_LINE = re.compile(r"/\*[0-9a-f]{4,}\*/\s+(?:(@!?U?P\w+)\s+)?([A-Z0-9_.]+)\s*([^;]*);")
_TARGET = re.compile(r"\((\.L_x_\d+)\)")
_TARGETS = re.compile(r"[ ,](\.L_x_\d+)")  # of a jump by a table
_PREDICATE = re.compile(r"^!?U?P\d")
_STORE = re.compile(r"^STG\.E(?:\.(U8|U16|64|128))?$")
_STORE_BYTES = {"U8": 1, "U16": 2, None: 4, "64": 8, "128": 16}
_END = -1  # what follows the last block of a thread
_TURNS = 64  # of a loop that is entered once, at most

CLASSES = {
    "integer": "IADD3 IADD VIADD IMAD IMNMX VIMNMX ISETP LEA LOP3 SHF SHL SHR PRMT SEL IABS "
    "PLOP3 BMSK SGXT POPC FLO",
    "float": "FADD FMUL FFMA FMNMX FSETP FSEL FCHK MUFU DADD DMUL DFMA DSETP",
    "conversion": "I2F I2FP F2I F2F F2FP I2I FRND",
    "load": "LDG LDS LDL",
    "store": "STG STS STL ATOMG ATOMS RED",
}
"""Opcodes of each class; what is in none of them moves values, or has to do with control."""
_CLASS_OF = {opcode: name for name, text in CLASSES.items() for opcode in text.split()}


@dataclass
class Block:
    """Instructions that run one after the other.

    Attributes:
        opcodes: Their names, such as "LDG.E.U8".
        next: Blocks that may follow, by their place in the code; _END where a thread may end.
    """

    opcodes: list[str] = field(default_factory=list)
    next: list[int] = field(default_factory=list)

    @property
    def stored(self) -> int:
        """Bytes that it writes to device memory."""
        stores = filter(None, map(_STORE.match, self.opcodes))
        return sum(_STORE_BYTES[store[1]] for store in stores)


def class_of(opcode: str) -> str:
    """The class of an opcode in CLASSES, or "other"."""
    name = opcode.split(".")[0]
    uniform = name.removeprefix("U")  # of the whole warp
    return _CLASS_OF.get(name) or _CLASS_OF.get(uniform, "other")


def blocks_of(text: str) -> list[Block]:
    """The blocks of the one kernel in what nvdisasm prints.

    Functions that it calls and that return, such as a division, are no part of its ways.

    Raises:
        ValueError: It jumps to a place that is found only as it runs.
    """
    blocks, labels, jumps = [Block()], dict[str, int](), list[tuple[int, str]]()
    falls = True  # whether the block before runs into this one
    functions = text.split(".section\t.text.")
    text = next((function for function in functions if " EXIT" in function), text)

    def begin() -> None:
        nonlocal falls
        if blocks[-1].opcodes:
            blocks.append(Block())
            if falls:
                blocks[-2].next.append(len(blocks) - 1)
        falls = True

    for line in text.splitlines():
        if label := _LABEL.match(line.strip()):
            begin()
            labels[label[1]] = len(blocks) - 1
        elif found := _LINE.search(line):
            guard, opcode, operands = found.groups()
            if not falls:
                begin()
            blocks[-1].opcodes.append(opcode)
            name, always = opcode.split(".")[0], guard is None and not _PREDICATE.match(operands)
            # A call of a place in the kernel leads to where all goes on.
            targets = _TARGET.findall(operands) if name in ("BRA", "CALL") else []
            if name in ("BRX", "JMX", "RET"):
                targets = _TARGETS.findall(operands)
                if not targets:
                    raise ValueError(f"{opcode}: where it leads is not in the text")
            jumps += [(len(blocks) - 1, target) for target in targets]
            if name == "EXIT":
                blocks[-1].next.append(_END)
            if targets or name == "EXIT":
                falls = not always
                if falls:
                    begin()
    for place, to in jumps:
        blocks[place].next.append(labels[to])
    return blocks


def least_counts(blocks: Sequence[Block], loads: Mapping[str, float], stored: int) -> Counter[str]:
    """How often each opcode runs at least in a thread that loads and stores what is known.

    Which way a thread goes is left open: of all ways through the code that load and store so much,
    also those that no data would lead to, the shortest counts. An instruction counts whether its
    predicate is true or false.

    Args:
        blocks: Of `blocks_of`.
        loads: How often opcodes run at least, such as {"LDG.E.U8": 48}.
        stored: Bytes that are written to device memory.

    Raises:
        ValueError: No way does that.

    Source: Li and Malik, Performance analysis of embedded software using implicit path
    enumeration, 1995.
    """
    edges = [(place, target) for place, block in enumerate(blocks) for target in block.next]
    places = range(len(blocks))
    leaves = np.array([[float(edge[0] == place) for edge in edges] for place in places])
    enters = np.array([[float(edge[1] == place) for edge in edges] for place in places])
    sizes, stores = np.array([(len(block.opcodes), block.stored) for block in blocks]).T
    first = np.eye(1, len(blocks))[0]
    # As many ways lead from a block as to it, and one more from the first.
    limits = [LinearConstraint(leaves - enters, first, first)]
    limits.append(LinearConstraint(stores @ leaves, stored, stored))
    for opcode, times in loads.items():
        each = np.array([block.opcodes.count(opcode) for block in blocks])
        limits.append(LinearConstraint(each @ leaves, times))
    for head in {target for place, target in edges if _END < target <= place}:
        back = np.array([float(edge[1] == head <= edge[0]) for edge in edges])
        limits.append(
            LinearConstraint(_TURNS * (enters[head] - back) - back, -_TURNS * first[head])
        )
    found = milp(sizes @ leaves, constraints=limits, integrality=np.ones(len(edges)))
    if not found.success:
        raise ValueError(f"no way through the code loads {dict(loads)} and stores {stored} bytes")
    counts = Counter[str]()
    for block, times in zip(blocks, (leaves @ found.x).round().astype(int).tolist(), strict=True):
        for opcode in block.opcodes if times else ():
            counts[opcode] += times
    return counts
