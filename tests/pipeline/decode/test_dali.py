"""The decoder `dali`: what it asks DALI for, which need not be installed for that."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from types import SimpleNamespace

import nvidia
import pytest

from gpuio.devices import make_device
from gpuio.pipeline.decode.base import DecoderOptions
from gpuio.pipeline.decode.dali import DaliDecoder
from gpuio.sources.recordio.source import RecordIOSource


class Pipeline(nullcontext):
    """Takes outputs, and is built."""

    def __init__(self, **options):
        super().__init__()
        self.options = options

    def set_outputs(self, *outputs):
        (self.decoding,) = outputs

    def build(self):
        pass


@pytest.fixture
def dali(monkeypatch):
    """In DALI's place, a module whose decoder returns what it was told."""
    fn = SimpleNamespace(
        external_source=lambda **options: options,
        decoders=SimpleNamespace(image=lambda encoded, **options: options),
    )
    types = SimpleNamespace(GRAY="gray", RGB="rgb", ANY_DATA="any", UINT8="uint8")
    module = SimpleNamespace(fn=fn, types=types, Pipeline=Pipeline)
    for name, part in {"": module, ".fn": fn, ".types": types}.items():
        monkeypatch.setitem(sys.modules, f"nvidia.dali{name}", part)
    monkeypatch.setattr(nvidia, "dali", module, raising=False)


@pytest.mark.parametrize(
    ("options", "load"),
    [({}, None), ({"deterministic": True}, 0.0), ({"engine_share": 0.7}, 0.7)],
    ids=str,
)
def test_colours_are_smoothed_and_engines_get_their_share(dali, rec, options, load):
    source = RecordIOSource.open(str(rec), "")
    decoder = DaliDecoder(DecoderOptions(make_device("cpu", 1), 3, source, **options))
    decoder._most = 4
    told = decoder._build().decoding
    decoder.close()
    assert told["jpeg_fancy_upsampling"] is True
    assert told["adjust_orientation"] is False
    assert told.get("hw_decoder_load") == load
