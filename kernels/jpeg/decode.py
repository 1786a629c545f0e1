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
from numba import carray, njit

from gpuio.kernels.jpeg.entropy import (
    BLOCK,
    COEFFICIENT_BYTES,
    GROUP_BYTES,
    LANE_OFFSETS,
    TAIL,
    ZIGZAG,
    bits_left,
    decode_mcus,
    start_reading,
    unstuff,
)
from gpuio.kernels.jpeg.header import JOB, MOST_BLOCKS, read_header
from gpuio.kernels.jpeg.huffman import TABLE, make_table
from gpuio.kernels.jpeg.planes import (
    ACROSS,
    BOTH,
    DOWN,
    FOURTH,
    MARGIN,
    REPEATED,
    copy_row,
    store_row,
    upsample,
)
from gpuio.kernels.jpeg.vector import BLOCKS, STRIP, clear, samples_of_1, samples_of_4, samples_of_8
from gpuio.kernels.jpeg.words import load_u8, store_8
from gpuio.kernels.native import pointer
from gpuio.kernels.parallel import Task, arguments

SUCCESS, DECLINED = 1, 2
"""Status of a picture."""

_IN_CORNER = 9
"""The last of the coefficients, as they are coded, that lie in the first four rows and columns."""

STATE = np.dtype(
    [
        ("coefficients", np.uint8, (COEFFICIENT_BYTES,)),
        ("spare", np.uint8, (4 * STRIP,)),
        ("lasts", np.uint8, (64,)),  # of each group of blocks, the last place in use
        ("quantisation", np.int16, (3, 64)),
        ("reader", np.int64, (4,)),
        ("predictors", np.int64, (3,)),
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
_PREDICTORS, _TABLE_BYTES, _STATE_BYTES = _OFFSETS["predictors"], TABLE.itemsize, STATE.itemsize


@njit(nogil=True, error_model="numpy")
def groups_across(width, across):
    """Groups of `BLOCKS` MCUs side by side in a picture `width` pixels wide."""
    return -(-width // (8 * BLOCKS * across))


@njit(nogil=True, error_model="numpy")
def _plane_pitch(groups, across):
    return groups * 8 * BLOCKS * across + 2 * MARGIN


@njit(nogil=True, error_model="numpy")
def scratch_bytes(row):
    """Bytes of memory that the decoder takes for a picture, besides its pixels.

    Args:
        row: A JOB.
    """
    groups = groups_across(row.width, row.across[0])
    nbytes = row.nbytes - row.scan + 8 + TAIL
    for c in range(row.components):
        pitch = _plane_pitch(groups, row.across[c])
        nbytes += pitch * (8 * row.down[c] + 2)
    return nbytes + 2 * (_plane_pitch(groups, row.across[0]) + 4 * STRIP)


@njit(nogil=True, error_model="numpy")
def _way(row):
    """How the chroma of a picture is made whole."""
    wide, high = row.across[0] // row.across[1], row.down[0] // row.down[1]
    stored = -(-row.width // wide)
    if wide == 4:
        return FOURTH
    if wide == 2:
        if stored <= 2:  # libjpeg does not smooth such narrow pictures
            return REPEATED
        return BOTH if high == 2 else ACROSS
    return DOWN


@njit(nogil=True, error_model="numpy")
def _prepare(row, data, state, at):
    """Make the tables of a picture; whether they are as they have to be."""
    number = 0
    for c in range(row.components):
        values = row.quantisation[c]
        for k in range(64):
            if row.wide[c]:
                value = np.int64(data[values + 2 * k]) << 8 | np.int64(data[values + 2 * k + 1])
            else:
                value = np.int64(data[values + k])
            state.quantisation[c, ZIGZAG[k]] = np.int16(value)
        dc, ac = at + _TABLES + 2 * c * _TABLE_BYTES, at + _TABLES + (2 * c + 1) * _TABLE_BYTES
        if c == 2 and row.dc[2] == row.dc[1] and row.ac[2] == row.ac[1]:
            dc, ac = dc - 2 * _TABLE_BYTES, ac - 2 * _TABLE_BYTES
        elif not (make_table(dc, data, row.dc[c], 0) and make_table(ac, data, row.ac[c], 1)):
            return 0
        first = number
        for down in range(row.down[c]):
            for across in range(row.across[c]):
                block = state.blocks[number]
                block.dc, block.ac, block.predictor = dc, ac, at + _PREDICTORS + 8 * c
                for mcu in range(BLOCKS):
                    column = mcu * row.across[c] + across
                    group = first + down * row.across[c] + column // BLOCKS
                    place = GROUP_BYTES * group + 2 * (column % BLOCKS)
                    block.places[mcu] = at + _COEFFICIENTS + place
                    block.lasts[mcu] = at + _LASTS + group
                number += 1
    return number


@njit(nogil=True, error_model="numpy")
def _samples(last, coefficients, quantisation, out, pitch):
    """The samples of a group of blocks of which `last` is the last coefficient in use."""
    if last == 0:
        samples_of_1(coefficients, quantisation, out, pitch)
    elif last <= _IN_CORNER:
        samples_of_4(coefficients, quantisation, out, pitch)
    else:
        samples_of_8(coefficients, quantisation, out, pitch)


@njit(nogil=True, error_model="numpy")
def _decode(row, state, at, channels, reverse, base):
    """Decode the window of a picture; its status.

    Args:
        row: A JOB with a window.
        state: A STATE.
        at: Address of the state.
        channels: 1 or 3, of the pixels.
        reverse: 1 for the colours in the order blue, green, red; else 0.
        base: Address of the worker's memory.
    """
    data = carray(pointer(np.uint64(row.data)), row.nbytes, np.uint8)
    blocks_of_mcu = _prepare(row, data, state, at)
    if blocks_of_mcu == 0 or scratch_bytes(row) > row.scratch_nbytes:
        return DECLINED
    blocks, reader = state.blocks[:blocks_of_mcu], state.reader
    offsets = np.int64(LANE_OFFSETS.ctypes.data)
    across, down = np.int64(row.across[0]), np.int64(row.down[0])
    groups = groups_across(row.width, across)
    mcus_wide, mcus_high = -(-row.width // (8 * across)), -(-row.height // (8 * down))

    # Planes lie behind each other in the scratch memory, then two rows of whole chroma, then the
    # bytes of the scan.
    count = 3 if row.components == 3 and channels == 3 else 1
    p0 = np.int64(base) + row.scratch
    pitch0 = _plane_pitch(groups, across)
    high0 = 8 * down
    pitch1, high1 = pitch0, high0
    if row.components == 3:
        pitch1, high1 = _plane_pitch(groups, row.across[1]), 8 * np.int64(row.down[1])
    p1 = p0 + pitch0 * (high0 + 2)
    p2 = p1 + (pitch1 * (high1 + 2) if row.components == 3 else 0)
    blue = p2 + (pitch1 * (high1 + 2) if row.components == 3 else 0)
    red = blue + pitch0 + 4 * STRIP
    scan = red + pitch0 + 4 * STRIP
    p0, p1, p2 = p0 + pitch0 + MARGIN, p1 + pitch1 + MARGIN, p2 + pitch1 + MARGIN

    way, wide, high = DOWN, 1, 1
    if count == 3:
        wide, high = across // row.across[1], down // row.down[1]
        way = _way(row)
    mixes_rows = count == 3 and high == 2 and way != REPEATED
    whole = count == 1 or (wide == 1 and high == 1)  # chroma is
    last_y, last_x = np.int64(row.y) + row.rows - 1, np.int64(row.x) + row.cols - 1
    reach = 1 if mixes_rows else 0
    first_row = max(row.y - reach, 0) // (8 * down)
    last_row = min(last_y + reach, row.height - 1) // (8 * down)
    group_width = 8 * BLOCKS * across
    first_group = max(row.x - 2 * wide, 0) // group_width
    last_group = min(last_x + 2 * wide, row.width - 1) // group_width
    stored_wide, stored_high = -(-row.width // wide), -(-row.height // high)

    source, end = row.data + row.scan, row.data + row.nbytes
    source, used = unstuff(source, end, scan)
    start_reading(reader, scan, used)
    state.predictors[:] = 0
    left, restarts = np.int64(row.restart), 0
    pixels = np.int64(base) + row.dst
    row_bytes = np.int64(row.cols) * channels
    pixels_end = pixels + row_bytes * row.rows
    for my in range(mcus_high):
        wanted = first_row <= my <= last_row
        for group in range(groups):
            clear(at + _COEFFICIENTS, blocks_of_mcu * GROUP_BYTES // 64)
            clear(at + _LASTS, 1)
            lanes, done = min(BLOCKS, mcus_wide - group * BLOCKS), 0
            while done < lanes:
                now = lanes - done
                if row.restart:
                    if left == 0:
                        spare_bits = bits_left(reader)
                        if not 0 <= spare_bits < 8 or source + 2 > end:
                            return DECLINED
                        if load_u8(source + 1) != 0xD0 + (restarts & 7):
                            return DECLINED
                        restarts += 1
                        source, used = unstuff(source + 2, end, scan)
                        start_reading(reader, scan, used)
                        state.predictors[:] = 0
                        left = np.int64(row.restart)
                    now = min(now, left)
                    left -= now
                if not decode_mcus(reader, blocks, offsets, done, now):
                    return DECLINED
                done += now
            if not wanted or group < first_group or group > last_group:
                continue
            number = 0
            for c in range(count):
                plane = p0 if c == 0 else (p1 if c == 1 else p2)
                pitch = pitch0 if c == 0 else pitch1
                for k in range(row.down[c]):
                    for j in range(row.across[c]):
                        x = (group * row.across[c] + j) * 8 * BLOCKS
                        _samples(
                            state.lasts[number],
                            at + _COEFFICIENTS + number * GROUP_BYTES,
                            at + _QUANTISATION + 128 * c,
                            plane + 8 * k * pitch + x,
                            pitch,
                        )
                        number += 1
        if bits_left(reader) < 0:
            return DECLINED
        for c in range(3):
            if abs(state.predictors[c]) > 1 << 30:  # libjpeg has no room for what comes next
                return DECLINED
        if not wanted:
            continue
        top = my * 8 * down
        if count == 3 and not whole:
            rows_here = min(high1, stored_high - my * high1)
            for c in range(2):
                plane = p1 if c == 0 else p2
                for k in range(rows_here):
                    line = plane + k * pitch1
                    if first_group == 0:
                        store_8(line - 1, load_u8(line))
                    if last_group == groups - 1:
                        store_8(line + stored_wide, load_u8(line + stored_wide - 1))
                if mixes_rows and my == 0:
                    copy_row(plane - MARGIN, plane - MARGIN - pitch1, pitch1)
                if mixes_rows and my == mcus_high - 1:
                    line = plane + rows_here * pitch1 - MARGIN
                    copy_row(line - pitch1, line, pitch1)
        begin, stop = max(top - reach, row.y), min(top + 8 * down - 1 - reach, last_y)
        if my == last_row:
            stop = last_y
        for y in range(begin, stop + 1):
            line = y - top
            luma = p0 + line * pitch0 + row.x
            first, second = luma, luma
            if count == 3:
                if whole:
                    first, second = p1 + line * pitch1 + row.x, p2 + line * pitch1 + row.x
                else:
                    x = row.x // wide
                    columns = last_x // wide - x + 1
                    upsample(way, high, p1, pitch1, line, x, columns, blue)
                    upsample(way, high, p2, pitch1, line, x, columns, red)
                    first, second = blue + row.x - x * wide, red + row.x - x * wide
            out = pixels + (y - row.y) * row_bytes
            rows = (luma, first, second)
            store_row(rows, row.color, channels, reverse, row.cols, out, pixels_end, at + _SPARE)
        if mixes_rows:
            copy_row(p0 + (high0 - 1) * pitch0, p0 - pitch0, pitch0 - MARGIN)
            copy_row(p1 + (high1 - 1) * pitch1 - MARGIN, p1 - pitch1 - MARGIN, pitch1)
            copy_row(p2 + (high1 - 1) * pitch1 - MARGIN, p2 - pitch1 - MARGIN, pitch1)
    # What follows the pixels must be the end: libjpeg reads on to there.
    while source + 1 < end and load_u8(source) == 0xFF and load_u8(source + 1) == 0xFF:
        source += 1
    if source + 1 < end and load_u8(source + 1) == 0xD9:
        return SUCCESS
    return DECLINED


@Task
def probe(args, item, worker, base):
    """Read the header of a row of a JOB table.

    Args:
        args: Address of the table.
    """
    arg = arguments(args, 1)
    row = carray(pointer(arg[0]), item + 1, JOB)[item]
    if row.nbytes > 0:
        data = carray(pointer(np.uint64(row.data)), row.nbytes, np.uint8)
        row.taken = read_header(data, row)
        if row.taken:
            row.scratch_nbytes = scratch_bytes(row)


@Task
def decode(args, item, worker, base):
    """Decode the window of a row of a JOB table; its `status` is written.

    Args:
        args: Addresses of the table and of a STATE for each worker; channels; whether colours are
            in the order blue, green, red.
    """
    arg = arguments(args, 4)
    row = carray(pointer(arg[0]), item + 1, JOB)[item]
    if row.taken and row.rows > 0:
        at = np.int64(arg[1]) + worker * _STATE_BYTES
        state = carray(pointer(np.uint64(at)), 1, STATE)[0]
        row.status = _decode(row, state, at, np.int64(arg[2]), np.int64(arg[3]), base)


def new_states(count):
    """(count,) STATE, for that many threads."""
    return np.zeros(count, STATE)
