"""Operations of compiled code on addresses: loads, stores, calls of C functions, stack memory.

Kernels get addresses, not arrays: the same call then serves host memory, device memory and C
libraries, and compiled code holds no pointer of its own, so it can be cached on disk.

What loads, stores and multiplies compiles for CUDA as well; `kernels/simulated.py` has the same
functions in Python.
"""

from __future__ import annotations

import functools
import inspect
from weakref import WeakKeyDictionary

from llvmlite import ir
from numba import types
from numba.core import cgutils, compiler
from numba.extending import _Intrinsic, intrinsic

_INT8, _INT16, _INT32, _INT64 = (ir.IntType(size) for size in (8, 16, 32, 64))
_FLOAT = ir.FloatType()
_GLOBAL = 1  # the address space of device memory, which is quicker than one found out as it runs


def _on_cuda(builder):
    return builder.module.triple.startswith("nvptx")


def _pointer(builder, address, pointee):
    space = _GLOBAL if _on_cuda(builder) else 0
    return builder.inttoptr(address, pointee.as_pointer(space))


@intrinsic(prefer_literal=True)
def stack(typingctx, nbytes):
    """The address (uint64) of `nbytes` bytes, a constant, on the stack of the calling function.

    The bytes are not cleared, aligned to 16, and valid until that function returns. Kernels
    allocate nothing: small arrays are made here, large ones lie in memory that the host provides.
    """
    if not isinstance(nbytes, types.IntegerLiteral):
        return None
    count = nbytes.literal_value

    def codegen(context, builder, signature, args):
        memory = cgutils.alloca_once(builder, ir.ArrayType(_INT8, count))
        memory.align = 16
        return builder.ptrtoint(memory, _INT64)

    return types.uint64(nbytes), codegen


@intrinsic
def fetch_add(typingctx, address, amount):
    """Add `amount` to the int64 at `address` atomically, and return its value before."""

    def codegen(context, builder, signature, args):
        word = _pointer(builder, args[0], _INT64)
        return builder.atomic_rmw("add", word, args[1], "monotonic")

    return types.int64(types.uint64, types.int64), codegen


@intrinsic
def prefetch(typingctx, address):
    """Begin to load the cache line at an address (uint64) of the host, which need not be valid."""

    def codegen(context, builder, signature, args):
        kind = ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t, _INT32, _INT32, _INT32])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        read, keep, data = (ir.Constant(_INT32, value) for value in (0, 3, 1))
        builder.call(function, [builder.inttoptr(args[0], cgutils.voidptr_t), read, keep, data])
        return context.get_dummy_value()

    return types.void(types.uint64), codegen


def _call(name, result, kind):
    """An intrinsic: what the C function at an address (uint64) returns.

    `arguments` is a tuple of 64-bit integers: pointers, sizes, and narrower integers, which the
    calling conventions of x86-64 and AArch64 pass in registers just the same.
    """

    def call(typingctx, function, arguments):
        def codegen(context, builder, signature, args):
            words = cgutils.unpack_tuple(builder, args[1], len(arguments))
            shape = ir.FunctionType(result, [_INT64] * len(words))
            return builder.call(_pointer(builder, args[0], shape), words)

        return kind(types.uint64, arguments), codegen

    call.__name__ = name
    return intrinsic(call)


call = _call("call", _INT32, types.int32)
call_long = _call("call_long", _INT64, types.int64)


def _load(name, word, kind):
    """An intrinsic: the value at an address (uint64)."""

    def load(typingctx, address):
        def codegen(context, builder, signature, args):
            return builder.load(_pointer(builder, args[0], word))

        return kind(types.uint64), codegen

    load.__name__ = name
    return intrinsic(load)


def _store(name, word, kind):
    """An intrinsic: write a value, of which an integer may lose its upper bits, at an address."""

    def store(typingctx, address, value):
        def codegen(context, builder, signature, args):
            at, value = args
            if kind == types.int32 and word != _INT32:
                value = builder.trunc(value, word)
            builder.store(value, _pointer(builder, at, word))
            return context.get_dummy_value()

        return types.void(types.uint64, kind), codegen

    store.__name__ = name
    return intrinsic(store)


load8 = _load("load8", _INT8, types.uint8)
load32 = _load("load32", _INT32, types.int32)
load64 = _load("load64", _INT64, types.uint64)
load_float = _load("load_float", _FLOAT, types.float32)
store8 = _store("store8", _INT8, types.int32)  # the lowest byte of the value
store16 = _store("store16", _INT16, types.uint16)
store32 = _store("store32", _INT32, types.int32)
store64 = _store("store64", _INT64, types.uint64)
store_float = _store("store_float", _FLOAT, types.float32)


def _write_words(builder, address, words):
    """Write int32 one behind the other, at an address that is a multiple of their size."""
    kind = ir.VectorType(_INT32, len(words))
    vector = ir.Constant(kind, ir.Undefined)
    for number, word in enumerate(words):
        vector = builder.insert_element(vector, word, ir.Constant(_INT32, number))
    builder.store(vector, _pointer(builder, address, kind)).align = 4 * len(words)


@intrinsic
def store_two_words(typingctx, address, a, b):
    """Write two int32 at an address that is a multiple of 8."""

    def codegen(context, builder, signature, args):
        _write_words(builder, args[0], args[1:])
        return context.get_dummy_value()

    return types.void(types.uint64, *[types.int32] * 2), codegen


