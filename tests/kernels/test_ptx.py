"""The machine of tests/ptx.py has the integers, roundings and branches of PTX."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from device_code import Memory
from ptx import run

HEAD = """
.visible .entry kernel(
	.param .u64 kernel_param_0,
	.param .u32 kernel_param_1
)
{
	.reg .b32 %r<9>;
	ld.param.u64 	%rd1, [kernel_param_0];
	ld.param.u32 	%r1, [kernel_param_1];
	mov.u32 	%r2, %tid.x;
	mul.wide.u32 	%rd2, %r2, 4;
	add.s64 	%rd3, %rd1, %rd2;
"""
TAIL = """
	st.global.u32 	[%rd3], %r9;
	ret;
}
"""


def results(code, value=0, threads=1):
    """(threads,) uint32 that a kernel leaves in %r9; %r1 is `value`, %r2 the thread."""
    memory, found = Memory(), np.zeros(threads, np.uint32)
    memory.add(found, writable=True)
    run(HEAD + code + TAIL, (1, 1, 1), (threads, 1, 1), (found.ctypes.data, value), memory)
    return found.tolist()


def word(real):
    return int.from_bytes(struct.pack("<f", real), "little")


REAL = "mov.b32 %f1, %r1; "
NAN, MANY = word(float("nan")), word(2.0**24)


@pytest.mark.parametrize(
    ("code", "value", "expected"),
    [
        ("add.s32 %r9, %r1, 1;", 2**32 - 1, 0),
        ("sub.s32 %r9, 0, %r1;", 1, 2**32 - 1),
        ("shr.s32 %r9, %r1, 4;", 2**32 - 16, 2**32 - 1),
        ("shr.u32 %r9, %r1, 4;", 2**32 - 16, 2**28 - 1),
        ("mul.lo.s32 %r9, %r1, %r1;", 2**16 + 1, 2**17 + 1),
        ("mad.lo.s32 %r9, %r1, -3, 7;", 5, 2**32 - 8),
        ("max.s32 %r9, %r1, 0;", 2**32 - 5, 0),
        ("not.b32 %r9, %r1;", 1, 2**32 - 2),
        ("div.u32 %r9, %r1, 3;", 2**32 - 1, (2**32 - 1) // 3),
        ("cvt.u16.u32 %rs1, %r1; mov.b32 %r9, {%rs1, %rs1};", 0x3C00, 0x3C003C00),
        ("prmt.b32 %r9, %r1, 255, 16;", 0xAABBCCDD, 0xDDDDCCDD),
        ("cvt.s64.s32 %rd4, %r1; shr.s64 %rd5, %rd4, 32; cvt.u32.u64 %r9, %rd5;", 2**31, 2**32 - 1),
        ("cvt.rn.f32.s32 %f1, %r1; mov.b32 %r9, %f1;", 2**24 + 1, MANY),
        (REAL + "cvt.rzi.s32.f32 %r9, %f1;", word(-2.9), 2**32 - 2),
        (REAL + "cvt.rzi.s32.f32 %r9, %f1;", word(1e20), 2**31 - 1),
        (REAL + "add.f32 %f2, %f1, 0f3F800000; mov.b32 %r9, %f2;", MANY, MANY),
        (REAL + "cvt.rn.f16.f32 %rs1, %f1; cvt.u32.u16 %r9, %rs1;", word(1.0), 0x3C00),
        (REAL + "cvt.rn.bf16.f32 %rs1, %f1; cvt.u32.u16 %r9, %rs1;", 0x3F808001, 0x3F81),
        (REAL + "cvt.rn.f16.f32 %rs1, %f1; cvt.u32.u16 %r9, %rs1;", 0xFFC00000, 0x7FFF),
        (REAL + "cvt.rn.bf16.f32 %rs1, %f1; cvt.u32.u16 %r9, %rs1;", 0xFFC00000, 0x7FFF),
        (REAL + "setp.gtu.f32 %p1, %f1, 0f00000000; selp.u32 %r9, 1, 0, %p1;", NAN, 1),
        (REAL + "setp.gt.f32 %p1, %f1, 0f3F800000; selp.u32 %r9, 1, 0, %p1;", NAN, 0),
    ],
)  # fmt: skip
def test_an_instruction(code, value, expected):
    assert results(code, value) == [expected]


def test_branches_and_guards():
    code = """
	mov.u32 	%r9, 0;
	mov.u32 	%r3, 0;
$L__BB0_1:
	add.s32 	%r9, %r9, %r3;
	add.s32 	%r3, %r3, 1;
	setp.le.s32 	%p1, %r3, %r2;
	@%p1 bra 	$L__BB0_1;
	@!%p1 add.s32 	%r9, %r9, 100;
"""
    assert results(code, threads=4) == [100, 101, 103, 106]


SHUFFLE = """
	mov.u32 	%r3, 3;
	mov.u32 	%r4, 31;
	mov.u32 	%r5, -1;
	shfl.sync.down.b32 	%r9|%p1, %r2, %r3, %r4, %r5;
"""


def test_a_shuffle_takes_values_from_threads_behind():
    assert results(SHUFFLE, threads=64) == [x + 3 if x % 32 < 29 else x for x in range(64)]


def test_a_shuffle_without_some_of_the_warp_is_an_error():
    code = "mov.u32 %r9, 0; setp.eq.s32 %p2, %r2, 5; @%p2 bra $L__BB0_9;" + SHUFFLE + "$L__BB0_9:"
    with pytest.raises(AssertionError, match="does not shuffle with the others"):
        results(code, threads=32)


def test_an_unknown_instruction_is_an_error():
    with pytest.raises(ValueError, match=r"popc\.b32: this instruction is not known"):
        results("popc.b32 %r9, %r1, 0;")
