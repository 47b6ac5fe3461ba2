"""A stereo keyframe gets its depth from the second image; other keyframes are left alone."""

import numpy as np
import pytest
from random_keyframes import make_keyframe
from stereo_wall import LENS, T_RIGHT_LEFT, WALL, wall_seen_by

from vggt3_ros.geometry.stereo import StereoPair
from vggt3_ros.store.keyframe import Keyframe
from vggt3_ros.store.stereo_keyframe import StereoKeyframe, with_stereo_depth


@pytest.fixture(scope="module")
def sent():
    left, right = wall_seen_by(LENS, np.eye(4)), wall_seen_by(LENS, T_RIGHT_LEFT)
    keyframe = Keyframe(7, 11, left, LENS, np.eye(4), odometry_covariance=np.eye(6))
    return StereoKeyframe(keyframe, right, StereoPair(LENS, LENS, T_RIGHT_LEFT))


def test_the_depth_is_that_of_the_distorted_left_image(sent):
    found = with_stereo_depth(sent)
    assert found.depth.shape == (LENS.height, LENS.width) and found.depth.dtype == np.float32
    centre = found.depth[
        int(LENS.cy) - 20 : int(LENS.cy) + 20, int(LENS.cx) - 20 : int(LENS.cx) + 20
    ]
    expected = WALL[1] / WALL[0][2]  # along the optical axis
    # a quarter of a pixel of a disparity of ten
    assert np.median(centre[centre > 0]) == pytest.approx(expected, rel=0.025)
    assert (found.depth > 0).mean() > 0.7


def test_everything_else_of_the_keyframe_is_kept(sent):
    found = with_stereo_depth(sent)
    assert (found.id, found.stamp_ns, found.camera) == (7, 11, LENS)
    np.testing.assert_array_equal(found.image, sent.keyframe.image)
    np.testing.assert_array_equal(found.odometry_covariance, np.eye(6))
    assert sent.keyframe.depth is None


def test_a_keyframe_without_a_second_image_is_returned_as_it_is():
    keyframe = make_keyframe(0)
    assert with_stereo_depth(keyframe) is keyframe


def test_an_image_of_another_size_is_refused(sent):
    wrong = StereoKeyframe(sent.keyframe, sent.right[:-1], sent.pair)
    with pytest.raises(ValueError, match="right image is 376x239"):
        with_stereo_depth(wrong)
