"""Impossible programs are refused by name on every device, before anything runs."""

from __future__ import annotations

import numpy as np
import pytest
from harness import open_device

from gpuio.devices.base import KernelCall
from gpuio.errors import ProgramError
from gpuio.kernels.resample import finish, resample
from gpuio.kernels.steps import COLOR_STEP, NORM, STEP, STEPS, ColorKind, OutputType, StepKind

COUNT, SIDE, ROOM = 3, 8, 8192
DEVICES = pytest.mark.parametrize("name", ["cpu", "simulated"])


class Program:
    """Three valid copies of 8 x 8 RGB pixels into memory of 8192 bytes each, on a device."""

    def __init__(self, name):
        if name == "simulated":
            pytest.importorskip("numba.cuda")
        self.device = open_device(name)
        with self.device.scope():
            self.work = self.device.work()
            self.table = np.zeros(COUNT, STEP)
            self.table["src"] = self.work.upload(np.zeros((SIDE, SIDE, 3), np.uint8))
            self.table["norm"] = self.work.upload(np.zeros(NORM, np.float32))
            self.out = self.device.empty((COUNT, SIDE, SIDE, 3), np.uint8)
        self.table["src_pitch"] = self.table["dst_pitch"] = 3 * SIDE
        for side in ("src_height", "src_width", "dst_height", "dst_width", "rows", "cols"):
            self.table[side] = SIDE
        self.table["taps"] = self.table["scratch"] = 512
        self.channels, self.nbytes = 3, np.full(COUNT, ROOM, np.int64)

    def color(self, *kinds):
        """Upload colour steps for item 1."""
        steps = np.zeros(len(kinds), COLOR_STEP)
        steps["kind"] = kinds
        with self.device.scope():
            self.table["color"][1] = self.work.upload(steps)
        self.table["color_count"][1] = len(kinds)

    def start(self, kernel=resample):
        args = (self.channels,)
        if kernel is finish:
            args = (self.channels, OutputType.UINT8, 1)
            step = np.uint64(self.out.nbytes // COUNT)
            self.table["dst"] = np.uint64(self.device.address(self.out)) + step * np.arange(
                COUNT, dtype=np.uint64
            )
        with self.device.scope():
            self.work.start([KernelCall(kernel, self.table, args)], self.nbytes).join()
            self.device.record().synchronize()


def change(**fields):
    """What sets fields of item 1."""

    def changed(program):
        for name, value in fields.items():
            program.table[name][1] = value

    return changed


def set_channels(program):
    program.channels = 2


def shrink(nbytes):
    def changed(program):
        program.nbytes[1] = nbytes

    return changed


def gray_colors(program):
    program.channels = 1
    program.color(ColorKind.GRAY)


def lost_colors(program):
    program.color(ColorKind.GRAY)
    program.table["color_count"][1] = 2


LINEAR = change(kind=StepKind.LINEAR, dst_height=SIDE + 2)
WRONG = {
    "unknown kind": (change(kind=len(STEPS)), "^item 1: 14 is no kind of step"),
    "negative kind": (change(kind=-2), "^item 1: -2 is no kind of step"),
    "channels": (
        set_channels,
        "^resample: item 0: COPY takes pictures of 1, 3 or 4 channels, found 2",
    ),
    "window below": (change(y=1), "found 8 x 8 pixels at y 1, x 0"),
    "window beside": (
        change(x=-1),
        "8 x 8 pixels, of which the window must be a part, found .* at y 0, x -1",
    ),
    "empty window": (change(rows=0), "found 0 x 8 pixels"),
    "large window": (change(cols=2**31 - 1), "window must be a part"),
    "copy to another size": (
        change(dst_height=9),
        "COPY cannot make 9 x 8 pixels of 8 x 8 with margin 0",
    ),
    "no source": (change(kind=StepKind.LINEAR, src_width=0), "cannot make 8 x 8 pixels of 8 x 0"),
    "area that grows": (change(kind=StepKind.AREA, dst_width=9), "AREA cannot make 8 x 9"),
    "blocks that do not fit": (
        change(kind=StepKind.AREA_INTEGER, dst_width=3, cols=3),
        "AREA_INTEGER cannot make 8 x 3 pixels of 8 x 8",
    ),
    "border of another width": (
        change(kind=StepKind.BORDER, margin=3, dst_height=14),
        "BORDER cannot make 14 x 8 pixels of 8 x 8 with margin 3",
    ),
    "warp without a matrix": (change(kind=StepKind.WARP_LINEAR), "WARP_LINEAR takes a matrix"),
    "warp without weights": (
        change(kind=StepKind.WARP_CUBIC, matrix=8),
        "WARP_CUBIC takes weights, found none",
    ),
    "blur without weights": (change(kind=StepKind.BLUR, margin=1), "BLUR takes weights"),
    "blur too wide": (
        change(kind=StepKind.BLUR, weights=8, margin=12),
        "BLUR takes a margin of 1 to 11 pixels, found 12",
    ),
    "unknown colour": (
        lambda program: program.color(ColorKind.GRAY, len(ColorKind)),
        "has a colour step of another kind than NONE, BRIGHTNESS, .*, GRAY",
    ),
    "negative colour": (lambda program: program.color(-1), "has a colour step of another kind"),
    "colours of one channel": (
        gray_colors,
        "has a colour step of another kind than NONE, BRIGHTNESS$",
    ),
    "colours that are not there": (lost_colors, "has 2 colour steps that were not uploaded"),
    "little memory": (shrink(150), "has too little memory for its window of 8 x 8 pixels"),
    "result outside": (change(dst=ROOM - 100), "has too little memory for its window"),
    "result before": (change(dst=2**64 - 8), "has too little memory for its window"),
    "rows that overlap": (change(dst_pitch=8), "has too little memory for its window"),
    "little memory for tables": (
        lambda program: (LINEAR(program), shrink(600)(program)),
        "LINEAR has too little memory for its tables",
    ),
    "tables outside": (
        lambda program: (LINEAR(program), change(taps=2**64 - 64)(program)),
        "LINEAR has too little memory for its tables",
    ),
    "source outside": (
        change(src=ROOM - 100, src_in_scratch=1),
        "reads a source that is not in its memory",
    ),
}


@DEVICES
@pytest.mark.parametrize("what", WRONG)
def test_an_impossible_step_is_an_error_and_nothing_runs(name, what):
    program = Program(name)
    spoil, message = WRONG[what]
    spoil(program)
    wanted = message if message.startswith("^") else f"^resample: item 1: .*{message}"
    with pytest.raises(ProgramError, match=wanted):
        program.start()


@DEVICES
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"norm": 0}, "takes values to normalize with, found none"),
        ({"scratch": ROOM - 100}, "has too little memory for its window"),
    ],
    ids=str,
)
def test_finish_needs_values_to_normalize_with_and_memory(name, fields, message):
    program = Program(name)
    change(**fields)(program)
    with pytest.raises(ProgramError, match=f"^finish: item 1: COPY {message}"):
        program.start(finish)


@DEVICES
@pytest.mark.parametrize("kernel", [resample, finish], ids=lambda kernel: kernel.__name__)
def test_items_to_skip_may_be_anything(name, kernel):
    program = Program(name)
    change(kind=StepKind.SKIP, rows=99, src_height=-1, norm=0, taps=2**63, margin=-5)(program)
    program.start(kernel)


@DEVICES
def test_a_valid_program_runs(name):
    program = Program(name)
    program.color(ColorKind.NONE, ColorKind.CONTRAST)
    program.start()
    program = Program(name)
    LINEAR(program)
    program.start()
