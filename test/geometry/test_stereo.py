"""Stereo depth: a real calibrated pair with true disparity, a rendered pair with true depth, and
pairs read from messages.
"""

import importlib.util
from pathlib import Path

import cv2
import numpy as np
import pytest
from bags import Bag
from layouts import keyframe_message
from stereo_wall import LENS, T_RIGHT_LEFT, WALL, wall_seen_by

from vggt3_ros import Keyframe
from vggt3_ros.datasets.dataset import Options, open_recording
from vggt3_ros.datasets.rosbag import read_rosbag
from vggt3_ros.datasets.synthetic import sensor
from vggt3_ros.datasets.synthetic.flat import flat
from vggt3_ros.datasets.synthetic.render import Renderer
from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import Camera
from vggt3_ros.geometry.stereo import StereoPair
from vggt3_ros.messages.reading import to_stereo_pair

BASELINE = se3.from_rotation_translation(np.eye(3), [-0.1, 0, 0])
START = 1_700_000_000 * 10**9
IMAGE, INFO, ODOMETRY = (
    "sensor_msgs/msg/Image",
    "sensor_msgs/msg/CameraInfo",
    "nav_msgs/msg/Odometry",
)


def wall_depth(camera):
    """True metres along z of the wall of test_euroc in the image of a distorted camera that sees
    it from the origin.
    """
    y, x = np.indices((camera.height, camera.width), float)
    xy = cv2.undistortPoints(
        np.dstack([x, y]).reshape(-1, 1, 2), camera.matrix, np.array(camera.distortion)
    ).reshape(*x.shape, 2)
    normal, offset = WALL
    return offset / (np.dstack([xy, np.ones(x.shape)]) @ normal)


def test_a_real_pair_with_true_disparity():
    """Middlebury 2014 motorcycle at a quarter of its size, as scikit-image carries it; the
    principal points lie 31 px apart.
    """
    folder = Path(importlib.util.find_spec("skimage").origin).parent / "data"
    left, right = (
        cv2.imread(str(folder / f"motorcycle_{side}.png"))[..., ::-1].copy()
        for side in ("left", "right")
    )
    disparity = np.load(folder / "motorcycle_disp.npz")["arr_0"]
    camera = Camera(741, 500, 994.978, 994.978, 311.193, 254.877)
    other = Camera(741, 500, 994.978, 994.978, 311.193 + 31.086, 254.877)
    T_right_left = se3.from_rotation_translation(np.eye(3), [-0.193001, 0, 0])
    depth = StereoPair(camera, other, T_right_left).depth(left, right)
    truth = np.isfinite(disparity)
    true_depth = 994.978 * 0.193001 / (disparity + 31.086)
    known = truth & (depth > 0)
    assert known.sum() > 0.85 * truth.sum()
    relative = np.abs(depth[known] / true_depth[known] - 1)
    assert np.median(relative) < 0.005 and (relative > 0.05).mean() < 0.07
    found = 994.978 * 0.193001 / depth[known] - 31.086
    assert (np.abs(found - disparity[known]) > 2).mean() < 0.07


def test_a_rendered_pair(rendered):
    renderer = Renderer(*flat(0), seed=0)
    pair = StereoPair(rendered.camera, rendered.camera, BASELINE)
    for i in (2, 14):
        views = [
            renderer.render(rendered.camera, T)
            for T in (rendered.T_world_cam[i], rendered.T_world_cam[i] @ se3.inverse(BASELINE))
        ]
        left, right = (
            sensor.photograph(view.color, np.random.default_rng(k)) for k, view in enumerate(views)
        )
        depth, truth = pair.depth(left, right), views[0].depth
        known = depth > 0
        assert known.mean() > 0.5
        relative = np.abs(depth[known] / truth[known] - 1)
        assert np.median(relative) < 0.02 and (relative > 0.1).mean() < 0.1


def test_depth_is_registered_to_the_distorted_image():
    """Distortion and the rectifying rotation are undone: the wall lies where the lens itself sees
    it.
    """
    pair = StereoPair(LENS, LENS, T_RIGHT_LEFT)
    depth = pair.depth_of_left(wall_seen_by(LENS, np.eye(4)), wall_seen_by(LENS, T_RIGHT_LEFT))
    known = depth > 0
    assert known.mean() > 0.5
    relative = depth[known] / wall_depth(LENS)[known] - 1
    assert abs(np.median(relative)) < 0.01 and np.median(np.abs(relative)) < 0.02


def test_images_of_another_size_are_refused():
    pair = StereoPair(LENS, LENS, T_RIGHT_LEFT)
    with pytest.raises(ValueError, match="the right image is 100x50, but its camera is 376x240"):
        pair.depth(np.zeros((240, 376), np.uint8), np.zeros((50, 100), np.uint8))


def test_a_pinhole_beside_a_fisheye_is_refused_and_two_ideal_fisheyes_are_not():
    fisheye = Camera(320, 240, 160.0, 160.0, 159.5, 119.5, "equidistant", (0.0,) * 4)
    with pytest.raises(ValueError, match="one camera is equidistant and the other is not"):
        StereoPair(fisheye, fisheye.undistorted(), BASELINE)
    pair = StereoPair(fisheye, fisheye, BASELINE)
    dot = np.zeros((240, 320), np.uint8)
    dot[119:121, 159 + 112 : 161 + 112] = 255  # 40 degrees to the right
    at = np.argwhere(pair.rectify(dot) > 100).mean(axis=0)
    np.testing.assert_allclose(
        at, [pair.camera.cy, pair.camera.cx + pair.camera.fx * np.tan(112 / 160)], atol=1.5
    )


