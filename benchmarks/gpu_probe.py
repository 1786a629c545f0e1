"""What nvImageCodec does to a picture on this GPU: differences, damage, windows.

    python gpu_probe.py MEASUREMENT SETTINGS     # SETTINGS is JSON

gpu.py runs each of these in a process of its own, as some of them provoke what may crash.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from gpu_child import Row, answer
from gpu_sides import encoded
from gpu_slots import CHAIN, Pixels, Slots, kinds_of

from gpuio.errors import DecodeError
from gpuio.formats.codec import decode_rgb


def damaged(image: bytes) -> dict[str, bytes]:
    """What may become of a JPEG."""
    rng = np.random.default_rng(0)
    middle, noisy = len(image) // 2, np.frombuffer(image, np.uint8).copy()
    noisy[middle : middle + 200] = rng.integers(0, 255, 200)
    return {
        "cut off": image[:middle],
        "cut off, with an end": image[:middle] + b"\xff\xd9",
        "noise inside": noisy.tobytes(),
        "noise behind its head": image[:700] + rng.bytes(len(image) // 4) + b"\xff\xd9",
        "noise": b"\xff\xd8\xff" + rng.bytes(3000) + b"\xff\xd9",
    }


def damage(settings: Row) -> Iterator[Row]:
    """What one damaged JPEG does to its batch: to its pixels, to the others, to the time it takes.

    `decoded` tells whether nvImageCodec took it for decoded; `apart` is the mean difference in
    levels from what libjpeg-turbo makes of it, where that makes anything; `others_lost` and
    `others_changed` count pictures beside it; `afterwards` whether a good batch is good again.
    """
    images = encoded(settings["rec"], settings["batch_size"])
    for kind, kinds in kinds_of(settings).items():
        slots = Slots(settings["device"], images, settings["rec"], kinds=kinds)
        good = slots.decode()
        before = slots.pictures()
        usual = slots.time()
        for name, data in damaged(images[0]).items():
            slots.put([data, *images[1:]])
            done, pictures = slots.decode(), slots.pictures()
            row = {"kind": kind, "damage": name, "decoded": bool(done[0])}
            row["others_lost"] = int((good[1:] & ~done[1:]).sum())
            changed = [
                bool((a != b).any())
                for a, b, ok in zip(before[1:], pictures[1:], done[1:], strict=True)
                if ok
            ]
            row["others_changed"] = sum(changed)
            row["apart"] = _apart(data, pictures[0]) if done[0] else None
            row["seconds"], row["usual_seconds"] = round(slots.time(), 4), round(usual, 4)
            slots.put(images)
            row["afterwards"] = bool((slots.decode() == good).all())
            yield row
        slots.close()


def _apart(data: bytes, picture: Pixels) -> float | None:
    try:
        expected = decode_rgb(data, 3, tolerant=True)
    except DecodeError:
        return None
    return round(float(np.abs(picture.astype(np.int16) - expected).mean()), 3)


def difference(settings: Row) -> Iterator[Row]:
    """How far each kind's pixels are from libjpeg-turbo's, with smooth colours and without."""
    images = encoded(settings["rec"], settings["batch_size"])
    expected = [decode_rgb(image, 3) for image in images]
    for (kind, kinds), smooth in itertools.product(kinds_of(settings).items(), (1, 0)):
        options = "" if smooth else ":fancy_upsampling=0"
        slots = Slots(settings["device"], images, settings["rec"], kinds=kinds, settings=options)
        done, pictures = slots.decode(), slots.pictures()
        apart = np.zeros(256, np.int64)
        for ok, picture, want in zip(done, pictures, expected, strict=True):
            if ok:
                levels = np.abs(picture.astype(np.int16) - want).ravel()
                apart += np.bincount(levels, minlength=256)
        stats = {k: slots.decoder.stats()[k] for k in CHAIN}
        yield {"kind": kind, "fancy_upsampling": smooth, **stats, **spread(apart)}
        slots.close()


def spread(apart: npt.NDArray[np.int64]) -> Row:
    """Mean, largest, and parts above some levels, of a (256,) histogram of differences."""
    total, levels = max(int(apart.sum()), 1), np.arange(256)
    row = {
        "values": int(apart.sum()),
        "mean": round(float((apart * levels).sum() / total), 4),
        "max": int(levels[apart > 0].max(initial=0)),
    }
    return row | {
        f"above_{k}": float(f"{apart[k + 1 :].sum() / total:.3g}") for k in (0, 1, 2, 4, 8)
    }


def regions(settings: Row) -> Iterator[Row]:
    """Windows of images: whether they are decoded, and to the pixels of the whole image.

    May crash: nvImageCodec 0.9.0 does on H100 and B200, see `gpuio.pipeline.decode.versions`.
    """
    images = encoded(settings["rec"], settings["batch_size"])
    rng = np.random.default_rng(0)
    for kind, kinds in kinds_of(settings).items():
        slots = Slots(settings["device"], images, settings["rec"], kinds=kinds, windowed=True)
        whole_done, whole = slots.decode(), slots.pictures()
        sides = slots.box[:, 2:]
        size = np.maximum(1, sides * 7 // 10)
        at = (rng.random(sides.shape) * (sides - size + 1)).astype(np.int32)
        usual = slots.time()
        windows = np.concatenate([at, size], axis=1).astype(np.int32)
        yield {"kind": kind, "started": True}
        done, parts = slots.decode(windows), slots.pictures()
        apart = np.zeros(256, np.int64)
        for ok, part, picture, (y, x, height, width) in zip(
            done & whole_done, parts, whole, windows.tolist(), strict=True
        ):
            if ok:
                wanted = picture[y : y + height, x : x + width].astype(np.int16)
                apart += np.bincount(np.abs(wanted - part).ravel(), minlength=256)
        yield {"kind": kind, "decoded": int(done.sum()), "of": len(done), **spread(apart)} | {
            "whole_seconds": round(usual, 4)
        }
        slots.close()


MEASUREMENTS = {m.__name__: m for m in (damage, difference, regions)}

if __name__ == "__main__":
    answer(MEASUREMENTS)
