"""The passes of a device: in Python they give the CPU's bits; compiled they are lean."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import product

import numpy as np
import numpy.testing as npt
import pytest
from device_code import CAPABILITIES, GUARD, POISON, Memory, check_code, guarded, noise
from hypothesis import given, settings
from hypothesis import strategies as st
from ptx import run as run_ptx

pytest.importorskip("numba.cuda")

from gpuio.kernels import device_output, device_resize, device_taps, simulated
from gpuio.kernels.device import ptx
from gpuio.kernels.device_output import PIXELS, PLANES, SCRATCH, window, window_grid
from gpuio.kernels.device_resize import STRIPS, window_kernel
from gpuio.kernels.device_taps import TAPS_ON_DEVICE, taps_grid
from gpuio.kernels.resample import finish, lend_memory, resample
from gpuio.kernels.steps import NORM, STEP, OutputType, StepKind
from gpuio.kernels.tables import tabulate, tap_bytes
from gpuio.kernels.warp import weight_table
from gpuio.transforms.geometry import ResampleChain

OUTPUTS = {
    "float32": (OutputType.FLOAT32, np.float32),
    "float16": (OutputType.FLOAT16, np.uint16),
    "bfloat16": (OutputType.BFLOAT16, np.uint16),
    "int8": (OutputType.INT8, np.int8),
    "uint8": (OutputType.UINT8, np.uint8),
}
RESIZES = (
    StepKind.NEAREST,
    StepKind.LINEAR,
    StepKind.CUBIC,
    StepKind.AREA,
    StepKind.LANCZOS,
    StepKind.AREA_LINEAR,
    StepKind.AREA_INTEGER,
)
WARPS = (StepKind.WARP_NEAREST, StepKind.WARP_LINEAR, StepKind.WARP_CUBIC, StepKind.WARP_LANCZOS)
KINDS = (StepKind.COPY, *RESIZES, *WARPS, StepKind.BORDER, StepKind.BLUR)
KEY = (StepKind.LINEAR, 3, OutputType.FLOAT16, PLANES, 0)
FOR_TRAINING = [(8, 0), (9, 0)]  # devices
CHANNELS = pytest.mark.parametrize("channels", [1, 3, 4])


@cache
def code(kernel):
    return ptx(kernel, (9, 0))


def launch(kernel, table, arguments, memory, block, grid_of, *, compiled):
    """Run a kernel over a table in Python, or as it was compiled."""
    kernel = replace(kernel, block=block)
    grid, arguments = grid_of(kernel, table), (table.ctypes.data, *arguments)
    if compiled:
        run_ptx(code(kernel), grid, block, arguments, memory)
    else:
        simulated.simulate(kernel, grid, arguments)


def run(memory, table, *key, block=(2, 4, 1), compiled=False):
    """Launch the kernel of each kind of rows, its tables made before."""
    taps, resize = device_taps, device_resize
    if not compiled:
        modules = simulated.load(memory).modules
        taps, resize = (modules[f"gpuio.kernels.device_{name}"] for name in ("taps", "resize"))
    channels, mean_image = key[0], int(table["mean_image"].any())
    table = table[table["kind"] != StepKind.SKIP]
    nbytes = tap_bytes(table)
    space = memory.add(np.full(int(nbytes.sum()) + 16, POISON, np.uint8), writable=True)
    at = -(-space.ctypes.data // 16) * 16
    table["taps"] = np.uint64(at) + (np.cumsum(nbytes) - nbytes).astype(np.uint64)
    on_host = table[~np.isin(table["kind"], TAPS_ON_DEVICE)]
    on_host["taps"] -= np.uint64(4096)  # as if the tables of the device were elsewhere
    tabulate(len(on_host), 1, on_host.ctypes.data, channels, 4096)
    if len(table):
        memory.add(table)
        args = (channels,), memory, (32, 1, 1), taps_grid
        launch(taps.TAPS, table, *args, compiled=compiled)
    for kind in np.unique(table["kind"]).tolist():
        rows = memory.add(table[table["kind"] == kind])
        kernel = resize.window_kernel(kind, *key, mean_image)
        launch(kernel, rows, (), memory, block, window_grid, compiled=compiled)


def sizes(kind, before, after):
    """Sizes that suit a kind, near those given."""
    if kind in (StepKind.COPY, StepKind.BLUR):
        return before, before
    if kind == StepKind.AREA:
        return tuple(np.maximum(before, after)), tuple(np.minimum(before, after))
    if kind == StepKind.AREA_INTEGER:
        small = tuple(np.minimum(before, after))
        return tuple(s * (1 + b % 3) for s, b in zip(small, before, strict=True)), small
    return before, after


class Pictures:
    """One STEP row for each kind, with a picture of its own, and what the rows point to."""

    def __init__(self, kinds, channels, before=(7, 9), after=(6, 5), box=None, seed=0, **fields):
        self.memory, self.channels = Memory(), channels
        rng = np.random.default_rng(seed)
        count = len(kinds)
        self.table = np.zeros(count, STEP)
        self.images = []
        margin = 2
        for row, kind in zip(self.table, kinds, strict=True):
            (height, width), size = sizes(kind, before, after)
            if kind == StepKind.BORDER:
                size = height + 2 * margin, width + 2 * margin
            image = self.memory.add(noise((height, width + 1, channels), seed)[:, :width].copy())
            self.images.append(image)
            row["kind"], row["src"], row["src_pitch"] = kind, image.ctypes.data, image.strides[0]
            row["src_height"], row["src_width"] = height, width
            row["dst_height"], row["dst_width"] = size
            row["margin"], row["fill"] = margin, 128
            if kind == StepKind.CUBIC:
                row["fill"] = seed % 2
            y, x, rows, cols = box or (1, 0, 4, 5)
            y, x = min(y, size[0] - 1), min(x, size[1] - 1)
            row["y"], row["x"] = y, x
            row["rows"], row["cols"] = min(rows, size[0] - y), min(cols, size[1] - x)
        angle = rng.uniform(-1, 1, (count, 6)) * [1.2, 1.2, 4, 1.2, 1.2, 4]
        self.matrix = np.ascontiguousarray(angle)  # read on the host alone
        self.table["matrix"] = self.matrix.ctypes.data + 48 * np.arange(count)
        self.weights = [self.memory.add(weight_table(taps)) for taps in (4, 8)]
        for kind, weights in zip(
            (StepKind.WARP_CUBIC, StepKind.WARP_LANCZOS), self.weights, strict=True
        ):
            self.table["weights"][self.table["kind"] == kind] = weights.ctypes.data
        blurs = self.table["kind"] == StepKind.BLUR
        taps = rng.dirichlet(np.ones(2 * margin + 1), (count, 2)).astype(np.float32)
        self.taps = self.memory.add(taps)
        self.table["weights"][blurs] = (taps.ctypes.data + taps.strides[0] * np.arange(count))[
            blurs
        ]
        self.norm = self.memory.add(rng.uniform(-3, 100, (count, NORM)).astype(np.float32))
        self.table["norm"] = self.norm.ctypes.data + 4 * NORM * np.arange(count)
        for name, value in fields.items():
            self.table[name] = value

    def sample(self, how):
        """The windows of all rows as bytes, by the device or `resample`."""
        table = self.table.copy()
        pitch = table["cols"].astype(np.int64) * self.channels + 3
        nbytes = pitch * table["rows"]
        out, whole = guarded(int(nbytes.sum()))
        table["dst"] = out.ctypes.data + np.cumsum(nbytes) - nbytes
        table["dst_pitch"] = pitch
        if how == "cpu":
            lent = lend_memory(table, self.channels)
            resample(len(table), 1, table.ctypes.data, self.channels)
            del lent
        else:
            self.memory.add(out, writable=True)
            key = self.channels, OutputType.UINT8, SCRATCH
            run(self.memory, table, *key, compiled=how == "compiled")
        return whole

    def finish(self, how, output, *, interleaved=False):
        """The batch as bytes, by the device or `finish`."""
        kind, dtype = OUTPUTS[output]
        table = self.table.copy()
        pixels = table["rows"].astype(np.int64) * table["cols"]
        nbytes = -(-pixels * self.channels * np.dtype(dtype).itemsize // 4) * 4
        out, whole = guarded(int(nbytes.sum()))
        table["dst"] = out.ctypes.data + np.cumsum(nbytes) - nbytes
        args = self.channels, kind, int(interleaved)
        if how == "cpu":
            lent = lend_memory(table, self.channels)
            finish(len(table), 1, table.ctypes.data, *args)
            del lent
        else:
            self.memory.add(out, writable=True)
            key = self.channels, kind, PIXELS if interleaved else PLANES
            run(self.memory, table, *key, compiled=how == "compiled")
        return whole


@CHANNELS
@pytest.mark.parametrize("seed", [0, 1])
def test_sample_is_resample(channels, seed):
    pictures = Pictures(KINDS, channels, seed=seed)
    npt.assert_array_equal(pictures.sample("device"), pictures.sample("cpu"))


def test_a_row_to_skip_is_left_alone():
    pictures = Pictures((StepKind.COPY, StepKind.LINEAR, StepKind.COPY), 3)
    pictures.table["kind"][1] = StepKind.SKIP
    got = pictures.sample("device")
    npt.assert_array_equal(got, pictures.sample("cpu"))
    assert (got[GUARD + 4 * 18 : GUARD + 8 * 18] == POISON).all()
    npt.assert_array_equal(pictures.finish("device", "int8"), pictures.finish("cpu", "int8"))


@CHANNELS
@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("interleaved", [False, True], ids=["NCHW", "NHWC"])
def test_finish_is_finish(channels, output, interleaved):
    mirror = np.arange(2 * len(KINDS)) % 2
    pictures = Pictures(np.repeat(KINDS, 2), channels, box=(1, 0, 2, 3), mirror=mirror)
    if output == "int8":
        pictures.norm[:] = np.rint(pictures.norm)
    got = pictures.finish("device", output, interleaved=interleaved)
    npt.assert_array_equal(got, pictures.finish("cpu", output, interleaved=interleaved))


@CHANNELS
@pytest.mark.parametrize("output", OUTPUTS)
def test_a_mean_image_is_taken_where_the_pixel_was(channels, output):
    pictures = Pictures(
        (StepKind.COPY, StepKind.COPY, StepKind.LINEAR, StepKind.LINEAR),
        channels,
        mirror=[0, 1, 0, 1],
    )
    mean = np.random.default_rng(3).integers(0, 255, 20 * channels).astype(np.float32)
    pictures.table["mean_image"] = pictures.memory.add(mean).ctypes.data
    for interleaved in False, True:
        got = pictures.finish("device", output, interleaved=interleaved)
        npt.assert_array_equal(got, pictures.finish("cpu", output, interleaved=interleaved))


@CHANNELS
@pytest.mark.parametrize("corner", [(0, 0), (0, 1), (1, 0), (1, 1)])
@pytest.mark.parametrize("kind", KINDS[1:])
def test_a_kernel_reads_its_window_alone(kind, corner, channels):
    """Of the picture only that window is memory which may be read, to the byte."""
    pictures = Pictures((kind,), channels, before=(18, 21), after=(15, 13))
    (row,), (image,) = pictures.table, pictures.images
    chain = ResampleChain(np.array([image.shape[:2]]))
    if kind == StepKind.BORDER:
        chain.border(2, 128)
    elif kind in WARPS:
        chain.warp(np.array([(15, 13)]), np.array([kind]), pictures.matrix, 128)
    elif kind == StepKind.BLUR:
        pytest.skip("test_blur.py has this")
    else:
        chain.resize(np.array([(row["dst_height"], row["dst_width"])]), np.array([0]))
        chain.steps[0].kind[:] = kind
    size = chain.size[0]
    extent = np.minimum(size, (4, 5))
    box = np.concatenate([(size - extent) * corner, extent])
    chain.finish(box[None])
    row["y"], row["x"], row["rows"], row["cols"] = box
    wanted = pictures.sample("cpu")
    y, x, height, width = chain.window[0]
    del pictures.memory.arrays[image.ctypes.data]
    part = pictures.memory.add(image[y : y + height, x : x + width].copy())
    skipped = int(y) * part.strides[0] + int(x) * channels
    row["src"] = (part.ctypes.data - skipped) % 2**64
    row["src_pitch"] = part.strides[0]
    npt.assert_array_equal(pictures.sample("device"), wanted)
    npt.assert_array_equal(pictures.sample("cpu"), wanted)


@st.composite
def cases(draw):
    sides = st.integers(1, 14)
    before, after = draw(st.tuples(sides, sides)), draw(st.tuples(sides, sides))
    box = (draw(st.integers(0, 9)), draw(st.integers(0, 9)), *draw(st.tuples(sides, sides)))
    return before, after, box


@given(
    case=cases(),
    kind=st.sampled_from(KINDS),
    channels=st.sampled_from([1, 3, 4]),
    seed=st.integers(0, 99),
)
@settings(max_examples=100, deadline=None)
def test_any_window_of_any_picture(case, kind, channels, seed):
    before, after, (y, x, rows, cols) = case
    box = (y, x, min(rows, 5), min(cols, 5))
    pictures = Pictures([kind], channels, before, after, box, seed)
    npt.assert_array_equal(pictures.sample("device"), pictures.sample("cpu"))


@pytest.mark.parametrize("kind", WARPS)
@pytest.mark.parametrize("scale", [1e5, 1e9, 1e14, 1e300, -1e8])
def test_places_far_out_do_not_come_round(kind, scale):
    for matrix in ((scale, 0, 0, 0, 1, 0), (1, 0, scale, 0, scale, -scale), (scale, -scale) * 3):
        pictures = Pictures([kind] * 2, 3)
        pictures.matrix[:] = matrix
        npt.assert_array_equal(pictures.sample("device"), pictures.sample("cpu"))


def test_only_a_window_of_the_source_has_to_be_in_memory():
    whole = noise((20, 20, 3))
    part = whole[6:14, 5:15].copy()
    pictures = Pictures(
        (StepKind.LINEAR, StepKind.CUBIC, StepKind.COPY), 3, (20, 20), (20, 21), (8, 8, 3, 3)
    )
    for name, at in ("src", 6 * part.strides[0] + 5 * 3), ("src_pitch", 0):
        pictures.table[name] = part.ctypes.data - at if at else part.strides[0]
    pictures.memory.add(part)
    got = pictures.sample("device")
    full = Pictures(
        (StepKind.LINEAR, StepKind.CUBIC, StepKind.COPY), 3, (20, 20), (20, 21), (8, 8, 3, 3)
    )
    for image in full.images:
        image[:] = whole
    npt.assert_array_equal(got, full.sample("cpu"))


def test_a_place_outside_of_all_arrays_is_an_error():
    pictures = Pictures([StepKind.COPY], 3)
    pictures.table["src"] += np.uint64(70)  # the last row of the window ends behind the image
    with pytest.raises(IndexError, match="nobody's"):
        pictures.sample("device")


def test_real_kernels_are_left_as_they_are():
    from numba import cuda

    loaded = simulated.load(Memory()).modules["gpuio.kernels.device_output"]
    assert device_output.cuda is cuda
    assert loaded.window(*KEY).body is not window(*KEY).body


def test_a_grid_covers_the_largest_window():
    table = np.zeros(3, STEP)
    table["rows"], table["cols"] = [1, 9, 8], [129, 1, 32]
    assert window_grid(window(*KEY), table) == (2, 3, 3)


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("layout", [PLANES, PIXELS])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_rows_of_any_length_begin_at_any_address(channels, layout, output):
    """Four values are written at once where their address allows it, and nothing behind the row."""
    lengths = [1, 2, 3, 4, 5, 7, 8, 9]
    pictures = Pictures([StepKind.COPY] * len(lengths), channels, (2, 9), box=(0, 0, 2, 9))
    pictures.table["cols"] = lengths
    pictures.table["mirror"] = np.arange(len(lengths)) % 3 == 0
    if output == "int8":
        pictures.norm[:] = np.rint(pictures.norm)
    interleaved = layout == PIXELS
    got = pictures.finish("device", output, interleaved=interleaved)
    npt.assert_array_equal(got, pictures.finish("cpu", output, interleaved=interleaved))


@pytest.mark.parametrize("kind", STRIPS, ids=lambda kind: kind.name)
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((70, 9), (37, 6)),
        ((40, 7), (39, 7)),
        ((9, 5), (41, 8)),
        ((1, 1), (35, 3)),
        ((2, 2), (34, 3)),
        ((400, 60), (20, 3)),
    ],
    ids=str,
)
@CHANNELS
def test_strips_of_a_column_join(kind, before, after, channels):
    """Windows of more rows than a thread makes, from the first row on and from the second."""
    for y in range(2):
        pictures = Pictures((kind,), channels, before, after, box=(y, 0, 99, 3))
        npt.assert_array_equal(pictures.sample("device"), pictures.sample("cpu"))


def test_a_thread_of_strips_makes_16_rows():
    table = np.zeros(2, STEP)
    table["rows"], table["cols"] = [64, 65], [33, 32]
    kernel = window_kernel(StepKind.CUBIC, *KEY[1:])
    assert window_grid(kernel, table) == (2, 2, 2)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.slow
def test_compiled_code_makes_the_pixels_of_the_cpu(kind):
    """Its PTX, run in Python: with the widths of integers that Numba has chosen."""
    for seed, (before, after) in enumerate([((7, 9), (6, 5)), ((31, 40), (19, 13))]):
        box = (1, 2, 19, 10) if seed else None
        pictures = Pictures((kind,), 3, before, after, box, seed=seed)
        npt.assert_array_equal(pictures.sample("compiled"), pictures.sample("cpu"))


@pytest.mark.parametrize("kind", [StepKind.LINEAR, *STRIPS], ids=lambda kind: kind.name)
@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.slow
def test_compiled_code_of_other_channels_makes_the_pixels_of_the_cpu(kind, channels):
    pictures = Pictures((kind,), channels, (31, 40), (19, 13), (0, 0, 19, 10))
    npt.assert_array_equal(pictures.sample("compiled"), pictures.sample("cpu"))


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("interleaved", [False, True], ids=["NCHW", "NHWC"])
@pytest.mark.slow
def test_compiled_code_makes_the_batch_of_the_cpu(output, interleaved):
    for kind in StepKind.LINEAR, StepKind.AREA:
        pictures = Pictures((kind,) * 2, 3, (21, 17), (9, 12), (0, 1, 7, 11), mirror=[0, 1])
        if output == "int8":
            pictures.norm[:] = np.rint(pictures.norm)
        got = pictures.finish("compiled", output, interleaved=interleaved)
        npt.assert_array_equal(got, pictures.finish("cpu", output, interleaved=interleaved))


@pytest.mark.slow
def test_compiled_code_far_out_does_not_come_round():
    for matrix in ((1e9, 0, 0, 0, 1, 0), (1, 0, 1e14, 0, 1e5, -1e8)):
        pictures = Pictures([StepKind.WARP_LINEAR], 3)
        pictures.matrix[:] = matrix
        npt.assert_array_equal(pictures.sample("compiled"), pictures.sample("cpu"))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("capability", CAPABILITIES, ids=str)
@pytest.mark.slow
def test_compiles_to_single_precision_that_rounds_each_operation(kind, capability):
    kernel = window_kernel(kind, 3, OutputType.FLOAT16, PLANES, 0)
    few = kind in (StepKind.COPY, StepKind.LINEAR) and capability in FOR_TRAINING
    # Eight rows of a Lanczos resize wait in registers; sums of blocks have 64 bits.
    most = {StepKind.LANCZOS: 96, StepKind.AREA_INTEGER: 80}.get(kind, 72)
    check_code(kernel, capability, registers=48 if few else most)


@pytest.mark.parametrize("output", OutputType, ids=lambda output: output.name)
@pytest.mark.parametrize("layout", [PLANES, PIXELS])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.slow
def test_every_output_compiles(channels, layout, output):
    for kind, mean_image in product((StepKind.LINEAR, StepKind.CUBIC), (0, 1)):
        kernel = window_kernel(kind, channels, output, layout, mean_image)
        check_code(kernel, (9, 0), registers=80)


def test_the_code_of_a_kernel_is_found_on_disk_by_its_key():
    """Numba looks for it by what a function's closure holds, which must be plain numbers."""
    for key in KEY, (StepKind.CUBIC, *KEY[1:]):
        kernel = window_kernel(*key)
        for cell in kernel.body.__closure__:
            assert type(cell.cell_contents) is int
        assert window_kernel(*key) is kernel
