"""PTX in Python: code that was compiled for a GPU, run thread by thread on memory of the caller.

So what Numba makes of a kernel is compared with the CPU where there is no GPU: the widths of its
integers, and the order and rounding of its operations. It knows the instructions that gpuio's
kernels have; another one is an error.

Source: NVIDIA, Parallel Thread Execution ISA 9.0.
"""

from __future__ import annotations

import re
import struct
from functools import cache

import numpy as np

_WIDTHS = {"%rd": 64, "%rs": 16, "%r": 32, "%p": 1, "%fd": 0, "%f": 0}
_BODY = re.compile(r"\.visible \.entry (\S+)\((.*?)\)[^{]*\{(.*)\n\}", re.DOTALL)
_LOAD = re.compile(r"\[(\S+?)(?:\+(-?\d+))?\]")
_COMPARES = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_INTEGERS = {"add": "+", "sub": "-", "and": "&", "or": "|", "xor": "^", "mul": "*", "shl": "<<"}
_REALS = {"add": "+", "sub": "-", "mul": "*", "div": "/"}
_FORMATS = {"u8": "<B", "u16": "<H", "u32": "<I", "u64": "<Q", "s32": "<i", "f32": "<f"}
_LANES = 32


def _signed(value, width):
    value &= (1 << width) - 1
    return value - (1 << width) if value >> (width - 1) else value


def _truncated(value, width):
    """A float as a whole number towards 0, at most what `width` bits hold."""
    edge = 1 << (width - 1)
    return 0 if np.isnan(value) else int(min(max(float(np.trunc(value)), -edge), edge - 1))


def _float16(value):
    return 0x7FFF if np.isnan(value) else int(np.float16(value).view(np.uint16))


def _bfloat16(value):
    if np.isnan(value):
        return 0x7FFF
    word = int(np.float32(value).view(np.uint32))
    return (word + 0x7FFF + (word >> 16 & 1)) >> 16


def _permuted(a, b, selector):
    values = (a | b << 32).to_bytes(8, "little")
    assert not selector & 0x8888, "a sign that is repeated is not known here"
    return sum(values[selector >> 4 * k & 7] << 8 * k for k in range(4))


def _quotient(a, b):
    return a // b if b > 0 else 0


