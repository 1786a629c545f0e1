"""What gpuio.image and mxnet.image are both asked to do, call by call.

Runs in either library's interpreter: pictures are drawn with integers, so they are the same
everywhere, and only results have to be kept. `run(library, folder)` gives them by name.
"""

from __future__ import annotations

import json
import random
import struct
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np

EIGVAL = np.array([55.46, 4.794, 1.148])
EIGVEC = np.array(
    [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.814], [-0.5836, -0.6948, 0.4203]]
)
MEAN, STD = np.array([120.0, 110.5, 99.25]), np.array([57.5, 58.25, 61.0])
BOXES = np.array(
    [[1, 0.1, 0.2, 0.45, 0.6], [0, 0.5, 0.1, 0.9, 0.5], [3, 0.3, 0.4, 0.95, 0.95]], np.float32
)


def picture(height, width, channels=3, seed=0):
    """(height, width, channels) uint8: triangle waves with noise."""
    y, x = np.mgrid[:height, :width]
    planes = []
    for c in range(channels):
        wave = (5 * x + 3 * y * (c + 1) + 40 * c + 17 * seed) % 510
        planes.append(np.where(wave > 255, 510 - wave, wave))
    noise = np.random.RandomState(seed).randint(-40, 41, (height, width, channels))
    return np.clip(np.stack(planes, axis=-1) + noise, 0, 255).astype(np.uint8)


def png(pixels):
    """(H, W, 3) uint8 as a PNG."""
    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)

    def chunk(kind, data):
        crc = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + crc

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IEND", b"")


def turned(jpeg, orientation, *, jfif):
    """A JPEG with an EXIF orientation, after its JFIF segment or in the place of that."""
    entry = struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0)
    tiff = b"II*\0" + struct.pack("<IH", 8, 1) + entry + struct.pack("<I", 0)
    data = b"Exif\0\0" + tiff
    segment = b"\xff\xe1" + struct.pack(">H", len(data) + 2) + data
    end = 4 + struct.unpack(">H", jpeg[4:6])[0]
    return (jpeg[:end] if jfif else jpeg[:2]) + segment + jpeg[end:]


def save(path, results):
    """Keep arrays as one compressed run of bytes: hundreds of small ones would be mostly heads."""
    heads, parts = [], []
    for name, value in results.items():
        value = np.asarray(value)
        heads.append([name, value.dtype.str, value.shape])
        parts.append(value.tobytes())
    blobs = json.dumps(heads).encode(), b"".join(parts)
    np.savez_compressed(path, *(np.frombuffer(blob, np.uint8) for blob in blobs))


def load(path):
    """The arrays that were saved, by name."""
    with np.load(path) as file:
        heads, data = json.loads(file["arr_0"].tobytes()), file["arr_1"].tobytes()
    results, place = {}, 0
    for name, dtype, shape in heads:
        count = int(np.prod(shape, dtype=int))
        value = np.frombuffer(data, dtype, count, place) if count else np.empty(0, dtype)
        results[name] = value.reshape(shape)
        place += value.nbytes
    return results


def seed(number):
    """The state from which both libraries draw."""
    random.seed(number)
    np.random.seed(number)  # noqa: NPY002


def plain(value):
    """A result as a NumPy array."""
    return value.asnumpy() if hasattr(value, "asnumpy") else np.asarray(value)


