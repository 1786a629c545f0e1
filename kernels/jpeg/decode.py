"""The decoder: pictures of a batch, from their bytes to the pixels of a window.

A row of MCUs at a time goes through all stages while it is in the cache: entropy decoding and the
inverse DCT for groups of MCUs, whose blocks lie side by side, then upsampling and colours for the
rows of pixels. Rows outside of the window are decoded to coefficients only, as their codes have to
be read; with checkpoints they are not read either.

Anything that libjpeg would warn of, or that is not as it should be, ends the decoding of a picture
with DECLINED: another decoder then says what is wrong with it, or repairs it as libjpeg does.
"""

from __future__ import annotations

import numpy as np
from numba import from_dtype, types

from gpuio.kernels.arrays import BYTES, address, arguments, array_at
from gpuio.kernels.jpeg.entropy import (
    BLOCK,
    COEFFICIENT_BYTES,
    GROUP_BYTES,
    IN_CORNER,
    LANE_OFFSETS,
    ZIGZAG,
)
from gpuio.kernels.jpeg.header import JOB, MOST_BLOCKS, read_header
from gpuio.kernels.jpeg.huffman import TABLE, make_skips, make_table
from gpuio.kernels.jpeg.layout import LAYOUT, WHOLE, block_size, lay_out, scratch_bytes
from gpuio.kernels.jpeg.planes import extend_chroma, keep_last_rows, store_rows
from gpuio.kernels.jpeg.scan import (
    SCAN,
    end_interval,
    is_at_end,
    read_group,
    resume,
    row_is_good,
    save,
    start_scan,
)
from gpuio.kernels.jpeg.vector import BLOCKS, STRIP, clear, samples_of_1, samples_of_4, samples_of_8
from gpuio.kernels.native import call_long, device_function
from gpuio.kernels.parallel import Task

SUCCESS, DECLINED = 1, 2
"""Status of a picture."""

STATE = np.dtype(
    [
        ("coefficients", np.uint8, (COEFFICIENT_BYTES,)),
        ("spare", np.uint8, (4 * STRIP,)),
        ("lasts", np.uint8, (64,)),  # of each group of blocks, the last coefficient in use
        ("quantisation", np.int16, (3, 64)),
        ("scan", SCAN),
        ("layout", LAYOUT),
        ("blocks", BLOCK, (MOST_BLOCKS,)),
        ("tables", TABLE, (6,)),
    ],
    align=True,
)
"""Memory of a thread that decodes. It is all 0 before the first picture; Huffman tables are kept
for the next one, which often has the same."""

_OFFSETS = {name: int(place[1]) for name, place in dict(STATE.fields or {}).items()}
_COEFFICIENTS, _SPARE, _LASTS = _OFFSETS["coefficients"], _OFFSETS["spare"], _OFFSETS["lasts"]
_QUANTISATION, _TABLES = _OFFSETS["quantisation"], _OFFSETS["tables"]
_PREDICTORS = _OFFSETS["scan"] + int(dict(SCAN.fields or {})["predictors"][1])
_SKIPS = int(dict(TABLE.fields or {})["skips"][1])
_TABLE_BYTES, _STATE_BYTES = TABLE.itemsize, STATE.itemsize


def new_states(count):
    """(count,) STATE, for that many threads."""
    return np.zeros(count, STATE)


_ROW, _STATE = from_dtype(JOB), from_dtype(STATE)
_BLOCKS = types.Array(from_dtype(BLOCK), 1, "C")


@device_function(
    types.void(_ROW, types.int64, BYTES, types.Array(types.int16, 1, "C")), inline=False
)
def _read_quantisation(row, component, data, table):
    """Read a component's quantisation to (64,) int16, in rows of growing frequency."""
    at, nbytes = row.quantisation[component], 2 if row.wide[component] else 1
    for k in range(64):
        value = np.int64(data[at + nbytes * k])
        if nbytes == 2:
            value = value << 8 | np.int64(data[at + 2 * k + 1])
        table[ZIGZAG[k]] = np.int16(value)


