from __future__ import annotations

import io
import random
import zlib

import numpy as np
import pytest
from PIL import Image

from robustness import formats, mutate, pictures
from robustness.doors import DOORS

FRAME = b"\x0a\x23\xd7\xce" + (50).to_bytes(4, "little") + bytes(24) + b"image" * 5 + b"!\0\0"
LINES = b"".join(b"%d\t%d.5\ta/%d.jpg\n" % (k, k, k) for k in range(9))


@pytest.mark.parametrize(
    ("work", "clean"),
    [
        (mutate.damage, b"any bytes" * 9),
        (mutate.damage_frame, FRAME),
        (mutate.damage_lines, LINES),
        (mutate.damage_array, bytes(range(200))),
    ],
)
def test_damage_is_the_same_for_a_seed_and_mostly_another_for_each(work, clean):
    made = [work(random.Random(seed), clean) for seed in range(300)]
    again = [work(random.Random(seed), clean) for seed in range(300)]
    assert made == again
    assert len(set(made)) > 100
    assert sum(new != clean for new in made) > 200


@pytest.mark.parametrize("kind", sorted(pictures.images()))
def test_every_image_of_a_format_can_be_damaged_in_many_ways(kind):
    for image in pictures.images()[kind]:
        made = {formats.damage_image(random.Random(seed), image) for seed in range(60)}
        assert len(made - {image}) > 20


@pytest.mark.parametrize("kind", sorted(pictures.images()))
def test_images_are_sound_and_small(kind):
    for image in pictures.images()[kind]:
        with Image.open(io.BytesIO(image)) as picture:
            picture.load()
            assert max(picture.size) <= 300


def test_mixed_images_are_of_all_formats_and_distinct_ones_are_distinct():
    assert {pictures.kind_of(image) for image in pictures.mixed(80)} == set(pictures.images())
    assert len(set(pictures.distinct(80))) == 80


def test_a_jpeg_taken_apart_is_put_together_again():
    for image in pictures.images()["JPEG"]:
        segments, scan = formats.split_jpeg(image)
        assert formats.join_jpeg(segments, scan) == image


def test_a_png_with_another_header_has_right_sums():
    image = pictures.images()["PNG"][0]
    chunks = formats._chunks(image)
    assert formats._png(chunks) == image
    chunks[0] = b"IHDR", bytes(13)
    made = formats._png(chunks)
    assert made[29:33] == zlib.crc32(b"IHDR" + bytes(13)).to_bytes(4, "big")


def test_labels_get_values_that_are_no_numbers():
    made = [mutate.damage_labels(random.Random(seed), [2, 5, 0, 0.1]) for seed in range(200)]
    assert any(np.isnan(labels).any() for labels in made)
    assert {len(labels) for labels in made} > {1, 4, 5}
    for seed in range(200):
        mutate.damage_labels(random.Random(seed), [1])
        mutate.damage_labels(random.Random(seed), [])


def test_doors_have_names_of_their_own_and_say_what_they_are():
    for name, door in DOORS.items():
        assert door.name == name
        assert door.__doc__
