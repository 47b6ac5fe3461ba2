"""Whether depth is registered to its image follows from frames and calibrations."""

from types import SimpleNamespace

import numpy as np
import pytest

from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import Camera
from vggt3_ros.messages.registration import check_registered, registration

COLOR, OTHER = Camera(64, 48, 60.0, 60.0, 31.5, 23.5), Camera(64, 48, 44.0, 44.0, 32.0, 24.0)
APART = se3.exp([0.05, 0, 0, 0, 0, 0])


def nobody():
    raise AssertionError("one frame lies in itself")


@pytest.mark.parametrize(
    "frame, camera",
    [
        ("camera", None),
        ("/camera", COLOR),
        ("", None),
        ("", COLOR),
        ("camera", Camera(64, 48, 60.01, 60.01, 31.52, 23.5, "plumb_bob", (0.1, 0, 0, 0))),
    ],
)
def test_the_same_frame_and_calibration_need_no_registration(frame, camera):
    assert registration(frame, camera, "camera", COLOR, nobody) is None


def test_another_calibration_in_the_same_frame_is_registered():
    depth = np.full((48, 64), 2.0, np.float32)
    depth[:, 32:] = 3.0
    found = registration("camera", OTHER, "camera", COLOR, nobody)(depth)
    edge = 31.5 + (32 - 32.0 - 0.5) / 44 * 60  # where the step lies in the image
    assert (
        found.shape == (48, 64)
        and (found[24, : int(edge) - 1] == 2).all()
        and (found[24, int(edge) + 3 :] == 3).all()
    )


def test_half_the_resolution_is_another_calibration():
    half = COLOR.scaled(32, 24)
    assert (
        registration("camera", half, "camera", COLOR, nobody)(np.full((24, 32), 2.0, np.float32))[
            2:-2, 2:-2
        ]
        == 2
    ).all()


def test_another_frame_is_registered_by_the_transform_between_them():
    register = registration("depth", COLOR, "camera", COLOR, lambda: APART)
    depth = np.zeros((48, 64), np.float32)
    depth[20:30, 20:30] = 1.5
    columns = np.flatnonzero(register(depth)[25])
    assert columns[0] == pytest.approx(20 + 60 * 0.05 / 1.5, abs=1) and len(columns) == 10
    # two names of one place
    assert registration("depth", COLOR, "camera", COLOR, lambda: np.eye(4)) is None


def test_what_is_missing_for_that_is_named():
    with pytest.raises(
        ValueError,
        match="depth is in 'depth', its image in 'camera', and neither /tf_static nor /tf connects",
    ):
        registration("depth", OTHER, "camera", COLOR, lambda: None)
    with pytest.raises(ValueError, match="no camera_info of its own"):
        registration("depth", None, "camera", COLOR, lambda: APART)


def test_a_message_that_names_two_frames_is_refused():
    def sent(depth, image, camera, compressed=False, data=b"1"):
        picture, empty = (
            SimpleNamespace(header=SimpleNamespace(frame_id=image), data=b"1"),
            SimpleNamespace(header=SimpleNamespace(frame_id="no"), data=b""),
        )
        return SimpleNamespace(
            depth=SimpleNamespace(header=SimpleNamespace(frame_id=depth), data=data),
            camera_frame_id=camera,
            image=empty if compressed else picture,
            compressed_image=picture if compressed else empty,
        )

    for frames in (
        ("", "camera", ""),
        ("camera", "camera", ""),
        ("camera", "", "camera"),
        ("/camera", "camera", "x"),
        ("a", "", ""),
    ):
        check_registered(sent(*frames))
        check_registered(sent(*frames, compressed=True))
    check_registered(sent("depth", "camera", "camera", data=b""))
    for compressed in (False, True):
        with pytest.raises(
            ValueError, match="depth.header.frame_id is 'depth', but its image is in 'camera'"
        ):
            check_registered(sent("depth", "camera", "camera", compressed))
