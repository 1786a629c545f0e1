"""Finding JPEG engines, with a library that only says what it is told to."""

from __future__ import annotations

import warnings

import pytest

from gpuio.errors import BackendError
from gpuio.pipeline.decode import hardware
from gpuio.pipeline.decode.hardware import Engines, find_engines, load_nvjpeg, warn_if_hidden

HIDDEN = Engines(0, "for a reason")


class Nvjpeg:
    """nvJPEG, of which nothing is left but its answers."""

    def __init__(self, created=0, informed=0, engines=7, cores=1):
        self.created, self.informed, self.engines, self.cores = created, informed, engines, cores
        self.open = 0

    def nvjpegCreateEx(self, kind, device, pinned, flags, handle):  # noqa: N802
        assert (kind, device, pinned, flags) == (3, None, None, 0)
        if not self.created:
            handle._obj.value = 0x1234
            self.open += 1
        return self.created

    def nvjpegGetHardwareDecoderInfo(self, handle, engines, cores):  # noqa: N802
        assert handle.value == 0x1234
        engines._obj.value, cores._obj.value = self.engines, self.cores
        return self.informed

    def nvjpegDestroy(self, handle):  # noqa: N802
        self.open -= 1
        return 0


@pytest.mark.parametrize(("engines", "cores"), [(7, 1), (1, 5)])
def test_engines_are_counted(engines, cores):
    nvjpeg = Nvjpeg(engines=engines, cores=cores)
    assert find_engines(nvjpeg) == Engines(engines)
    assert nvjpeg.open == 0


def test_a_missing_library_of_the_driver_is_named(monkeypatch):
    monkeypatch.setattr(hardware, "_VIDEO_LIBRARY", "libmissing.so.1")
    engines = find_engines(Nvjpeg(created=7))
    assert engines.count == 0
    assert engines.reason == (
        "libmissing.so.1, a part of the driver, is not visible; in a container, set "
        "NVIDIA_DRIVER_CAPABILITIES=compute,utility,video"
    )


def test_a_gpu_without_engines_says_so(monkeypatch):
    monkeypatch.setattr(hardware, "_VIDEO_LIBRARY", None)  # the process itself, which is there
    assert "finds none on this GPU, or in this slice" in find_engines(Nvjpeg(created=7)).reason


@pytest.mark.parametrize(
    "nvjpeg", [Nvjpeg(created=6), Nvjpeg(informed=9), Nvjpeg(engines=0)], ids=["6", "9", "0"]
)
def test_an_engine_query_that_fails_counts_no_engine(nvjpeg):
    engines = find_engines(nvjpeg)
    assert engines.count == 0
    assert "status" in engines.reason
    assert nvjpeg.open == 0


@pytest.mark.parametrize("capability", [(8, 0), (9, 0), (10, 0), (10, 3)])
def test_engines_that_should_be_there_are_missed(capability):
    with pytest.warns(UserWarning, match="without the GPU's JPEG engines: for a reason"):
        warn_if_hidden(HIDDEN, capability)


@pytest.mark.parametrize("capability", [(7, 5), (8, 6), (8, 9), (12, 0)])
def test_engines_that_may_not_be_there_are_not_missed(capability):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_if_hidden(HIDDEN, capability)


def test_engines_that_are_there_are_not_missed():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_if_hidden(Engines(7), (9, 0))


def test_without_nvjpeg_the_extra_is_named():
    with pytest.raises(BackendError, match=r"libnvjpeg\.so\.99.*: pip install 'gpuio\[cuda99\]'"):
        load_nvjpeg(99)