class _Function:
    """The Python text of a kernel, instruction by instruction."""

    def __init__(self, text):
        name, parameters, body = _BODY.search(text).groups()
        self.parameters = re.findall(rf"{re.escape(name)}_param_\d+", parameters)
        body = re.sub(r"//.*", "", body)
        parts = [part.strip() for part in re.split(r";|(?<=:)\s", body) if part.strip()]
        parts = [part for part in parts if not part.startswith((".reg", ".local", ".pragma"))]
        blocks = [[]]
        self.labels = {}
        for part in parts:
            if part.endswith(":"):
                blocks.append([])
                self.labels[part[:-1]] = len(blocks) - 1
            else:
                blocks[-1].append(part)
        self.lines = ["def kernel(place, parameters, memory):", " n = 0", " while True:"]
        for number, block in enumerate(blocks):
            self.lines.append(f"  if n == {number}:")
            for part in block:
                self._statement(re.sub(r"\s+", " ", part))
            self.lines.append(f"   n = {number + 1}")
        self.lines.append("  yield")  # never reached: it lets threads wait
        self.source = "\n".join(self.lines)

    def _statement(self, part):
        guard = ""
        if part.startswith("@"):
            predicate, part = part[1:].split(" ", 1)
            guard = (
                f"if {'not ' if predicate[0] == '!' else ''}{self._name(predicate.lstrip('!'))}: "
            )
        opcode, _, operands = part.partition(" ")
        operands = re.findall(r"\{[^}]*\}|\[[^\]]*\]|[^,\s]+", operands)
        if opcode in ("bra", "bra.uni"):
            self.lines.append(f"   {guard}n = {self.labels[operands[0]]}; continue")
        elif opcode == "ret":
            self.lines.append(f"   {guard}return")
        elif opcode.startswith("st."):
            self.lines.append(f"   {guard}{self._store(opcode, *operands)}")
        else:
            to, width = operands[0], self._width(operands[0])
            value = self._value(opcode.split("."), operands[1:], width)
            if width > 1:
                value = f"({value}) & {(1 << width) - 1}"
            self.lines.append(f"   {guard}{self._name(to.split('|')[0])} = {value}")

    def _width(self, register):
        return next(width for start, width in _WIDTHS.items() if register.startswith(start))

    def _name(self, operand):
        if operand.startswith(("0f", "0d")):
            kind, nbytes = ("float32", "<f") if operand[1] == "f" else ("float64", "<d")
            number = struct.unpack(nbytes, bytes.fromhex(operand[2:])[::-1])[0]
            return f"np.{kind}({number!r})" if np.isfinite(number) else f"np.{kind}('{number}')"
        if special := re.fullmatch(r"%(tid|ctaid|ntid|nctaid)\.([xyz])", operand):
            return f"place[{special[1]!r}][{'xyz'.index(special[2])}]"
        return operand.replace("%", "v_")

    def _as(self, operand, kind):
        """An operand as a number of a type."""
        name = self._name(operand)
        if kind[0] == "s":
            return f"signed({name}, {kind[1:]})"
        return f"({name} & {(1 << int(kind[1:])) - 1})" if kind[0] in "ub" else name

    def _value(self, opcode, operands, width):
        base, kind = opcode[0], opcode[-1]
        names = [self._as(operand, kind) for operand in operands if operand[0] not in "[{"]
        if kind == "pred":
            a, b = (*map(self._name, operands), "")[:2]
            return {
                "mov": f"bool({a})", "not": f"not {a}", "and": f"{a} and {b}",
                "or": f"{a} or {b}", "xor": f"{a} != {b}",
            }[base]  # fmt: skip
        if base == "ld":
            return self._load(opcode, operands)
        if base == "cvt":
            return self._converted(opcode[1:], operands[0])
        if base == "setp":
            compare = opcode[1]
            if compare.endswith("u") and kind[0] == "f":  # true of a NaN
                return f"not {names[0]} {_COMPARES[_OPPOSITE[compare[:-1]]]} {names[1]}"
            return f"{names[0]} {_COMPARES[compare]} {names[1]}"
        if base == "selp":
            a, b = (self._name(operand) for operand in operands[:2])
            return f"{a} if {self._name(operands[2])} else {b}"
        if base == "mov":
            return self._moved(operands[0], kind, width)
        if base in ("min", "max"):
            return f"{base}({names[0]}, {names[1]})"
        if base == "shfl":
            value, delta = (self._name(operand) for operand in operands[:2])
            return f"yield {value}, {delta}"
        if base == "atom":
            at, _ = self._address(operands[0])
            return f"fetch_add(memory, {at}, {self._name(operands[1])})"
        if base == "fma":
            a, b, c = names
            return f"np.{'float32' if kind == 'f32' else 'float64'}(np.longdouble({a}) * {b} + {c})"
        if base == "rcp":
            return f"1 / {names[0]}"
        if kind[0] == "f":
            return f"{names[0]} {_REALS[base]} {names[1]}"
        if base in ("shl", "shr"):
            shift = f"min({self._name(operands[1])}, 64)"
            return f"{names[0]} {'<<' if base == 'shl' else '>>'} {shift}"
        if base == "mad":
            return f"{names[0]} * {names[1]} + {names[2]}"
        if base == "mul" and opcode[1] == "hi":
            return f"{names[0]} * {names[1]} >> {kind[1:]}"
        if base == "div":
            return f"quotient({names[0]}, {names[1]})"
        if base in ("not", "neg"):
            return f"{'~' if base == 'not' else '-'}{names[0]}"
        if base == "prmt":
            return f"permuted({', '.join(map(self._name, operands))})"
        if base not in _INTEGERS:
            raise ValueError(f"{'.'.join(opcode)}: this instruction is not known here")
        return f"{names[0]} {_INTEGERS[base]} {names[1]}"

    def _converted(self, kinds, operand):
        after, before = kinds[-2:]
        value = self._as(operand, before)
        if kinds[0] in ("rmi", "rpi"):
            return f"np.{'floor' if kinds[0] == 'rmi' else 'ceil'}({value})"
        if kinds[0] == "rzi":
            return f"truncated({value}, {after[1:]})"
        if after == "bf16":
            return f"bfloat16({value})"
        if after == "f16":
            return f"float16({value})"
        if after[0] == "f":
            wide = f"np.{'uint64' if before == 'u64' else 'int64'}({value})"
            return f"np.float{after[1:]}({value if before[0] == 'f' else wide})"
        return value

    def _moved(self, operand, kind, width):
        if operand[0] == "{":
            low, high = re.findall(r"%\w+", operand)
            return f"{self._name(low)} | {self._name(high)} << 16"
        name = self._name(operand)
        if kind == "b32" and operand.startswith("%f"):
            return f"int({name}.view(np.uint32))"
        if kind == "b32" and not width:
            return f"np.uint32({name}).view(np.float32)"
        return name

    def _address(self, operand):
        register, offset = _LOAD.fullmatch(operand).groups()
        return f"{self._name(register)} + {offset or 0}", register

    def _load(self, opcode, operands):
        at, register = self._address(operands[0])
        if opcode[1] == "param":
            return f"parameters[{self.parameters.index(register)}]"
        format_ = _FORMATS[opcode[-1]]
        value = f"struct.unpack({format_!r}, memory.load({at}, {struct.calcsize(format_)}))[0]"
        return f"np.float32({value})" if opcode[-1] == "f32" else value

    def _store(self, opcode, address, value):
        at, _ = self._address(address)
        format_ = _FORMATS[opcode.split(".")[-1]]
        mask = "" if format_ == "<f" else f" & {256 ** struct.calcsize(format_) - 1}"
        values = [self._name(name) + mask for name in re.findall(r"[^{},\s]+", value)]
        whole = f"'<{len(values)}{format_[1]}'"
        return f"memory.store({at}, struct.pack({whole}, {', '.join(values)}))"


