"""The margin of the localizer's thresholds, on a few images of two places."""

import numpy as np
import pytest

from vggt3_ros.benchmarks.refusals import SCORES, measure
from vggt3_ros.cli.benchmark.refusals import line
from vggt3_ros.config import BackendConfig
from vggt3_ros.datasets.sequence import KeyframeList, Sequence
from vggt3_ros.datasets.synthetic import apartment


@pytest.fixture(scope="module")
def rows(rendered):
    some = rendered.keyframes[:12]
    keyframes = KeyframeList(
        rendered.camera,
        rendered.stamps_ns[:12],
        rendered.T_odom_cam[:12],
        lambda i: some[i].image,
        lambda i: some[i].depth,
    )
    home = Sequence(
        "home", rendered.camera, rendered.stamps_ns[:12], keyframes, rendered.T_world_cam[:12]
    )
    elsewhere = apartment.twin_rooms(keyframes=8, camera=apartment.CAMERA.scaled(320, 240))
    return list(measure([home, elsewhere], BackendConfig.from_flat({"device": "cpu"})))


def test_its_own_images_are_accepted_and_those_of_another_place_are_not(rows):
    assert [(row["map"], row["images"], row["way"]) for row in rows[:4]] == [
        ("home", "its own", "memory"),
        ("home", "its own", "verified"),
        ("home", "others", "memory"),
        ("home", "others", "verified"),
    ]
    for own, others in zip(rows[:2], rows[2:4]):
        assert (
            own["asked"] == 6
            and own["right"] >= 5
            and own["accepted"] >= 5
            and own["accepted_false"] == 0
        )
        assert (
            others["asked"] == 8
            and others["accepted"] == others["accepted_false"] == 0 == others["right"]
        )


def test_scores_are_told_from_the_least_to_the_greatest(rows):
    for row in rows:
        for name in SCORES:
            assert row[name] is None or (len(row[name]) == 5 and np.all(np.diff(row[name]) >= 0))
        assert (row["agreeing"] is None) == (
            not (row["right"] if row["images"] == "its own" else row["false"])
        )
        assert line(row).count("|") == 11
