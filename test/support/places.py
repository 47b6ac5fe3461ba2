"""Keyframes of a camera that looks along x and moves along it, whose images the fake back end can
place.
"""

from dataclasses import replace

from fake_backend import AT
from random_keyframes import make_keyframe

from vggt3_ros.geometry import se3


def at(decimetres, id=None, odometry_x=0.0, **fields):
    """Keyframe seen from `decimetres` along x of the map, by odometry `odometry_x` metres
    farther.
    """
    keyframe = make_keyframe(decimetres if id is None else id, **fields)
    image = keyframe.image.copy()
    image[0, 0] = (*AT, decimetres)
    return replace(
        keyframe, image=image, T_odom_cam=se3.exp([0.1 * decimetres + odometry_x, 0, 0, 0, 0, 0])
    )