@device_function(types.void(_ROW, *[types.int64] * 5, _STATE, types.int64), inline=False)
def _describe_blocks(row, component, first, dc, ac, skips, state, at):
    """Describe the blocks of a component in an MCU.

    Args:
        row: A JOB.
        component: Its number.
        first: Number of its first block.
        dc: Address of a TABLE.
        ac: Address of a TABLE.
        skips: As in BLOCK.
        state: A STATE.
        at: Address of the state.
    """
    across = np.int64(row.across[component])
    for k in range(across * row.down[component]):
        block = state.blocks[first + k]
        block.dc, block.ac, block.predictor = dc, ac, at + _PREDICTORS + 8 * component
        block.skips = skips
        for mcu in range(BLOCKS):
            column = mcu * across + k % across
            group = first + k // across * across + column // BLOCKS
            place = GROUP_BYTES * group + 2 * (column % BLOCKS)
            block.places[mcu] = at + _COEFFICIENTS + place
            block.lasts[mcu] = at + _LASTS + group


@device_function(types.int64(_ROW, _STATE, types.int64), inline=False)
def _prepare(row, state, at):
    """Make all tables of a picture; the number of blocks of an MCU, or 0 if a table is wrong."""
    data = array_at(np.uint64(row.data), row.nbytes, np.uint8)
    count = 0
    for c in range(row.components):
        _read_quantisation(row, c, data, state.quantisation[c])
        dc = at + _TABLES + 2 * c * _TABLE_BYTES
        if c == 2 and row.dc[2] == row.dc[1] and row.ac[2] == row.ac[1]:
            dc -= 2 * _TABLE_BYTES
        ac = dc + _TABLE_BYTES
        if not (make_table(dc, data, row.dc[c], 0) and make_table(ac, data, row.ac[c], 1)):
            return 0
        skips = np.int64(0)
        if block_size(row, c) == 1:
            make_skips(ac)
            skips = ac + _SKIPS
        _describe_blocks(row, c, count, dc, ac, skips, state, at)
        count += row.across[c] * row.down[c]
    return count