_OPPOSITE = {"gt": "le", "ge": "lt", "lt": "ge", "le": "gt", "eq": "ne", "ne": "eq"}


def _fetch_add(memory, address, amount):
    (before,) = struct.unpack("<Q", memory.load(address, 8))
    memory.store(address, struct.pack("<Q", (before + amount) % 2**64))
    return before


@cache
def _compiled(text):
    scope = {
        "np": np, "struct": struct, "signed": _signed, "truncated": _truncated,
        "float16": _float16, "bfloat16": _bfloat16, "permuted": _permuted, "quotient": _quotient,
        "fetch_add": _fetch_add,
    }  # fmt: skip
    exec(compile(_Function(text).source, "<ptx>", "exec"), scope)
    return scope["kernel"]


def run(text, grid, block, arguments, memory):
    """Run a kernel to its end.

    Args:
        text: PTX with one entry.
        grid: Blocks along x, y and z.
        block: Threads of a block.
        arguments: Whole numbers.
        memory: As `gpuio.kernels.simulated.Memory`.
    """
    kernel = _compiled(text)
    sizes = {"ntid": block, "nctaid": grid}
    places = [(x, y, z) for z, y, x in np.ndindex(*block[::-1])]
    for ctaid in np.ndindex(*grid):
        threads = [
            kernel({"tid": tid, "ctaid": ctaid, **sizes}, arguments, memory) for tid in places
        ]
        for first in range(0, len(threads), _LANES):
            with np.errstate(all="ignore"):  # what is infinite or no number is the kernel's affair
                _run_warp(threads[first : first + _LANES])


def _run_warp(threads):
    """Run threads that shuffle with each other, or not at all, to their end."""
    given = [next(thread, None) for thread in threads]
    while any(one is not None for one in given):
        assert None not in given, "a thread of a warp does not shuffle with the others"
        values = [value for value, _ in given]
        sources = [
            lane + delta if lane + delta < _LANES else lane for lane, (_, delta) in enumerate(given)
        ]
        given = [_sent(threads[lane], values[source]) for lane, source in enumerate(sources)]


def _sent(thread, value):
    try:
        return thread.send(value)
    except StopIteration:
        return None
