"""Decoders: headers to windows of pixels.

Which library decodes which format on the CPU:

| format | library | why |
| --- | --- | --- |
| JPEG | nvImageCodec, `jpeg_turbo_ext`: libjpeg-turbo | the main path; no crash |
| CMYK JPEG | simplejpeg, else Pillow | the pixels of OpenCV |
| JPEG, arithmetic or lossless | simplejpeg, else Pillow | `jpeg_turbo_ext` leaves some to OpenCV |
| PNG | nvImageCodec, `opencv_ext`: libpng | 2.2 times Pillow's speed at 32 x 32; no crash |
| animated PNG | Pillow | `opencv_ext` does not look at its checksums |
| PNG, in a forked process | Pillow | a thread of the parent may have held locks of `opencv_ext` |
| JPEG 2000 | Pillow: OpenJPEG | `opencv_ext` crashed in each of 3 processes |
| TIFF | Pillow: libtiff | the pixels of OpenCV |
| WebP | Pillow: libwebp | gets security updates; 7 % slower at 256 x 256 |
| BMP, PNM | Pillow | rare in .rec files; reads bitmaps that begin at their top |
| GIF, AVIF | Pillow | nvImageCodec has no codec for them |

"No crash": nvImageCodec 0.9 decoded 20,480 damaged copies of small pictures without a crash, for
each of baseline, progressive, gray and CMYK JPEG; PNG of 1 and 8 bits, of 16 bits, and with
animations; WebP, BMP, PNM and TIFF. With JPEG 2000 no process survived 512 copies. Each copy was
damaged up to eight times: bytes were changed, up to 64 were removed, or up to 16 were inserted.
gpuio gives nvImageCodec only JPEG and PNG, and loads no other of its codec modules for the CPU.

A JPEG is damaged if libjpeg-turbo warns of it, unless no pixel depends on what it warns of
(`formats/jpeg.py`): a missing end marker, bytes behind the pixels, oddities in the header. In the
portable codec libjpeg-turbo stops at a warning. nvImageCodec on the CPU lets us see its warnings
(`libjpeg_warnings`), and the portable codec then decides. With `tolerant`, the portable codec keeps
the pixels that libjpeg-turbo makes up.

Some damage is not found:

* libjpeg-turbo does not see all damage. Of 3,000 pictures in which up to a kilobyte was removed,
  inserted or overwritten, it warned of six in ten; half of these warnings were about bytes behind
  the pixels.
* Codecs on a GPU (engines, nvJPEG, DALI's `mixed`) never warn. The markers of the whole file show
  whether it was truncated or overwritten; bytes missing inside of pixel data may go unseen.
* Pillow's own libjpeg finds truncation only. Pillow decodes JPEGs where simplejpeg is missing, and
  CMYK with subsampled colours everywhere.
"""

from __future__ import annotations

from gpuio.pipeline.decode.registry import make_decoder, register_decoder

__all__ = ["make_decoder", "register_decoder"]