@device_function(types.boolean(_ROW, _STATE, types.int64, types.int64), inline=False)
def _make_samples(row, state, at, group):
    """Make the samples of a group of MCUs from its coefficients; whether they are libjpeg's."""
    layout, number, above = state.layout, 0, np.int64(0)
    for c in range(layout.count):
        across, pitch, size = np.int64(row.across[c]), layout.pitches[c], layout.sizes[c]
        quantisation = at + _QUANTISATION + 128 * c
        for k in range(across * row.down[c]):
            x, y = (group * across + k % across) * size * BLOCKS, size * (k // across)
            out = layout.planes[c] + y * pitch + x
            coefficients, last = at + _COEFFICIENTS + number * GROUP_BYTES, state.lasts[number]
            if size < 8:
                args = (coefficients, np.int64(last), quantisation, out, pitch, size)
                above |= call_long(np.uint64(row.reduced), args)
            elif last == 0:
                above |= samples_of_1(coefficients, quantisation, out, pitch)
            elif last <= IN_CORNER:
                above |= samples_of_4(coefficients, quantisation, out, pitch)
            else:
                above |= samples_of_8(coefficients, quantisation, out, pitch)
            number += 1
    return above == 0


@device_function(
    types.boolean(_ROW, _STATE, types.int64, _BLOCKS, types.int64, types.boolean), inline=False
)
def _decode_row(row, state, at, blocks, my, makes):
    """Decode a row of MCUs; whether all is as it should be.

    Args:
        row: A JOB.
        state: A STATE.
        at: Address of the state.
        blocks: (B,) BLOCK, those of an MCU.
        my: Number of the row.
        makes: Whether samples are wanted of it.
    """
    scan, layout = state.scan, state.layout
    offsets = np.int64(address(LANE_OFFSETS))
    mcus, groups = layout.mcus_wide, layout.groups
    if row.known:  # the next row begins at a checkpoint
        mcus, groups = layout.last_mcu + 1, layout.last_group + 1
    for group in range(groups):
        wanted = makes and layout.first_group <= group <= layout.last_group
        if wanted:
            clear(at + _COEFFICIENTS, len(blocks) * (GROUP_BYTES // 64))
            clear(at + _LASTS, 1)
        count = min(BLOCKS, mcus - group * BLOCKS)
        if not read_group(scan, row, blocks, offsets, my, count):
            return False
        if wanted and not _make_samples(row, state, at, group):
            return False
    return row_is_good(scan)


@device_function(types.void(_ROW, _STATE, *[types.int64] * 4), inline=False)
def _store(row, state, at, my, channels, reverse):
    """Write the pixels of a row of MCUs."""
    layout = state.layout
    if layout.way != WHOLE:
        extend_chroma(layout, my)
    store_rows(row, layout, my, channels, reverse, at + _SPARE)
    if layout.reach:
        keep_last_rows(layout)


@device_function(types.int64(_ROW, _STATE, types.int64, _BLOCKS, types.int64, types.int64))
def _decode_all(row, state, at, blocks, channels, reverse):
    """Read the whole scan, and decode the window."""
    scan, layout = state.scan, state.layout
    start_scan(scan, row, layout.scan)
    for my in range(layout.mcus_high):
        if scan.saves:
            save(scan, row, my)
        makes = layout.first_row <= my <= layout.last_row
        if not _decode_row(row, state, at, blocks, my, makes):
            return DECLINED
        if makes:
            _store(row, state, at, my, channels, reverse)
    if not is_at_end(scan):
        return DECLINED
    end_interval(scan, row, layout.mcus_high)
    row.known = scan.saves
    return SUCCESS


@device_function(types.int64(_ROW, _STATE, types.int64, _BLOCKS, types.int64, types.int64))
def _decode_from_checkpoints(row, state, at, blocks, channels, reverse):
    """Read what the window needs, and decode it."""
    scan, layout = state.scan, state.layout
    for my in range(layout.first_row, layout.last_row + 1):
        if not resume(scan, row, my, layout.mcus_high, layout.scan):
            return DECLINED
        if not _decode_row(row, state, at, blocks, my, True):
            return DECLINED
        _store(row, state, at, my, channels, reverse)
    return SUCCESS


@Task
def probe(args, item, worker, base):
    """Read the header of a row of a JOB table.

    Its `scale` is 8, which the caller may change: smaller sizes take no more scratch memory.

    Args:
        args: Address of the table.
    """
    arg = arguments(args, 1)
    row = array_at(arg[0], item + 1, JOB)[item]
    if row.nbytes > 0:
        data = array_at(np.uint64(row.data), row.nbytes, np.uint8)
        row.taken = read_header(data, row)
        if row.taken:
            row.scale = 8
            row.scratch_nbytes = scratch_bytes(row)


@Task
def decode(args, item, worker, base):
    """Decode the window of a row of a JOB table.

    Its `status` is written, and `known` where its checkpoints were written.

    Args:
        args: Addresses of the table and of a STATE for each worker; channels; whether colours are
            in the order blue, green, red.
    """
    arg = arguments(args, 4)
    row = array_at(arg[0], item + 1, JOB)[item]
    if row.taken == 0 or row.rows <= 0:
        return
    at = np.int64(arg[1]) + worker * _STATE_BYTES
    state = array_at(np.uint64(at), 1, STATE)[0]
    channels, reverse = np.int64(arg[2]), np.int64(arg[3])
    row.status = DECLINED
    if scratch_bytes(row) > row.scratch_nbytes:
        return
    count = _prepare(row, state, at)
    if count == 0:
        return
    blocks = state.blocks[:count]
    lay_out(row, state.layout, channels, base)
    if row.known:
        row.status = _decode_from_checkpoints(row, state, at, blocks, channels, reverse)
    else:
        row.status = _decode_all(row, state, at, blocks, channels, reverse)
