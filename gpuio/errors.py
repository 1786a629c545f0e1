"""Every error gpuio raises on purpose.

GpuioError
├── FormatError            a .rec, .idx or .lst file is not what it says it is (a ValueError)
│   └── CorruptRecordError     bad magic, truncated payload, unfinished split record
├── DecodeError            a codec rejected an image
├── LabelError             a record's labels are not those asked for (a ValueError)
├── BackendError           the device or a library it needs is missing, or failed
│   └── MissingPackageError    a package that an extra of gpuio installs is missing (an ImportError)
├── ReadError              the system cannot read a file on disk (an OSError)
├── RemoteError            a file at a URL cannot be read or written (an OSError)
├── BusyError              another process is writing the file (an OSError)
├── StateError             a saved state does not fit this loader (a ValueError)
├── ProgramError           a step of an image is one that no kernel can do (a ValueError)
└── PipelineClosedError    a batch was asked of a closed pipeline

And one warning: LabelWarning, a label is stored as another number (a UserWarning).
"""

from __future__ import annotations


class GpuioError(Exception):
    """Base of every error below: `except GpuioError` catches the library, never a bug."""


class FormatError(GpuioError, ValueError):
    """A data file breaks its own format."""


class CorruptRecordError(FormatError):
    """A record cannot be read back.

    Args:
        reason: What was expected and what was found.
        path: The .rec file.
        offset: Where the record starts in it, in bytes.
    """

    def __init__(self, reason: str, *, path: str, offset: int) -> None:
        super().__init__(f"{path}: record at byte {offset}: {reason}")
        self.reason = reason
        self.path = path
        self.offset = offset

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild_corrupt, (self.reason, self.path, self.offset)


def _rebuild_corrupt(reason: str, path: str, offset: int) -> CorruptRecordError:
    return CorruptRecordError(reason, path=path, offset=offset)


class DecodeError(GpuioError):
    """A codec rejected an image."""


class LabelError(GpuioError, ValueError):
    """A record does not carry the labels that were asked for."""


class LabelWarning(UserWarning):
    """A label is stored as another number than the one given."""


class BackendError(GpuioError):
    """The device, or a library it needs, is missing or failed."""


class ReadError(GpuioError, OSError):
    """The system cannot read a file on disk; the message has its errno."""


class MissingPackageError(BackendError, ModuleNotFoundError):
    """A package that one of gpuio's extras installs is missing."""


class RemoteError(GpuioError, OSError):
    """A store of files at URLs cannot be reached, refuses a request, or fails at every retry."""


class BusyError(GpuioError, OSError):
    """Another process is writing the file that was to be written."""


class StateError(GpuioError, ValueError):
    """A saved state belongs to another data set, seed or sharding."""


class ProgramError(GpuioError, ValueError):
    """A step of an image is one that no kernel can do; no kernel was launched."""


class PipelineClosedError(GpuioError):
    """A batch was asked of a closed pipeline."""