@intrinsic
def store_four_words(typingctx, address, a, b, c, d):
    """Write four int32 at an address that is a multiple of 16."""

    def codegen(context, builder, signature, args):
        _write_words(builder, args[0], args[1:])
        return context.get_dummy_value()

    return types.void(types.uint64, *[types.int32] * 4), codegen


def _narrowed(name, instruction, since):
    """An intrinsic: the 16 bits that an instruction of CUDA makes of a float32."""

    def narrow(typingctx, value, emulated):
        def codegen(context, builder, signature, args):
            value, emulated = args
            if not _on_cuda(builder) or _capability() < since:
                return emulated
            shape = ir.FunctionType(_INT16, [_FLOAT])
            return builder.asm(shape, f"{instruction} $0, $1;", "=h,f", [value], False)

        return types.uint16(types.float32, types.uint16), codegen

    narrow.__name__ = name
    return intrinsic(narrow)


def _capability():
    """Compute capability of the device for which code is compiled."""
    from numba.cuda.core.targetconfig import ConfigStack

    return ConfigStack().top().compute_capability


# What they are given besides the value are its bits as arithmetic.py computes them, which they
# return where there is no such instruction.
narrow_float16 = _narrowed("narrow_float16", "cvt.rn.f16.f32", (5, 0))
narrow_bfloat16 = _narrowed("narrow_bfloat16", "cvt.rn.bf16.f32", (8, 0))


@intrinsic
def bits(typingctx, value):
    """A float32's bits, as uint32."""

    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], _INT32)

    return types.uint32(types.float32), codegen


def _rounded_product(name, word, kind, suffix):
    """An intrinsic: a product, rounded even where it is a term of a sum.

    CUDA's compilers would fuse product and sum into one operation that rounds once.
    """

    def multiply(typingctx, a, b):
        def codegen(context, builder, signature, args):
            if not _on_cuda(builder):
                return builder.fmul(*args)
            shape = ir.FunctionType(word, [word, word])
            function = f"llvm.nvvm.mul.rn.{suffix}"
            return builder.call(
                cgutils.get_or_insert_function(builder.module, shape, function), args
            )

        return kind(kind, kind), codegen

    multiply.__name__ = name
    return intrinsic(multiply)


mul_rn = _rounded_product("mul_rn", _FLOAT, types.float32, "f")
mul_rn_double = _rounded_product("mul_rn_double", ir.DoubleType(), types.float64, "d")


def device_function(*signatures, inline=True):
    """Let kernels of every device call a function, whose code becomes part of theirs.

    Numba's own `inline="always"` copies the function into each caller before types are inferred,
    which takes long and grows with the square of its size; and calls of compiled functions would
    each be optimised by themselves, and on a device take a driver to be compiled.

    Args:
        signatures: Numba's types of result and arguments. Arguments of other types are converted
            to those of the first signature that allows it.
        inline: Whether the CPU's compiler must inline it. If not, that is for LLVM to decide.
    """

    def decorate(function):
        def typing(typingctx, *arguments):
            def codegen(context, builder, signature, args):
                if _on_cuda(builder):
                    return context.compile_internal(builder, function, signature, args)
                made = _part(context, function, signature, inline)
                # None raises: nothing has to look whether one has.
                _, result = context.call_internal_no_propagate(builder, made, signature, args)
                return result

            return _best_signature(typingctx, signatures, arguments), codegen

        first = inspect.Parameter("typingctx", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        parameters = inspect.signature(function).parameters.values()
        typing.__signature__ = inspect.Signature([first, *parameters])
        made = _DeviceFunction(function.__name__, typing)
        made.py_func = function
        functools.update_wrapper(made, function)
        made._register()
        return made

    return decorate


def _best_signature(typingctx, signatures, arguments):
    """That of these very types; else the first one to whose types they can be converted."""
    for signature in signatures:
        if signature.args == arguments:
            return signature
    for signature in signatures:
        pairs = zip(arguments, signature.args, strict=True)
        if all(typingctx.can_convert(given, wanted) is not None for given, wanted in pairs):
            return signature
    return signatures[0]  # which says what does not fit


class _DeviceFunction(_Intrinsic):  # type: ignore[misc]  # no library says that it is final
    """What `device_function` returns: called from Python, it is the plain function."""

    def __call__(self, *args):
        return self.py_func(*args)


# By library of code, then by function and signature, what Numba knows of a compiled function.
_parts: WeakKeyDictionary[object, dict[object, object]] = WeakKeyDictionary()


def kernel_flags(inline):
    """How Numba compiles what kernels consist of: code for its library, and nothing for Python."""
    flags = compiler.Flags()
    flags.error_model, flags.forceinline = "numpy", inline
    flags.no_compile = flags.no_cpython_wrapper = True
    return flags


def _part(context, function, signature, inline):
    """Compile a function into the library of its caller, once; Numba's description of it."""
    library = context.active_code_library
    known = _parts.setdefault(library, {})
    if (function, signature) not in known:
        flags = kernel_flags(inline)
        flags.no_cfunc_wrapper = True
        types_ = (signature.args, signature.return_type)
        made = compiler.compile_internal(
            context.typing_context, context, library, function, *types_, flags, locals={}
        )
        known[function, signature] = made.fndesc
        # Its code may go once all calls are inlined.
        library.get_function(made.fndesc.llvm_func_name).linkage = "linkonce_odr"
    return known[function, signature]
