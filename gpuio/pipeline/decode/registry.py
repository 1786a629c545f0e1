"""Decoders by name: those of gpuio, and those that users register."""

from __future__ import annotations

import warnings
from collections.abc import Callable

from gpuio.errors import BackendError
from gpuio.pipeline.decode.base import Decoder, DecoderOptions

DecoderFactory = Callable[[DecoderOptions], Decoder]
"""Makes a decoder, which its pipeline closes: a class derived from `Decoder`, or a function. It
raises a BackendError where something is not installed that the decoder needs."""


def register_decoder(name: str, factory: DecoderFactory) -> None:
    """Let `decoder=name` of the iterators over .rec files mean the decoders of `factory`.

        from gpuio.pipeline.decode.portable import PortableDecoder

        class QoiDecoder(PortableDecoder):
            name = "qoi"

            def decode_image(self, data):
                try:
                    return qoi.decode(data)  # (height, width, channels) uint8
                except ValueError as error:
                    raise gpuio.DecodeError(f"QOI: {error}") from error

        gpuio.register_decoder("qoi", QoiDecoder)
        loader = gpuio.ImageRecordIter("train.rec", (3, 224, 224), 256, decoder="qoi")

    A decoder that decodes one image at a time derives from `PortableDecoder`, as above. One that
    decodes windows of images, or batches on a GPU, derives from
    `gpuio.pipeline.decode.base.Decoder`.

    Args:
        name: The name; a decoder that was registered under it before is replaced.
        factory: Makes the decoder of a pipeline.

    Raises:
        TypeError: `factory` is neither a class nor a function.
    """
    if not callable(factory):
        raise TypeError(
            f"factory must be a class derived from Decoder, or a function, got {factory!r}"
        )
    _factories[name] = factory


def make_decoder(name: str, options: DecoderOptions) -> Decoder:
    """A decoder of the kind that is registered as `name`.

    Raises:
        BackendError: What the decoder needs is not installed.
        TypeError: The registered factory does not return a `Decoder`.
        ValueError: No decoder is registered as `name`.
    """
    if name not in _factories:
        raise ValueError(f"decoder must be one of {', '.join(_factories)}, got {name!r}")
    decoder = _factories[name](options)
    if not isinstance(decoder, Decoder):
        found = type(decoder).__name__
        raise TypeError(f"the factory of decoder {name!r} must return a Decoder, got {found}")
    return decoder


def _auto(options: DecoderOptions) -> Decoder:
    """The best decoder for the device that is installed."""
    if options.device.name == "cpu":
        return _jpeg(options)
    return _library(options, "")


def _jpeg(options: DecoderOptions) -> Decoder:
    """The decoder of gpuio itself for JPEGs, and a library for all other images."""
    from gpuio.pipeline.decode.jpeg import JpegDecoder

    if options.device.name != "cpu":
        raise BackendError(f"decoder 'jpeg' works on the CPU, not on {options.device.name}")
    return JpegDecoder(options, lambda: _library(options, " all but baseline JPEGs"))


def _library(options: DecoderOptions, images: str) -> Decoder:
    """NvImageCodec where it is installed, else the portable codec, with a warning.

    Args:
        options: As for every decoder.
        images: What it decodes, for the warning.
    """
    try:
        return _nvimgcodec(options)
    except BackendError as error:
        warnings.warn(f"decoding{images} with simplejpeg and Pillow: {error}", stacklevel=3)
    return _portable(options)


def _nvimgcodec(options: DecoderOptions) -> Decoder:
    if options.device.name == "cpu":
        from gpuio.pipeline.decode.nvimgcodec import NvImageCodecDecoder

        return NvImageCodecDecoder(options)
    from gpuio.pipeline.decode.nvimgcodec_gpu import NvImageCodecGpuDecoder

    return NvImageCodecGpuDecoder(options)


def _dali(options: DecoderOptions) -> Decoder:
    from gpuio.pipeline.decode.dali import DaliDecoder

    return DaliDecoder(options)


def _portable(options: DecoderOptions) -> Decoder:
    from gpuio.pipeline.decode.portable import PortableDecoder

    return PortableDecoder(options)


_factories: dict[str, DecoderFactory] = {
    "auto": _auto,
    "jpeg": _jpeg,
    "nvimgcodec": _nvimgcodec,
    "dali": _dali,
    "portable": _portable,
}
