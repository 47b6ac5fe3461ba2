"""Lists of stamps brought together: what does not fit says how far it is off, and what mends
it.
"""

import numpy as np
import pytest

from vggt3_ros.datasets.trajectories import offsets_ns, paired

MS = 1_000_000
IMAGES = 10**18 + np.arange(12) * 266 * MS


def test_lists_that_fit_are_paired(caplog):
    chosen, others = paired(IMAGES, IMAGES + 15 * MS, 20 * MS, "depth", "here")
    assert chosen.tolist() == others.tolist() == list(range(12)) and not caplog.text


@pytest.mark.parametrize(
    "late_ms, text",
    [
        (
            33,
            r"0.033 s later \(median\); --time-offset depth=-0.033 corrects the offset, --input sync_tolerance=0.04",
        ),
        (-50, r"0.050 s earlier \(median\); --time-offset depth=0.050"),
        (
            3_600_000,
            r"do not overlap \(images from 1000000000.000, depth from 1000003600.000\); --time-offset depth=-3600.000 corrects the offset$",
        ),
    ],
)
def test_lists_that_do_not_fit_say_by_how_much(late_ms, text):
    with pytest.raises(
        ValueError, match=f"^here: no depth stamp is within 20 ms of an image: .*{text}"
    ):
        paired(IMAGES, IMAGES + late_ms * MS, 20 * MS, "depth", "here")


def test_many_images_alone_are_worth_a_warning_and_few_are_not(caplog):
    paired(IMAGES, IMAGES[:11], 20 * MS, "depth", "here")
    assert not caplog.text
    paired(IMAGES, IMAGES[:6], 20 * MS, "depth", "here")
    assert "here: 6 of 12 images have no depth within 20 ms" in caplog.text


def test_offsets_of_lists_that_there_are():
    assert offsets_ns({"depth": -0.033})["depth"] == -33 * MS and offsets_ns(None)["odometry"] == 0
    with pytest.raises(
        ValueError,
        match="--time-offset: unknown list lidar; known: depth, right, odometry, groundtruth",
    ):
        offsets_ns({"lidar": 1.0})
