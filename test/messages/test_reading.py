"""CameraInfo of common drivers: unambiguous variants are accepted and logged once."""

from types import SimpleNamespace

import numpy as np
import pytest

from vggt3_ros.geometry.camera import Camera
from vggt3_ros.messages.reading import _log_once, to_camera

FIVE = (-0.0306, 0.0352, -0.000138, -0.000146, -0.01204)
EIGHT = (-4.093, 9.191, 0.00125, -0.00104, -8.917, -4.188, 9.557, -9.304)


def info(model, d, width=640, height=480, skew=0.0, **other):
    return SimpleNamespace(
        width=width,
        height=height,
        distortion_model=model,
        d=np.array(d),
        k=np.array([525, skew, 320, 0, 525, 240, 0, 0, 1.0]),
        roi=SimpleNamespace(width=0, height=0, x_offset=0, y_offset=0),
        binning_x=0,
        binning_y=0,
        **other,
    )


def camera(model="", d=(), skew=0.0):
    return Camera(640, 480, 525.0, 525.0, 320.0, 240.0, model, tuple(d), skew)


SENT = {  # by the drivers' sources and the messages in their issue threads
    "RealSense D400": (info("plumb_bob", (0.0,) * 5), camera("plumb_bob", (0.0,) * 5)),
    "RealSense D455 colour": (info("plumb_bob", FIVE), camera("plumb_bob", FIVE)),
    "RealSense T265": (
        info("equidistant", (-0.0022, 0.0376, -0.0364, 0.0059, 0.0)),
        camera("equidistant", (-0.0022, 0.0376, -0.0364, 0.0059)),
    ),
    "ZED rectified": (
        info("plumb_bob", (0.0,) * 5, r=np.zeros(9)),
        camera("plumb_bob", (0.0,) * 5),
    ),
    "ZED raw": (info("rational_polynomial", EIGHT), camera("rational_polynomial", EIGHT)),
    "OAK": (
        info("rational_polynomial", EIGHT + (0.0,) * 6),
        camera("rational_polynomial", EIGHT + (0.0,) * 6),
    ),
    "OAK-D W": (
        info("equidistant", (0.01, 0.002, -0.003, 0.0005) + (0.0,) * 10),
        camera("equidistant", (0.01, 0.002, -0.003, 0.0005)),
    ),
    "Azure Kinect": (info("rational_polynomial", EIGHT), camera("rational_polynomial", EIGHT)),
    "Orbbec Gemini": (info("plumb_bob", FIVE + (0.0,) * 3), camera("plumb_bob", FIVE)),
    "Orbbec Femto": (info("plumb_bob", EIGHT), camera("rational_polynomial", EIGHT)),
    "Kinect, Astra": (info("plumb_bob", (0.0,) * 5), camera("plumb_bob", (0.0,) * 5)),
    "a simulator": (info("plumb_bob", ()), camera("plumb_bob")),
    "camera_calibration of Melodic": (
        info("fisheye", (0.01, 0.002, 0, 0)),
        camera("equidistant", (0.01, 0.002, 0, 0)),
    ),
    "its fisheye calibration": (
        info("equidistant", (-1.15, 2.91, -2.48, 0.18), skew=1.9),
        camera("equidistant", (-1.15, 2.91, -2.48, 0.18), 1.9),
    ),
}


@pytest.mark.parametrize("driver", SENT)
def test_cameras_of_common_drivers_are_understood(driver):
    sent, meant = SENT[driver]
    assert to_camera(sent) == meant


def test_a_normalised_distortion_model_is_logged_once(caplog):
    _log_once.cache_clear()
    for _ in range(3):
        to_camera(SENT["Orbbec Gemini"][0])
        to_camera(SENT["RealSense D400"][0])
    assert (
        caplog.text.count(
            "camera_info.distortion_model 'plumb_bob' with 8 coefficients is read as 'plumb_bob' with 5"
        )
        == 1
    )
    assert len(caplog.records) == 1


def test_a_binned_skewed_camera_has_half_the_skew():
    sent = info("equidistant", (0.01, 0.002, 0, 0), skew=1.9)
    sent.binning_x = sent.binning_y = 2
    assert to_camera(sent).skew == pytest.approx(0.95) and to_camera(sent).width == 320
