"""Small keyframes of noise, the same for the same id."""

import numpy as np

from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import Camera
from vggt3_ros.store.keyframe import Keyframe

CAMERA = Camera(64, 48, 60.0, 61.0, 31.5, 23.5, "plumb_bob", (0.1, -0.02, 0.001, 0.0, 0.0))


def make_keyframe(id, stamp_ns=None, depth="millimetres", camera=CAMERA):
    rng = np.random.default_rng(id)
    shape = (camera.height, camera.width)
    depths = {
        None: None,
        "millimetres": rng.integers(0, 9000, shape).astype(np.float32) / np.float32(1000),
        "float": rng.uniform(0.3, 5, shape).astype(np.float32),
    }
    return Keyframe(
        id,
        1_700_000_000_123_456_789 + id if stamp_ns is None else stamp_ns,
        rng.integers(0, 256, shape + (3,), np.uint8),
        camera,
        se3.exp(rng.normal(size=6)),
        depths[depth],
        np.diag(rng.uniform(1e-6, 1e-3, 6)),
    )


def assert_same(a, b):
    assert (a.id, a.stamp_ns, a.camera) == (b.id, b.stamp_ns, b.camera)
    np.testing.assert_array_equal(a.image, b.image)
    np.testing.assert_allclose(a.T_odom_cam, b.T_odom_cam, atol=1e-12)
    for name in ("depth", "odometry_covariance"):
        assert (getattr(a, name) is None) == (getattr(b, name) is None)
        if getattr(a, name) is not None:
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
