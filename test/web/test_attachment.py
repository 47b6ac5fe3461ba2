"""Which keyframe carries a point."""

import numpy as np
import pytest

from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import Camera
from vggt3_ros.web.attachment import attach

CAMERA = Camera(640, 480, 500, 500, 319.5, 239.5)


def test_the_nearest_that_has_it_in_its_image():
    turn = lambda angle: se3.exp([0, 0, 0, 0, angle, 0])
    poses = np.array([turn(0), se3.exp([0, 0, 2.0, 0, 0, 0]), turn(np.pi)])
    points = np.array([[0, 0, 1.5], [0, 0, 3.0], [0, 0, -2.0], [0.1, 0.1, 2.5]])
    assert attach(points, poses, [CAMERA] * 3).tolist() == [0, 1, 2, 1]


def test_what_nobody_sees_goes_with_somebody_and_no_points_are_fine():
    pose = np.eye(4)[None]
    assert attach(np.array([[0, 0, -1.0], [99.0, 0, 1.0]]), pose, [CAMERA]).tolist() == [0, 0]
    assert attach(np.zeros((0, 3)), pose, [CAMERA]).shape == (0,)
    with pytest.raises(ValueError, match="no keyframe"):
        attach(np.zeros((1, 3)), np.zeros((0, 4, 4)), [])


def test_points_of_the_rendered_apartment_go_with_a_keyframe_that_measured_them(rendered):
    """Of each keyframe's own depth, most points are carried by one that has them in its image
    within a few centimetres of its depth.
    """
    poses = rendered.T_world_cam
    rows = range(0, len(poses), 5)
    points = np.concatenate([cloud_of(rendered.keyframes[k], poses[k]) for k in rows])
    carried = attach(points, poses, [rendered.camera] * len(poses))
    agrees = np.zeros(len(points), bool)
    for row in np.unique(carried):
        mine = carried == row
        seen = se3.transform_points(se3.inverse(poses[row]), points[mine])
        pixel = np.rint(rendered.camera.project(seen)).astype(int)
        inside = (seen[:, 2] > 0) & ((pixel >= 0) & (pixel < (640, 480))).all(axis=1)
        depth = np.zeros(len(seen))
        depth[inside] = rendered.keyframes[row].depth[pixel[inside, 1], pixel[inside, 0]]
        agrees[mine] = np.abs(depth - seen[:, 2]) < 0.1
    assert 0.6 < agrees.mean() < 1.0


def cloud_of(keyframe, pose):
    v, u = np.mgrid[0:480:16, 0:640:16].reshape(2, -1)
    depth = keyframe.depth[v, u].astype(float)
    pixels = np.stack([u, v], axis=1)[depth > 0].astype(float)
    return se3.transform_points(pose, keyframe.camera.unproject(pixels, depth[depth > 0]))
