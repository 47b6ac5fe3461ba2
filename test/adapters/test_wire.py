"""Views and answers as frames: exact, and refused when they violate the protocol."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from vggt3_ros.adapters import wire
from vggt3_ros.adapters.contract import Answer, Seen, View
from vggt3_ros.geometry import se3


@pytest.mark.parametrize(
    "first, words",
    [
        ({"hello": 2}, "protocol version is 2"),
        ({"hello": 1, "name": "x" * 501}, "its name is not a string"),
        (
            {
                "hello": 1,
                "name": "",
                "weights": "",
                "licence": "",
                "device": "",
                "dtype": "",
                "takes": ["gold"],
                "patch": 14,
            },
            "takes",
        ),
        (
            {
                "hello": 1,
                "name": "",
                "weights": "",
                "licence": "",
                "device": "",
                "dtype": "",
                "takes": [],
                "patch": 10**9,
            },
            "patch",
        ),
    ],
)
def test_a_first_frame_that_makes_no_sense_is_refused(first, words):
    with pytest.raises(wire.WireError, match=words):
        wire.about(first)


SEEN = {
    "seen": 1,
    "index": 0,
    "pose": np.eye(4).ravel().tolist(),
    "intrinsics": None,
    "dense": [2, 3],
}


@pytest.mark.parametrize(
    "change, payload, words",
    [
        ({"dense": [100_000, 100_000]}, b"", "exceeds the limit of .* pixels"),
        ({"dense": [2, 3]}, bytes(47), "payload of 47 bytes"),
        ({"dense": [2, 3], "points": "moon"}, bytes(96), "frame moon"),
        ({"dense": [-1, 3]}, bytes(48), "two positive integers"),
        ({"index": -1}, bytes(48), "its view is -1"),
        ({"pose": [1, 2]}, bytes(48), "16 numbers"),
        ({"pose": ["a"] * 16}, bytes(48), "16 numbers"),
    ],
)
def test_an_answer_whose_sizes_do_not_agree_is_refused(change, payload, words):
    with pytest.raises(wire.WireError, match=words):
        wire.unpacked_seen(SEEN | change, payload)


JUNK = [
    None,
    True,
    -1,
    0,
    10**400,
    1e308,
    float("nan"),
    "",
    "x" * 10_000,
    [],
    [[]],
    {},
    {"a": 1},
    [10**400] * 16,
    [None] * 9,
    [2, 3],
    ["world"],
]


@pytest.mark.parametrize("seed", range(4))
def test_junk_in_any_place_is_refused_by_name_or_means_nothing(seed):
    rng = np.random.default_rng(seed)
    hello = {
        "hello": 1,
        "name": "n",
        "weights": "w",
        "licence": "l",
        "device": "d",
        "dtype": "t",
        "takes": ["depth"],
        "patch": 14,
    }
    view, pixels = wire.packed_view(
        1,
        View(
            np.zeros((2, 3, 3), np.uint8), np.eye(3), np.eye(4), np.ones((2, 3), np.float32), True
        ),
    )
    refused = 0
    for _ in range(300):
        for header, payload, read in (
            (hello, b"", lambda h, p: wire.about(h)),
            (view, pixels, wire.unpacked_view),
            (SEEN | {"points": None}, bytes(48), wire.unpacked_seen),
        ):
            name = list(header)[rng.integers(len(header))]
            broken = header | {name: JUNK[rng.integers(len(JUNK))]}
            try:
                read(
                    broken,
                    payload[: rng.integers(len(payload) + 1)] if rng.integers(3) == 0 else payload,
                )
            except wire.WireError:
                refused += 1
        try:
            assert 0 <= wire.fraction(JUNK[rng.integers(len(JUNK))]) <= 1
        except wire.WireError:
            refused += 1
    assert refused > 300


def test_what_is_not_known_is_zero_and_says_nothing():
    depth, confidence = (
        np.array([[1, np.nan, -1], [np.inf, 0, 2]], "<f4"),
        np.array([[1, 2, 3], [np.inf, np.nan, 2]], "<f4"),
    )
    header, payload = wire.packed_seen(
        1, 0, Seen(np.full((4, 4), np.nan), None, depth, confidence), True
    )
    json.dumps(header, allow_nan=False)
    _, seen = wire.unpacked_seen(header, payload)
    assert seen.pose is None
    np.testing.assert_array_equal(wire.along_z(seen, "camera_from_world"), [[1, 0, 0], [0, 0, 2]])
    assert np.isfinite(seen.confidence).all()


@pytest.mark.parametrize("poses", ["camera_from_world", "world_from_camera"])
def test_points_in_the_world_become_depth_of_their_camera(poses):
    rng = np.random.default_rng(3)
    T_world_cam = se3.from_rotation_translation(
        Rotation.random(rng=rng).as_matrix(), [1.0, 2.0, 3.0]
    )
    points = rng.uniform(1, 2, (2, 3, 3))
    pose = T_world_cam if poses == "world_from_camera" else se3.inverse(T_world_cam)
    seen = Seen(
        pose,
        None,
        None,
        np.ones((2, 3)),
        se3.transform_points(T_world_cam, points).astype("<f4"),
        "world",
    )
    _, arrived = wire.unpacked_seen(*wire.packed_seen(1, 0, seen, True))
    np.testing.assert_allclose(wire.along_z(arrived, poses), points[..., 2], rtol=1e-5)


@given(
    height=st.integers(1, 8),
    width=st.integers(1, 8),
    known=st.tuples(st.booleans(), st.booleans(), st.booleans(), st.booleans()),
    seed=st.integers(0, 99),
)
def test_a_view_comes_out_as_it_went_in(height, width, known, seed):
    rng = np.random.default_rng(seed)
    matrix, pose, depth, dense = known
    view = View(
        rng.integers(0, 256, (height, width, 3)).astype(np.uint8),
        rng.normal(size=(3, 3)) if matrix else None,
        rng.normal(size=(4, 4)) if pose else None,
        rng.random((height, width)).astype(np.float32) if depth else None,
        dense,
    )
    header, payload = wire.packed_view(7, view)
    header = json.loads(json.dumps(header))
    arrived = wire.unpacked_view(header, payload)
    for name in ("image", "intrinsics", "T_world_cam", "depth"):
        np.testing.assert_array_equal(getattr(arrived, name), getattr(view, name), name)
    assert arrived.dense == dense and header["view"] == 7


@pytest.mark.parametrize("poses", ["camera_from_world", "world_from_camera"])
def test_a_pose_of_half_precision_becomes_rigid(poses):
    exact = se3.from_rotation_translation(
        Rotation.from_rotvec([0.3, -0.2, 0.9]).as_matrix(), [1.0, -2.0, 3.0]
    )
    rough = exact.astype(np.float16).astype(float)
    _, seen = wire.unpacked_seen(*wire.packed_seen(1, 0, Seen(rough), False))
    np.testing.assert_allclose(seen.pose[:3, :3] @ seen.pose[:3, :3].T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(seen.pose, exact, atol=2e-3)


@pytest.mark.parametrize(
    "pose",
    [np.diag([1.0, 1, -1, 1]), np.diag([2.0, 2, 2, 1]), np.diag([1.0, 1, 1, 2])],
    ids=["mirrored", "scaled", "last row"],
)
def test_a_pose_that_is_not_rigid_is_refused(pose):
    with pytest.raises(wire.WireError, match="view 3 is not rigid"):
        wire.unpacked_seen(*wire.packed_seen(1, 3, Seen(pose), False))


def test_depth_needs_a_confidence_of_its_size():
    for confidence in (None, np.ones((3, 2))):
        seen = Seen(np.eye(4), None, np.ones((2, 3)), confidence)
        with pytest.raises(wire.WireError, match="view 5: values .2, 3. do not match"):
            wire.packed_seen(1, 5, seen, True)
    assert wire.packed_seen(1, 5, seen, False)[1] == b""  # nobody asked for it


@pytest.mark.parametrize(
    "answer, words",
    [
        (Answer([Seen(None)]), "answered 1 of 2 views"),
        (Answer([Seen(None)] * 2, "camera_to_world"), "expected one of camera_from_world"),
    ],
)
def test_an_answer_is_checked_where_it_is_made(answer, words):
    with pytest.raises(wire.WireError, match=words):
        wire.check(answer, [View(np.zeros((2, 3, 3), np.uint8))] * 2)
