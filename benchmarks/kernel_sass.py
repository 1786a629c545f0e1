"""What a GPU has to do for a batch, counted in the machine code of its kernels, without a GPU.

    python benchmarks/kernel_sass.py
    python benchmarks/kernel_sass.py --arch 80 90 100 --out kernel_sass.json

It needs nvdisasm (`pip install nvidia-cuda-nvdisasm`, or a CUDA toolkit). Nothing here is measured:
registers and spills are the linker's, instructions are those that must run at least (see
`least_counts`), and a floor is what these take when nothing waits.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from cuda.pathfinder import find_nvidia_binary_utility
from sass import CLASSES, blocks_of, class_of, least_counts

from gpuio.kernels.device import machine_code
from gpuio.kernels.device_color import COLOR
from gpuio.kernels.device_output import NBYTES, PIXELS, PLANES
from gpuio.kernels.device_resize import window_kernel
from gpuio.kernels.steps import TAPS, OutputType, StepKind

IMAGES, SOURCE, SHORTER, CROP = 256, (400, 468), 256, 224
"""The batch: images of that height and width, their shorter edge resized, and a crop of that."""

SMS, SLOTS, CLOCK, BANDWIDTH = 132, 4, 1.755e9, 3.35e12
"""The H100 SXM: multiprocessors, warps' instructions that each issues in a clock, clocks and
bytes of device memory in a second."""
_WARP = 32
_SCALE = min(SOURCE) / SHORTER


@dataclass(frozen=True)
class Counted:
    """What the code of a kernel says.

    Attributes:
        name: Kind, channels, type and layout.
        arch: Compute capability, as 90.
        registers: Of a thread.
        spilled: Bytes of registers that are put into memory.
        shared: Bytes of shared memory.
        per_pixel: Instructions for a pixel at least, by class.
        issue_us: Microseconds in which the batch's instructions can be issued.
        memory_us: Microseconds in which its loads and stores can be issued.
        bytes_per_pixel: Device memory that is read and written.
        bandwidth_us: Microseconds that these take.
    """

    name: str
    arch: int
    registers: int
    spilled: int
    shared: int
    per_pixel: dict[str, float]
    issue_us: float
    memory_us: float
    bytes_per_pixel: float
    bandwidth_us: float


@dataclass(frozen=True)
class Usual:
    """A kernel that is often used.

    Attributes:
        kind: Of its steps.
        channels: Of its pictures.
        output: Type of its values.
        layout: PLANES or PIXELS.
    """

    kind: StepKind
    channels: int = 3
    output: OutputType = OutputType.FLOAT16
    layout: int = PLANES

    @property
    def name(self) -> str:
        """For people."""
        layout = "NHWC" if self.layout == PIXELS else "NCHW"
        return f"{self.kind.name} {self.channels} {self.output.name} {layout}".lower()

    def loads(self, rows: int) -> dict[str, float]:
        """How often opcodes that load run in a thread that makes `rows` rows.

        Levels are loaded one by one; an area average also loads its rows and weights in a loop.
        """
        lines = (rows - 1) * _SCALE  # rows of the source from the first place to the last one
        if self.kind == StepKind.AREA:
            taps = _SCALE + 1  # the mean number of pixels that a cell touches
            levels = (lines + taps) * taps
            return {"LDG.E.U8": self.channels * levels, "LDG.E": rows * (2 * taps + 1)}
        count = int(TAPS[self.kind])
        if rows > 1:  # each row of the source once
            return {"LDG.E.U8": self.channels * count * (lines + count)}
        return {"LDG.E.U8": self.channels * 4 * max(count, 1) ** 2}


USUAL = (
    *(Usual(StepKind.LINEAR, output=output) for output in OutputType),
    *(Usual(StepKind.LINEAR, output=output, layout=PIXELS) for output in OutputType),
    Usual(StepKind.LINEAR, channels=1),
    Usual(StepKind.COPY),
    Usual(StepKind.NEAREST),
    Usual(StepKind.WARP_LINEAR),
    Usual(StepKind.CUBIC),
    Usual(StepKind.AREA),
    Usual(StepKind.LANCZOS),
)


def disassembler() -> str | None:
    """Where nvdisasm is, or None."""
    return find_nvidia_binary_utility("nvdisasm") or shutil.which("nvdisasm")


def disassembled(code: bytes) -> str:
    """Machine code as text.

    Raises:
        FileNotFoundError: There is no nvdisasm.
    """
    program = disassembler()
    if program is None:
        raise FileNotFoundError("nvdisasm is missing: pip install nvidia-cuda-nvdisasm")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(code)
        command = [program, "-c", str(path)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def count(usual: Usual, arch: int) -> Counted:
    """What the code of a kernel for a compute capability, as 90, says."""
    kernel = window_kernel(usual.kind, usual.channels, usual.output, usual.layout, 0)
    code, linker_info = machine_code(kernel, divmod(arch, 10))
    columns, rows = kernel.pixels
    stored = columns * rows * usual.channels * NBYTES[usual.output]
    opcodes = least_counts(blocks_of(disassembled(code)), usual.loads(rows), stored)
    scale = 1.0 if usual.kind == StepKind.COPY else _SCALE
    nbytes = usual.channels * (scale**2 + NBYTES[usual.output])
    return _counted(usual.name, arch, linker_info, opcodes, columns * rows, nbytes)


def count_colors(arch: int) -> Counted:
    """What the code of COLOR says of brightness, contrast and saturation, in two launches.

    The first one brightens, and adds up the grays that contrast needs. A step turns each level of
    a float32 into a whole number once.
    """
    code, linker_info = machine_code(COLOR, divmod(arch, 10))
    blocks = blocks_of(disassembled(code))
    turns, levels = 4, 12  # of a thread: how often it takes four pixels
    opcodes = Counter[str]()
    for steps in 1, 2:
        loads = {"LDG.E": turns * levels / 4, "F2I.TRUNC.NTZ": turns * levels * steps}
        opcodes += least_counts(blocks, loads, turns * levels)
    name = "brightness, contrast, saturation"
    return _counted(name, arch, linker_info, opcodes, turns * levels // 3, nbytes=2 * 2 * 3)


def _counted(
    name: str, arch: int, linker_info: str, opcodes: Mapping[str, float], pixels: int, nbytes: float
) -> Counted:
    """What the opcodes of a thread that makes `pixels` pixels come to."""
    per_pixel = dict.fromkeys([*CLASSES, "other"], 0.0)
    for opcode, times in opcodes.items():
        per_pixel[class_of(opcode)] += times / pixels
    pixels = IMAGES * CROP**2
    warps, seconds = pixels / _WARP, SMS * CLOCK
    return Counted(
        name,
        arch,
        registers=_reported(linker_info, r"Used (\d+) registers"),
        spilled=_reported(linker_info, r"(\d+) bytes spill stores"),
        shared=_reported(linker_info, r"(\d+) bytes smem"),
        per_pixel=per_pixel,
        issue_us=1e6 * warps * sum(per_pixel.values()) / (seconds * SLOTS),
        memory_us=1e6 * warps * (per_pixel["load"] + per_pixel["store"]) / seconds,
        bytes_per_pixel=nbytes,
        bandwidth_us=1e6 * pixels * nbytes / BANDWIDTH,
    )


def _reported(linker_info: str, pattern: str) -> int:
    found = re.search(pattern, linker_info)
    return int(found[1]) if found else 0


def table(rows: Sequence[Counted]) -> str:
    """The counts as a table in Markdown."""
    heads = ["kernel", "sm", "registers", "spilled", "shared", *CLASSES, "other", "all"]
    heads += ["issue us", "load/store us", "bytes", "bandwidth us"]
    lines = [heads, ["---"] * len(heads)]
    for row in rows:
        counts = [*row.per_pixel.values(), sum(row.per_pixel.values())]
        lines.append(
            [
                row.name,
                *map(str, (row.arch, row.registers, row.spilled, row.shared)),
                *(f"{value:.1f}" for value in counts),
                f"{row.issue_us:.0f}",
                f"{row.memory_us:.0f}",
                f"{row.bytes_per_pixel:.1f}",
                f"{row.bandwidth_us:.0f}",
            ]
        )
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--arch", type=int, nargs="+", default=[90], help="such as 80 90 100")
    parser.add_argument("--out", type=Path, help="write the counts as JSON")
    given = parser.parse_args()
    rows = []
    for arch in given.arch:
        rows += [*(count(usual, arch) for usual in USUAL), count_colors(arch)]
    print(table(rows))
    if given.out:
        given.out.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


if __name__ == "__main__":
    main()
