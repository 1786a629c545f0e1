"""The quantised coefficients of a JPEG, of whatever scans it consists.

Only files that are whole and in order are read: libjpeg repairs some others, and invents what is
missing. Nothing here repairs.

Source: ITU-T T.81, annexes B.2 and G.1.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from gpuio.errors import DecodeError
from gpuio.formats.codec import check_size
from gpuio.formats.jpeg_segments import (
    DHT,
    DQT,
    DRI,
    EOI,
    FRAMES,
    HUFFMAN_TABLES,
    SOF0,
    SOF1,
    SOF2,
    SOS,
    START_OF_IMAGE,
    Frame,
    ScanHeader,
    Segment,
    next_segment,
    read_frame,
    read_scan,
)
from gpuio.kernels.transcode.bits import SPARE_WORDS, scan_end, unstuff
from gpuio.kernels.transcode.codes import CODES, LONGEST, derive
from gpuio.kernels.transcode.layout import SCAN_COMPONENT
from gpuio.kernels.transcode.progressive import decode_ac_first, decode_ac_more, decode_dc
from gpuio.kernels.transcode.sequential import decode_sequential

Coefficients = npt.NDArray[np.int16]

_BLOCK: Final = 8  # pixels along a block
_MOST_COMPONENTS: Final = 4
_LARGEST_SHIFT: Final = 13  # the lowest bit that a progressive scan may begin at
_LARGEST_DC: Final = 15  # symbol of a DC table
_ALL: Final = (0, 63, 0, 0)  # first and last coefficient, high and low bit of a sequential scan
_APPS_AND_COMMENTS: Final = frozenset([*range(0xE0, 0xF0), 0xFE])


@dataclass(slots=True)
class JpegCoefficients:
    """A JPEG whose coefficients were decoded.

    Attributes:
        frame: Its frame header.
        layout: (C,) SCAN_COMPONENT, where the blocks of each component are, in a scan of all.
        mcus: (rows, columns) of MCUs in a scan of all components.
        values: (N, 64) int16, blocks as `layout` has them, each in the order of the zigzag.
        head: The segments before the first scan.
        restart: MCUs between restart markers in the first scan; 0 for none.
        scans: Number of scans.
        stop: Offset behind the end marker.
    """

    frame: Frame
    layout: npt.NDArray[np.void]
    mcus: tuple[int, int]
    values: Coefficients
    head: list[Segment]
    restart: int = 0
    scans: int = 0
    stop: int = 0


def read_coefficients(data: bytes) -> JpegCoefficients:
    """Decode the coefficients of a Huffman-coded JPEG of 8 bits.

    Raises:
        DecodeError: It is coded in another way, damaged, or not all of its coefficients are there.
    """
    return _Reader(data).read()


@dataclass(slots=True)
class _Reader:
    """Goes through the segments of a JPEG, and decodes each scan as it comes.

    Attributes:
        data: The file.
        codes: (8,) CODES, the Huffman tables: 4 for DC and 4 for AC.
        defined: Rows of `codes` that a segment has defined.
        restart: MCUs between restart markers, as the last segment about it says; 0 for none.
        image: What is known since the frame header.
        known: (C, 64) int64, the lowest bit that is known of each coefficient of each component; -1
            before its first scan.
    """

    data: bytes
    codes: npt.NDArray[np.void] = field(default_factory=lambda: np.zeros(2 * HUFFMAN_TABLES, CODES))
    defined: set[int] = field(default_factory=set)
    restart: int = 0
    image: JpegCoefficients | None = None
    known: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 64), np.int64))

    def read(self) -> JpegCoefficients:
        at, head = len(START_OF_IMAGE), list[Segment]()
        while (segment := next_segment(self.data, at)).marker != EOI:
            at = segment.stop
            if segment.marker == SOS:
                at = self._scan(segment)
            elif segment.marker == DHT:
                self._define_codes(segment)
            elif segment.marker == DRI:
                self.restart = self._restart_interval(segment)
            elif segment.marker in FRAMES:
                self.image = self._start(segment, head)
            elif segment.marker not in _APPS_AND_COMMENTS | {DQT}:
                raise DecodeError(f"JPEG: a segment {segment.marker:#04x}, which is not known here")
            elif self.image is not None and self.image.scans:
                raise DecodeError(f"JPEG: a segment {segment.marker:#04x} between its scans")
            if self.image is None or not self.image.scans:
                head.append(segment)
        if self.image is None or (self.known != 0).any():
            raise DecodeError("JPEG: not all of its coefficients are there to their last bit")
        self.image.stop = segment.stop
        return self.image

    def _restart_interval(self, segment: Segment) -> int:
        if segment.stop - segment.body != 2:
            raise DecodeError("JPEG: damaged segment of the restart interval")
        return int.from_bytes(self.data[segment.body : segment.stop], "big")

    def _define_codes(self, segment: Segment) -> None:
        at = segment.body
        while at < segment.stop:
            kind, number = divmod(self.data[at], 16)
            counts = self.data[at + 1 : at + 1 + LONGEST]
            at += 1 + LONGEST
            symbols = self.data[at : at + sum(counts)]
            at += len(symbols)
            if kind > 1 or number >= HUFFMAN_TABLES or at > segment.stop:
                raise DecodeError("JPEG: damaged segment of Huffman tables")
            row = HUFFMAN_TABLES * kind + number
            fits = kind == 1 or max(symbols, default=0) <= _LARGEST_DC
            table = self.codes[row : row + 1]
            if not fits or not derive(_bytes(counts), _bytes(symbols), table):
                raise DecodeError(f"JPEG: Huffman table {number} has codes that cannot be")
            self.defined.add(row)

    def _start(self, segment: Segment, head: list[Segment]) -> JpegCoefficients:
        if self.image is not None:
            raise DecodeError("JPEG: more than one frame")
        frame = read_frame(self.data, segment)
        if frame.marker not in (SOF0, SOF1, SOF2):
            raise DecodeError(f"JPEG: coded by another method than Huffman's ({frame.marker:#04x})")
        count = len(frame.components)
        if frame.precision != 8 or count > _MOST_COMPONENTS:
            raise DecodeError(f"JPEG: {count} components of {frame.precision} bits")
        if len({component.id for component in frame.components}) < count:
            raise DecodeError("JPEG: two components of the same name")
        check_size(frame.height, frame.width, "JPEG")
        self.known = np.full((count, 64), -1, np.int64)
        mcus = (
            -(-frame.height // (_BLOCK * max(c.down for c in frame.components))),
            -(-frame.width // (_BLOCK * max(c.across for c in frame.components))),
        )
        layout = np.zeros(count, SCAN_COMPONENT)
        blocks = 0
        for row, component in zip(layout, frame.components, strict=True):
            row["first"], row["stride"] = blocks, mcus[1] * component.across
            row["across"], row["down"] = component.across, component.down
            blocks += int(row["stride"]) * mcus[0] * component.down
        values = np.zeros((blocks, 64), np.int16)
        if count == 1:
            layout, mcus = self._alone(frame, layout, 0)
        return JpegCoefficients(frame, layout, mcus, values, head)

    @staticmethod
    def _alone(
        frame: Frame, layout: npt.NDArray[np.void], place: int
    ) -> tuple[npt.NDArray[np.void], tuple[int, int]]:
        """Layout and MCUs of a scan of one component: only blocks that the picture needs."""
        component, alone = frame.components[place], layout[place : place + 1].copy()
        alone["across"] = alone["down"] = 1
        largest = (
            max(c.down for c in frame.components),
            max(c.across for c in frame.components),
        )
        rows = -(-frame.height * component.down // largest[0])
        columns = -(-frame.width * component.across // largest[1])
        return alone, (-(-rows // _BLOCK), -(-columns // _BLOCK))

    def _scan(self, segment: Segment) -> int:
        """Decode a scan; the offset behind it."""
        if self.image is None:
            raise DecodeError("JPEG: a scan before the frame header")
        header = read_scan(self.data, segment, self.image.frame)
        if self.image.frame.marker == SOF2:
            self._check_progression(header)
        elif (header.first, header.last, header.high, header.low) != _ALL or (
            self.known[list(header.places)] >= 0
        ).any():
            raise DecodeError("JPEG: a sequential scan with values of a progressive one")
        self.known[list(header.places), header.first : header.last + 1] = header.low
        if not self.image.scans:
            self.image.restart = self.restart
        self.image.scans += 1
        stop = int(scan_end(_bytes(self.data), segment.stop))
        if not self._decode(header, _bytes(self.data)[segment.stop : stop]):
            raise DecodeError(f"JPEG: damaged data of scan {self.image.scans}")
        return stop

    def _check_progression(self, header: ScanHeader) -> None:
        """Check that a progressive scan goes on where those before it ended."""
        rows = self.known[list(header.places)]
        before = rows[:, header.first : header.last + 1]
        if header.first == 0:
            fits = header.last == 0
        else:
            single = len(header.places) == 1 and bool((rows[:, 0] >= 0).all())
            fits = header.first <= header.last <= 63 and single
        if header.high:
            fits = fits and header.high == header.low + 1 and bool((before == header.high).all())
        else:
            fits = fits and header.low <= _LARGEST_SHIFT and bool((before == -1).all())
        if not fits:
            raise DecodeError("JPEG: a progressive scan that does not go on from those before it")

    def _decode(self, header: ScanHeader, stuffed: npt.NDArray[np.uint8]) -> bool:
        """Decode the bytes of a scan; whether they are whole and valid."""
        assert self.image is not None
        if len(header.places) == 1:
            layout, mcus = self._alone(self.image.frame, self.image.layout, header.places[0])
        else:
            layout, mcus = self.image.layout[list(header.places)], self.image.mcus
        layout["dc"] = [dc for dc, _ in header.codes]
        layout["ac"] = [HUFFMAN_TABLES + ac for _, ac in header.codes]
        needs_dc = header.first == 0 and header.high == 0
        needs_ac = header.last > 0
        used = {*layout["dc"].tolist()} if needs_dc else set()
        used |= {*layout["ac"].tolist()} if needs_ac else set()
        if not used <= self.defined:
            raise DecodeError("JPEG: a scan with a Huffman table that is not there")
        count = mcus[0] * mcus[1]
        restart = self.restart or count
        intervals = np.zeros((-(-count // restart), 2), np.int64)
        words = np.zeros(len(stuffed) // 8 + len(intervals) + SPARE_WORDS, np.uint64)
        if not unstuff(stuffed, words, intervals):
            return False
        scan = words, intervals, restart, layout, mcus, self.codes
        values, low = self.image.values, header.low
        if self.image.frame.marker != SOF2:
            return bool(decode_sequential(*scan, values))
        if header.first == 0:
            return bool(decode_dc(*scan, header.high == 0, low, values))
        decode = decode_ac_more if header.high else decode_ac_first
        return bool(decode(*scan, (header.first, header.last), low, values))


def _bytes(data: bytes) -> npt.NDArray[np.uint8]:
    return np.frombuffer(data, np.uint8)
