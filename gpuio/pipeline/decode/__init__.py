"""Decoders: headers to windows of pixels.

Which library decodes which format on the CPU:

| format | library | why |
| --- | --- | --- |
| JPEG | nvImageCodec, `jpeg_turbo_ext`: libjpeg-turbo | the main path; no crash |
| CMYK JPEG | simplejpeg, else Pillow | the pixels of OpenCV |
| JPEG, arithmetic or without loss | the same | `jpeg_turbo_ext` leaves some to OpenCV |
| PNG | nvImageCodec, `opencv_ext`: libpng | 2.2 times Pillow's speed at 32 x 32; no crash |
| animated PNG | Pillow | `opencv_ext` does not look at its checksums |
| JPEG 2000 | Pillow: OpenJPEG | `opencv_ext` crashed in each of 3 processes |
| TIFF | Pillow: libtiff | the pixels of OpenCV |
| WebP | Pillow: libwebp | gets security updates; 7 % slower at 256 x 256 |
| BMP, PNM | Pillow | rare in .rec files; reads bitmaps that begin at their top |
| GIF, AVIF | Pillow | nvImageCodec has no codec for them |

"No crash" is what 20,480 damaged copies of small pictures came to in nvImageCodec 0.9, for each of:
baseline, progressive, gray and CMYK JPEG; PNG of 1 and 8 bits, of 16 bits, with animations. So did
as many of WebP, BMP, PNM and TIFF; of JPEG 2000 no process survived 512. Up to eight times, bytes
were changed, up to 64 lost, or up to 16 put in. nvImageCodec's parsers now see JPEG and PNG alone,
and no other of its codec modules for the CPU is loaded.

What counts as damage: whatever libjpeg-turbo warns of, but for what no pixel depends on
(`formats/jpeg.py`): a missing end marker, bytes behind the pixels, oddities of the head. In the
portable codec libjpeg-turbo stops at a warning. Inside nvImageCodec on the CPU warnings are heard
(`libjpeg_warnings`), and then the portable codec decides. With `tolerant` it takes the pixels
that libjpeg-turbo makes up.

What is not found:

* libjpeg-turbo itself notices nothing of some damage: of 3,000 pictures with up to a kilobyte lost,
  put in or written over, it warned of six in ten, half of these times of bytes behind the pixels.
* Codecs of a GPU (engines, nvJPEG, DALI's `mixed`) warn of nothing. A look at the markers of the
  whole file finds what was cut off or written over; bytes lost inside may stay unseen.
* Pillow's own libjpeg finds what was cut off only. It decodes where simplejpeg is missing, and CMYK
  with subsampled colours.
"""

from __future__ import annotations

from gpuio.pipeline.decode.registry import make_decoder, register_decoder

__all__ = ["make_decoder", "register_decoder"]
