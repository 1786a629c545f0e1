"""RecordIO files: how records are framed, read one by one, and found by a scan.

Reading is stricter than dmlc-core: a record that begins with the flag of a last part, or that lacks
its last part when the file ends, is damage here; dmlc-core accepts the one and silently drops the
other.
"""

from gpuio.formats.recordio.framing import (
    HEAD_NBYTES,
    MAGIC,
    MAX_PAYLOAD,
    begin_here,
    frame,
    frame_ends,
)
from gpuio.formats.recordio.other_kind import first_bytes, other_kind
from gpuio.formats.recordio.record_file import RecordFile
from gpuio.formats.recordio.record_scan import Damage, scan, verify

__all__ = [
    "HEAD_NBYTES",
    "MAGIC",
    "MAX_PAYLOAD",
    "Damage",
    "RecordFile",
    "begin_here",
    "first_bytes",
    "frame",
    "frame_ends",
    "other_kind",
    "scan",
    "verify",
]
