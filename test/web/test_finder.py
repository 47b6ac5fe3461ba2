"""An uploaded file: where it was taken, or why it cannot be used."""

import cv2
import numpy as np
import pytest

from vggt3_ros.config import BackendConfig
from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import Camera
from vggt3_ros.messages.levels import Levels
from vggt3_ros.web import finder
from vggt3_ros.web.finder import Finder, encoded_size_checked, matching, read

CONFIG = BackendConfig.from_flat({"device": "cpu"})
CAMERA = Camera(640, 480, 500, 500, 319.5, 239.5)


def coded(image, kind=".png"):
    return cv2.imencode(kind, image[..., ::-1])[1].tobytes()


@pytest.fixture(scope="module")
def find(refined_folder):
    return Finder(refined_folder, CONFIG)


def test_an_unseen_view_is_found_within_ten_centimetres_and_nothing_is_written(
    rendered, refined_folder, find
):
    before = (refined_folder / "keyframes.db").read_bytes()
    T_map_world = rendered.T_odom_cam[0] @ se3.inverse(rendered.T_world_cam[0])
    for kind, size, k in ((".png", None, 0), (".jpg", None, 1), (".png", (320, 240), 2)):
        image = rendered.queries[k]
        image = image if size is None else cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        found = find(coded(image, kind))
        answer = found.localization
        assert answer.code == "ok", answer.message
        error = se3.inverse(T_map_world @ rendered.T_world_query[k]) @ answer.T_map_cam
        assert np.linalg.norm(error[:3, 3]) < 0.1 and se3.rotation_angle(error) < 0.05
        assert found.image.shape[:2] == (found.camera.height, found.camera.width)
        assert answer.verified and answer.inliers > 20
    assert (refined_folder / "keyframes.db").read_bytes() == before


def test_a_picture_of_another_place_is_not_found(find):
    noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    answer = find(coded(noise)).localization
    assert answer.code == "not_localized" and answer.message


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "neither JPEG nor PNG: send"),
        (b"GIF89a" + bytes(99), "send a JPEG or PNG"),
        (b"\x89PNG\r\n\x1a\n", "truncated"),
        (coded(np.zeros((480, 640, 3), np.uint8))[:60], "cannot be decoded"),
        (
            coded(np.zeros((300, 300, 3), np.uint8)),
            "is 300x300, the cameras that are known: 640x480",
        ),
    ],
)
def test_what_cannot_be_used_is_said(find, data, text):
    with pytest.raises(ValueError, match=text):
        find(data)


def test_sizes_are_checked_before_anything_is_decoded(monkeypatch):
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("it is decoded"))
    with pytest.raises(ValueError, match="at most 32 MB"):
        encoded_size_checked(bytes(finder.MAX_BYTES + 1))
    bomb = bytearray(coded(np.zeros((4, 4, 3), np.uint8)))
    bomb[16:24] = (16000).to_bytes(4, "big") * 2
    with pytest.raises(ValueError, match="16000x16000; at most 17 million pixels"):
        encoded_size_checked(bytes(bomb))


def test_the_camera_is_one_of_its_size_then_one_of_its_shape():
    wide = Camera(1280, 720, 900, 900, 639.5, 359.5)
    assert matching((1280, 720), [CAMERA, wide]) == wide
    assert matching((320, 240), [wide, CAMERA]) == CAMERA.scaled(320, 240)
    for size in ((480, 640), (1000, 640)):
        with pytest.raises(ValueError, match="1280x720, 640x480"):
            matching(size, [wide, CAMERA])


def test_images_of_sixteen_bits_are_scaled_as_the_maps_are():
    ramp = np.tile(np.arange(640, dtype=np.uint16), (480, 1))
    data = cv2.imencode(".png", np.repeat(ramp[..., None], 3, axis=2))[1].tobytes()
    assert read(data, CAMERA, Levels(10)).max() == 639 >> 2


def test_given_a_camera_the_maps_own_is_not_asked(refined_folder):
    with pytest.raises(ValueError, match="known: 100x50"):
        Finder(refined_folder, CONFIG, Camera(100, 50, 80, 80, 50, 25))(
            coded(np.zeros((480, 640, 3), np.uint8))
        )
