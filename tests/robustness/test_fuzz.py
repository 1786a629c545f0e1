"""A minute of fuzzing with a fixed seed. `make fuzz` goes on for as long as it is given."""

from __future__ import annotations

import pytest

from robustness.campaign import Campaign
from robustness.doors import DOORS
from robustness.stress import SCENES, run_scenes

CASES = 120  # of each door
JPEG_CASES = 1000  # of some 60 damaged JPEGs each


@pytest.mark.slow
@pytest.mark.timeout(1200)  # kernels may have to be compiled first
def test_damage_is_an_error_with_a_name_and_sound_images_are_right(tmp_path):
    with Campaign(tmp_path) as campaign:
        campaign.run(list(DOORS), cases=CASES)
        print(campaign.table())
        assert not campaign.found, campaign.table()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_damaged_jpegs_have_libjpeg_s_pixels_or_are_declined_and_no_memory_is_overrun(tmp_path):
    with Campaign(tmp_path) as campaign:
        campaign.run(["jpeg"], seed=CASES, cases=JPEG_CASES)
        assert not campaign.found, campaign.table()
        assert campaign.inputs > 50 * JPEG_CASES


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("scene", sorted(SCENES))
def test_whatever_the_order_in_which_threads_come_images_are_right(scene):
    assert run_scenes([scene], 2.0) == []