# as messages bring them
# ---------------------------------------------------------------------------------------------------------------


def infos(bag, header):
    """CameraInfos of LENS and its like at T_RIGHT_LEFT, as camera_calibration writes them: r and p
    rectify.
    """
    d = np.array(LENS.distortion)
    turn, turn_right, p, p_right, *_ = cv2.stereoRectify(
        LENS.matrix,
        d,
        LENS.matrix,
        d,
        (LENS.width, LENS.height),
        T_RIGHT_LEFT[:3, :3],
        T_RIGHT_LEFT[:3, 3],
    )
    made = []
    for rotation, projection in ((turn, p), (turn_right, p_right)):
        info = bag.camera_info(LENS, header)
        info.d, info.r, info.p = np.append(d, 0.0), rotation.ravel(), projection.ravel()
        made.append(info)
    return made


@pytest.fixture(scope="module")
def seen():
    return wall_seen_by(LENS, np.eye(4)), wall_seen_by(LENS, T_RIGHT_LEFT)


def assert_depth_of_the_wall(depth):
    known = depth > 0
    assert (
        known.mean() > 0.5 and np.median(np.abs(depth[known] / wall_depth(LENS)[known] - 1)) < 0.02
    )


def test_camera_infos_give_the_transform_of_the_pair(tmp_path):
    with Bag(tmp_path / "bag") as bag:
        left, right = infos(bag, bag.header(START, "left"))
    assert to_stereo_pair(left, right).baseline == pytest.approx(
        np.linalg.norm(T_RIGHT_LEFT[:3, 3]), rel=1e-6
    )
    with pytest.raises(
        ValueError,
        match=r"right_camera_info.p\[3\] must be -fx \* baseline of a camera to the right",
    ):
        to_stereo_pair(right, left)
    right.r = 2 * right.r
    with pytest.raises(ValueError, match="right_camera_info.r is not a rotation"):
        to_stereo_pair(left, right)


def test_a_keyframe_message_with_a_right_image_has_depth(tmp_path, seen, monkeypatch):
    frame = Keyframe(7, START, seen[0], LENS, np.eye(4))
    with Bag(tmp_path / "bag") as bag:
        header = bag.header(START, "camera")
        left_info, right_info = infos(bag, header)
        message = keyframe_message(bag, frame, None, header, seen[1], right_info)
        message.camera_info = left_info
        bag.write("/keyframes", "vggt3_ros/msg/Keyframe", message, START)
    recording = open_recording(tmp_path / "bag")
    matched, depth_of_left = [], StereoPair.depth_of_left
    monkeypatch.setattr(
        StereoPair, "depth_of_left", lambda *images: matched.append(1) or depth_of_left(*images)
    )
    np.testing.assert_array_equal(recording.load_image(0), seen[0])
    assert not matched  # whoever wants the image does not wait for its depth
    assert_depth_of_the_wall(recording.load_depth(0))
    assert len(matched) == 1


@pytest.mark.parametrize("stereo", [True, False])
def test_two_image_topics_of_a_bag_give_depth(tmp_path, seen, stereo):
    with Bag(tmp_path / "bag") as bag:
        header = bag.header(START, "camera")
        for side, image, info in zip(("left", "right"), seen, infos(bag, header)):
            bag.write(f"/{side}/image_raw", IMAGE, bag.image(image, "rgb8", header), START)
            bag.write(f"/{side}/camera_info", INFO, info, START)
        bag.write(
            "/odom", ODOMETRY, bag.odometry(np.eye(4), bag.header(START, "odom"), "camera"), START
        )
    recording = open_recording(tmp_path / "bag", Options(stereo=stereo))
    np.testing.assert_array_equal(recording.load_image(0), seen[0])
    if stereo:
        assert_depth_of_the_wall(recording.load_depth(0))
    else:
        assert recording.load_depth is None


def test_rectified_topics_need_no_distortion(tmp_path, seen):
    with Bag(tmp_path / "bag") as bag:
        header = bag.header(START, "camera")
        both = infos(bag, header)
        for side, image, info in zip(("left", "right"), seen, both):
            maps = cv2.initUndistortRectifyMap(
                LENS.matrix,
                info.d,
                info.r.reshape(3, 3),
                info.p.reshape(3, 4)[:, :3],
                (LENS.width, LENS.height),
                cv2.CV_32FC1,
            )
            bag.write(
                f"/{side}/image_rect",
                IMAGE,
                bag.image(cv2.remap(image, *maps, cv2.INTER_LINEAR), "rgb8", header),
                START,
            )
            bag.write(f"/{side}/camera_info", INFO, info, START)
        bag.write(
            "/odom", ODOMETRY, bag.odometry(np.eye(4), bag.header(START, "odom"), "camera"), START
        )
    recording = read_rosbag(tmp_path / "bag", rectified=True)
    depth, camera = recording.load_depth(0), recording.camera
    v, u = np.nonzero(depth)
    assert len(v) > 0.5 * depth.size
    in_left = camera.unproject(np.stack([u, v], 1), depth[v, u]) @ both[0].r.reshape(3, 3)
    normal, offset = WALL
    assert np.median(np.abs(in_left @ normal - offset) / np.linalg.norm(normal)) < 0.05