class Recipe:
    """One run.

    Args:
        library: `image` and `recordio` of either, and `array`, from NumPy to its arrays.
        folder: Where files may be written.
    """

    def __init__(self, library, folder):
        self.mx, self.folder = library, Path(folder)
        self.results = {}

    def u8(self, *shape, **options):
        return self.mx.array(picture(*shape, **options))

    def f32(self, *shape, **options):
        image = picture(*shape, **options).astype(np.float32)
        return self.mx.array(image + np.float32(0.25))

    def keep(self, name, *values):
        for number, value in enumerate(values):
            key = name if len(values) == 1 else f"{name} [{number}]"
            assert key not in self.results, key
            self.results[key] = plain(value)

    def functions(self):
        image = self.mx.image
        for interp in range(5):
            for w, h in ((13, 11), (33, 29), (12, 10), (30, 11)):
                size = f"{w}x{h} by {interp}"
                self.keep("imresize uint8 " + size, image.imresize(self.u8(20, 24), w, h, interp))
            for w, h in ((13, 11), (9, 25), (12, 10)):
                size = f"{w}x{h} by {interp}"
                self.keep(
                    "imresize float32 " + size, image.imresize(self.f32(20, 24), w, h, interp)
                )
            gray = self.u8(20, 24, 1)
            self.keep(f"imresize gray by {interp}", image.imresize(gray, 15, 15, interp))
            four = self.u8(21, 25, 4)
            self.keep(f"imresize four by {interp}", image.imresize(four, 15, 15, interp))
        wide = self.mx.array(picture(20, 24).astype(np.float64) / 3)
        self.keep("imresize float64", image.imresize(wide, 13, 11, 2))
        for shape in ((20, 24), (24, 20)):
            for size in (11, 31):
                for interp in (1, 9):
                    got = image.resize_short(self.u8(*shape), size, interp)
                    self.keep(f"resize_short {shape} {size} {interp}", got)
        seed(3)
        got = [image.resize_short(self.u8(20, 24), 10, 10) for _ in range(4)]
        self.keep("resize_short random", *got)
        sizes = [
            ((640, 480), (720, 120)),
            ((360, 1000), (480, 500)),
            ((7, 5), (7, 5)),
            ((3, 9), (8, 8)),
        ]
        self.keep("scale_down", [image.scale_down(*pair) for pair in sizes])
        self.keep("fixed_crop", image.fixed_crop(self.u8(20, 24), 3, 4, 10, 7))
        self.keep("fixed_crop over the edge", image.fixed_crop(self.u8(20, 24), 18, 15, 10, 7))
        self.keep("fixed_crop resized", image.fixed_crop(self.u8(20, 24), 3, 4, 10, 7, (6, 6), 1))
        self.keep("center_crop", *image.center_crop(self.u8(20, 25), (10, 7)))
        self.keep("center_crop enlarged", *image.center_crop(self.u8(20, 25), (30, 20), 1))
        seed(1)
        for size in ((10, 7), (30, 8), (12, 12)):
            for turn in range(2):
                name = f"random_crop {size} {turn}"
                self.keep(name, *image.random_crop(self.u8(20, 25), size, 1))
        for turn in range(6):
            got = image.random_size_crop(self.u8(40, 50), (9, 8), 0.08, (0.75, 4 / 3), 1)
            self.keep(f"random_size_crop {turn}", *got)
        got = image.random_size_crop(self.u8(20, 25), (9, 8), (3, 4), (1, 1), 1)
        self.keep("random_size_crop too large", *got)
        mean, std = self.mx.array(MEAN.astype(np.float32)), self.mx.array(STD.astype(np.float32))
        self.keep("color_normalize", image.color_normalize(self.f32(8, 9), mean, std))
        self.keep("color_normalize mean", image.color_normalize(self.f32(8, 9), mean))
        for kind in (0, 1, 2, 3, 4, 16, 18):
            got = image.copyMakeBorder(self.u8(5, 6), 2, 3, 9, 1, kind, 7.0)
            self.keep(f"copyMakeBorder {kind}", got)
        got = image.copyMakeBorder(self.u8(5, 6, 4), 1, 1, 1, 1, 0, 9.0)
        self.keep("copyMakeBorder of four channels", got)
        got = image.copyMakeBorder(self.u8(5, 6, 4), 1, 1, 1, 1, 0, values=(1.5, 2.5, 300))
        self.keep("copyMakeBorder by channel", got)
        got = image.copyMakeBorder(self.f32(5, 6), 1, 2, 3, 4, 0, 1.25)
        self.keep("copyMakeBorder float32", got)

    def rotations(self):
        image = self.mx.image
        planes = np.ascontiguousarray(picture(12, 15).astype(np.float32).transpose(2, 0, 1))
        for angle in (0, 30, -45, 90, 200.5):
            for zooms in ((False, False), (True, False), (False, True)):
                got = image.imrotate(self.mx.array(planes), angle, *zooms)
                self.keep(f"imrotate {angle} {zooms}", got)
        batch = self.mx.array(np.stack((planes, planes[::-1])))
        angles = self.mx.array(np.array([10, 77.0], np.float32))
        self.keep("imrotate batch", image.imrotate(batch, angles, False, True))
        self.keep("imrotate batch by one", image.imrotate(batch, 33))
        seed(4)
        self.keep("random_rotate", image.random_rotate(self.mx.array(planes), (-50, 50)))
        self.keep("random_rotate batch", image.random_rotate(batch, (-50, 50), True))

    def augmenters(self):
        image, source = self.mx.image, (26, 31)
        mean, std = self.mx.array(MEAN.astype(np.float32)), self.mx.array(STD.astype(np.float32))
        on_bytes = {
            "resize": image.ResizeAug(13, 1),
            "resize by size": image.ResizeAug(13, 9),
            "force": image.ForceResizeAug((11, 14), 3),
            "force by size": image.ForceResizeAug((11, 40), 9),
            "random crop": image.RandomCropAug((9, 10)),
            "center crop": image.CenterCropAug((9, 10)),
            "sized crop": image.RandomSizedCropAug((9, 10), 0.1, (0.75, 1.5), 1),
            "sized crop of a range": image.RandomSizedCropAug((9, 10), (0.1, 0.5), (0.75, 1.5), 9),
            "mirror": image.HorizontalFlipAug(0.5),
            "cast": image.CastAug(),
            "cast to uint8": image.CastAug("uint8"),
            "sequence": image.SequentialAug([image.ResizeAug(13, 1), image.CenterCropAug((9, 9))]),
        }
        on_floats = {
            "brightness": image.BrightnessJitterAug(0.4),
            "contrast": image.ContrastJitterAug(0.4),
            "saturation": image.SaturationJitterAug(0.4),
            "hue": image.HueJitterAug(0.5),
            "jitter": image.ColorJitterAug(0.3, 0.4, 0.5),
            "jitter of two": image.ColorJitterAug(0.3, 0, 0.5),
            "lighting": image.LightingAug(0.1, EIGVAL, EIGVEC),
            "normalise": image.ColorNormalizeAug(mean, std),
            "normalise of numpy": image.ColorNormalizeAug(MEAN, STD),
            "normalise by std": image.ColorNormalizeAug(None, std),
            "gray": image.RandomGrayAug(0.5),
            "order": image.RandomOrderAug(
                [image.BrightnessJitterAug(0.2), image.HueJitterAug(0.2)]
            ),
        }
        for name, aug in on_bytes.items():
            seed(len(name))
            self.keep("dumps " + name, json.dumps(aug.dumps()))
            self.keep(name, *(aug(self.u8(*source)) for _ in range(2)))
        for name, aug in on_floats.items():
            seed(len(name))
            self.keep("dumps " + name, json.dumps(aug.dumps()))
            self.keep(name, *(aug(self.f32(8, 10)) for _ in range(2)))
        lists = {
            "plain": {},
            "crop": {"rand_crop": True, "rand_mirror": True, "resize": 18, "inter_method": 1},
            "all": {
                "resize": 20,
                "rand_crop": True,
                "rand_resize": True,
                "rand_mirror": True,
                "mean": True,
                "std": True,
                "brightness": 0.2,
                "contrast": 0.2,
                "saturation": 0.2,
                "hue": 0.1,
                "pca_noise": 0.1,
                "rand_gray": 0.3,
                "inter_method": 10,
            },
            "arrays": {"mean": MEAN, "std": STD, "inter_method": 9},
        }
        for name, options in lists.items():
            augs = image.CreateAugmenter((3, 14, 12), **options)
            told = json.dumps([aug.dumps() for aug in augs])
            self.keep("dumps CreateAugmenter " + name, told)
            seed(7)
            for turn in range(3):
                got = self.u8(*source)
                for aug in augs:
                    got = aug(got)
                self.keep(f"CreateAugmenter {name} {turn}", got)

    def detection(self):
        image = self.mx.image
        augs = {
            "borrow": image.DetBorrowAug(image.CastAug()),
            "flip": image.DetHorizontalFlipAug(0.5),
            "crop": image.DetRandomCropAug(0.3, (0.5, 2), (0.1, 0.9), 0.4, 20),
            "crop of one shape": image.DetRandomCropAug(0.5, 1, 0.5, 0.2, 50),
            "pad": image.DetRandomPadAug((0.5, 2), (1.2, 3.5), 20, (1, 2, 3)),
            "several": image.CreateMultiRandCropAugmenter(
                [0.1, 0.5], (0.75, 1.33), [(0.1, 1), (0.3, 0.9)], 0.3, 30, 0.3
            ),
            "none": image.DetRandomSelectAug([]),
        }
        for name, aug in augs.items():
            seed(len(name))
            self.keep("dumps det " + name, json.dumps(aug.dumps()))
            for turn in range(8):
                got, label = aug(self.u8(30, 36), BOXES.copy())
                shape = np.array(got.shape)
                self.keep(f"det {name} {turn}", plain(got)[::7, ::7], label, shape)
        lists = {
            "plain": {},
            "all": {
                "resize": 33,
                "rand_crop": 0.8,
                "rand_pad": 0.6,
                "rand_gray": 0.2,
                "rand_mirror": True,
                "mean": True,
                "std": np.array([57.5, 58.25, 61.0]),
                "brightness": 0.2,
                "contrast": 0.2,
                "saturation": 0.2,
                "pca_noise": 0.1,
                "hue": 0.1,
                "inter_method": 10,
                "min_object_covered": [0.2, 0.5],
            },
        }
        for name, options in lists.items():
            augs = image.CreateDetAugmenter((3, 14, 12), **options)
            self.keep("dumps CreateDetAugmenter " + name, json.dumps([a.dumps() for a in augs]))
            seed(11)
            for turn in range(6):
                got, label = self.u8(30, 36), BOXES.copy()
                for aug in augs:
                    got, label = aug(got, label)
                self.keep(f"CreateDetAugmenter {name} {turn}", plain(got)[::3, ::3], label)

    def files(self, count=10):
        """Ten pictures, as files, a list, and two .rec, one with two labels and one with boxes."""
        recordio, folder = self.mx.recordio, self.folder
        lines = []
        names = ("one", "two", "det")
        writers = {
            name: recordio.MXIndexedRecordIO(
                str(folder / f"{name}.idx"), str(folder / f"{name}.rec"), "w"
            )
            for name in names
        }
        for n in range(count):
            encoded = png(picture(18 + n % 3, 20 + n % 4, seed=n))
            (folder / f"{n}.png").write_bytes(encoded)
            lines.append(f"{100 + n}\t{2 * n:f}\t{n}.png\n")
            boxes = np.append([2, 5], BOXES[: 1 + n % 3] + np.array([n, 0, 0, 0, 0]))
            labels = {"one": float(n), "two": [n, -n], "det": boxes}
            for name in names:
                header = recordio.IRHeader(0, labels[name], 100 + n, 0)
                writers[name].write_idx(100 + n, recordio.pack(header, encoded))
        for writer in writers.values():
            writer.close()
        (folder / "files.lst").write_text("".join(lines))

    def follow(self, name, it, epochs=3, reset=True):
        """Labels, pads and some pixels of all batches; a pad of -9 ends an epoch."""
        labels, pads, pixels = [], [], []
        for _ in range(epochs):
            while True:  # a `for` may begin the next epoch by itself, unlike in MXNet
                try:
                    batch = it.next()
                except StopIteration:
                    break
                labels.append(plain(batch.label[0]).copy())
                pads.append(batch.pad)
                pixels.append(plain(batch.data[0])[:, ::2, 2::9, 2::9].copy())
            pads.append(-9)
            if reset == "hard":
                it.hard_reset()
            elif reset:
                it.reset()
        self.keep(f"{name}: labels, pads", np.stack(labels), pads)
        if reset is True:
            self.keep(f"{name}: pixels", np.stack(pixels))
        self.keep(f"{name}: provided", repr((it.provide_data, it.provide_label)))

    def iterators(self):
        image, folder = self.mx.image, self.folder
        shape = (3, 14, 13)
        rec = {"path_imgrec": str(folder / "one.rec")}
        indexed = dict(rec, path_imgidx=str(folder / "one.idx"))
        listed = {"path_imglist": str(folder / "files.lst"), "path_root": str(folder)}
        made = [[float(n), f"{n}.png"] for n in range(10)]
        for handle in ("pad", "discard", "roll_over"):
            for kind, source in (("rec", rec), ("idx", indexed), ("lst", listed)):
                for batch in (4, 5):
                    for reset in (True, False, "hard"):
                        it = image.ImageIter(batch, shape, last_batch_handle=handle, **source)
                        name = f"{handle} {kind} by {batch}, reset {reset}"
                        self.follow(name, it, reset=reset)
            seed(5)
            it = image.ImageIter(
                3,
                shape,
                shuffle=True,
                last_batch_handle=handle,
                rand_crop=True,
                rand_mirror=True,
                brightness=0.3,
                **indexed,
            )
            self.follow(f"{handle} shuffled", it)
        it = image.ImageIter(3, shape, part_index=1, num_parts=3, **listed)
        self.follow("a part", it)
        it = image.ImageIter(3, shape, imglist=made, path_root=str(folder))
        self.follow("a list in memory", it)
        pairs = [[[n, n + 1], f"{n}.png"] for n in range(4)]
        pairs += [[n, n + 1, f"{n}.png"] for n in range(4)]
        it = image.ImageIter(3, shape, label_width=2, imglist=pairs, path_root=str(folder))
        self.follow("two labels in memory", it)
        two = {"path_imgrec": str(folder / "two.rec"), "path_imgidx": str(folder / "two.idx")}
        self.follow("two labels", image.ImageIter(4, shape, label_width=2, **two))
        it = image.ImageIter(4, shape, path_imglist=listed["path_imglist"], **indexed)
        self.follow("labels of a list", it)
        augs = [image.ForceResizeAug((13, 14), 1), image.CastAug()]
        self.follow("own augmenters", image.ImageIter(4, shape, aug_list=augs, **rec))
        it = image.ImageIter(4, shape, shuffle=True, **indexed)
        self.keep("attributes", [it.cur, it.num_image, len(it.seq), it.batch_size, it.label_width])
        label, encoded = it.next_sample()
        self.keep("a sample", label, [len(encoded), it.cur], it.imdecode(encoded)[:3, :3])

    def detection_iterators(self):
        image, folder = self.mx.image, self.folder
        shape = (3, 14, 13)
        source = {"path_imgrec": str(folder / "det.rec"), "path_imgidx": str(folder / "det.idx")}
        for handle in ("pad", "discard", "roll_over"):
            it = image.ImageDetIter(4, shape, last_batch_handle=handle, **source)
            self.follow(f"det {handle}", it)
        seed(9)
        it = image.ImageDetIter(
            3, shape, shuffle=True, rand_crop=0.7, rand_pad=0.5, rand_mirror=True, **source
        )
        self.follow("det shuffled", it)
        it.reshape(label_shape=(6, 5))
        other = image.ImageDetIter(2, shape, path_imgrec=source["path_imgrec"])
        it.sync_label_shape(other)
        self.follow("det reshaped", other, epochs=1)
        boxes = np.concatenate(([2, 5], BOXES.ravel())).tolist()
        made = [[boxes, f"{n}.png"] for n in range(5)]
        it = image.ImageDetIter(2, shape, imglist=made, path_root=str(folder), mean=True, std=True)
        self.follow("det in memory", it, epochs=2)
        drawn = next(it.draw_next(color=(255, 0, 0), mean=True, std=True))
        self.keep("drawn", drawn.shape)


def run(library, folder):
    """Results of all calls, by name."""
    recipe = Recipe(library, folder)
    recipe.functions()
    recipe.rotations()
    recipe.augmenters()
    recipe.detection()
    recipe.files()
    recipe.iterators()
    recipe.detection_iterators()
    return recipe.results


def library(image, recordio, array):
    """What `run` needs of a library."""
    return SimpleNamespace(image=image, recordio=recordio, array=array)
