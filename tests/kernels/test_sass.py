"""What kernels of a device cost is counted in their machine code."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

pytest.importorskip("numba.cuda")

from gpuio.kernels.steps import StepKind

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
CODE = """
.text.kernel:
        /*0000*/                   S2R R0, SR_TID.X ;
        /*0010*/               @P0 EXIT ;
        /*0020*/                   MOV R1, RZ ;
.L_x_0:
        /*0030*/                   LDG.E.U8 R2, desc[UR4][R4.64] ;
        /*0040*/               @P1 IADD3 R1, R1, R2, RZ ;
        /*0050*/               @P2 BRA `(.L_x_0) ;
        /*0060*/              @!P0 BRA P3, `(.L_x_1) ;
        /*0070*/                   STG.E.U16 desc[UR4][R6.64], R1 ;
        /*0080*/                   STG.E.U16 desc[UR4][R6.64+0x2], R1 ;
        /*0090*/                   STG.E.U16 desc[UR4][R6.64+0x4], R1 ;
        /*00a0*/                   EXIT ;
.L_x_1:
        /*00b0*/                   STG.E.64 desc[UR4][R6.64], R2 ;
        /*00c0*/                   EXIT ;
.L_x_2:
        /*00d0*/                   BRA `(.L_x_2);
        /*00e0*/                   NOP;
"""


def script(name):
    """A script of benchmarks/ as a module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        module = importlib.import_module(name)
    for one in ("sass", "kernel_sass"):
        sys.modules.pop(one, None)
    return module


def test_the_least_is_counted_that_loads_and_stores_what_is_known():
    sass = script("sass")
    counts = sass.least_counts(sass.blocks_of(CODE), {"LDG.E.U8": 5}, 8)
    least = {"S2R": 1, "EXIT": 2, "MOV": 1, "LDG.E.U8": 5, "IADD3": 5, "BRA": 6, "STG.E.64": 1}
    assert counts == least


def test_what_is_stored_says_which_way_a_thread_went():
    sass = script("sass")
    counts = sass.least_counts(sass.blocks_of(CODE), {"LDG.E.U8": 1}, 6)
    assert counts["STG.E.U16"] == 3
    assert "STG.E.64" not in counts


def test_a_loop_does_not_run_where_it_is_not_entered():
    sass = script("sass")
    with pytest.raises(ValueError, match="no way through the code"):
        sass.least_counts(sass.blocks_of(CODE), {"LDG.E.U8": 1}, 0)


def test_a_thread_may_end_in_the_middle():
    sass = script("sass")
    text = CODE.replace("@P1 IADD3 R1, R1, R2, RZ", "@!P0 STG.E.U8 desc[UR4][R6.64], R2")
    blocks = sass.blocks_of(text.replace("@P2 BRA `(.L_x_0)", "@P2 EXIT"))
    assert sum(sass.least_counts(blocks, {}, 1).values()) == 6


def test_a_jump_to_an_unknown_place_is_an_error():
    sass = script("sass")
    with pytest.raises(ValueError, match="BRX"):
        sass.blocks_of(CODE.replace("MOV R1, RZ", "BRX R2 -0x60"))


def test_a_jump_by_a_table_leads_to_all_of_its_places():
    sass = script("sass")
    jump = 'BRX R2 -0x60 (*"BRANCH_TARGETS .L_x_0,.L_x_1"*)'
    blocks = sass.blocks_of(CODE.replace("MOV R1, RZ", jump))
    assert sum(sass.least_counts(blocks, {}, 8).values()) == 5


def test_functions_that_return_are_no_part_of_the_ways():
    sass = script("sass")
    function = "\t.section\t.text.division\n  /*0000*/  RET.ABS.NODEC R20 0x0 ;\n"
    code = CODE.replace("MOV R1, RZ", "CALL.ABS.NOINC `(division)")
    blocks = sass.blocks_of(function + "\t.section\t.text.kernel\n" + code)
    counts = sass.least_counts(blocks, {"LDG.E.U8": 5}, 8)
    assert counts["CALL.ABS.NOINC"] == 1
    assert "RET.ABS.NODEC" not in counts


def test_opcodes_belong_to_classes():
    sass = script("sass")
    assert sass.class_of("LDG.E.U8") == "load"
    assert sass.class_of("UIMAD.WIDE") == "integer"
    assert sass.class_of("BRA") == "other"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "registers", "most"),
    [(StepKind.LINEAR, 48, 60), (StepKind.CUBIC, 80, 120), (StepKind.AREA, 72, 120)],
    ids=lambda value: getattr(value, "name", None),
)
@pytest.mark.parametrize("arch", [80, 90, 100])
def test_a_batch_of_each_kind_can_be_issued_in_microseconds(arch, kind, registers, most):
    counts = script("kernel_sass")
    if counts.disassembler() is None:
        pytest.skip("nvdisasm is missing: pip install nvidia-cuda-nvdisasm")
    found = counts.count(counts.Usual(kind), arch)
    assert found.registers <= registers
    assert found.spilled == 0
    assert 10 < found.issue_us <= most
    assert 10 < found.memory_us <= 60
    assert kind.name.lower() in counts.table([found])


@pytest.mark.slow
@pytest.mark.parametrize("arch", [80, 90, 100])
def test_colour_jitter_can_be_issued_in_80_microseconds(arch):
    counts = script("kernel_sass")
    if counts.disassembler() is None:
        pytest.skip("nvdisasm is missing: pip install nvidia-cuda-nvdisasm")
    found = counts.count_colors(arch)
    assert found.spilled == 0
    assert 10 < found.issue_us <= 80
