"""Images and depth images of data sets, in files."""

import cv2
import numpy as np
import pytest

from vggt3_ros.datasets.image_files import levels_of, read_depth, read_image, write_image
from vggt3_ros.geometry.camera import Camera
from vggt3_ros.messages.levels import Levels

CAMERA = Camera(32, 24, 30.0, 30.0, 15.5, 11.5)
PIXELS = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)


def test_colours_are_rgb_and_lossless_files_exact(tmp_path):
    write_image(tmp_path / "x.png", PIXELS[..., ::-1])
    np.testing.assert_array_equal(read_image(tmp_path / "x.png", CAMERA), PIXELS)


def test_grey_images_have_three_equal_channels(tmp_path):
    write_image(tmp_path / "x.png", PIXELS[..., 0])
    read = read_image(tmp_path / "x.png", CAMERA)
    assert read.shape == (24, 32, 3) and (read == PIXELS[..., :1]).all()


def test_images_of_16_bits_share_the_levels_of_their_sequence(tmp_path):
    dark, bright = (np.full((24, 32), value, np.uint16) for value in (200, 4000))
    files = [tmp_path / "a.png", tmp_path / "b.png"]
    for file, image in zip(files, (dark, bright), strict=True):
        write_image(file, image)
    levels = levels_of(files)
    assert read_image(files[0], CAMERA, levels).max() == 200 >> 4  # 12 bits, as the brighter has
    assert read_image(files[1], CAMERA, levels).max() == 4000 >> 4
    assert read_image(files[0], CAMERA).max() == 200 >> 2  # 10 bits are the fewest there are
    assert isinstance(levels_of([]), Levels)


def test_depth_is_in_metres_with_zero_for_unknown(tmp_path):
    stored = np.array([[0, 5000], [2500, 65535]], np.uint16).repeat(12, 0).repeat(16, 1)
    write_image(tmp_path / "d.png", stored)
    depth = read_depth(tmp_path / "d.png", CAMERA, 5000.0, invalid=65535)
    assert depth.dtype == np.float32
    np.testing.assert_allclose(depth[::12, ::16], [[0, 1], [0.5, 0]])
    assert read_depth(tmp_path / "d.png", CAMERA, 5000.0)[-1, -1] == pytest.approx(13.107)


def test_float_depth_is_read_as_it_is(tmp_path):
    metres = np.random.default_rng(0).random((24, 32)).astype(np.float32)
    write_image(tmp_path / "d.tiff", metres)
    np.testing.assert_array_equal(read_depth(tmp_path / "d.tiff", CAMERA, 1.0), metres)


@pytest.mark.parametrize("read", [read_image, lambda path, camera: read_depth(path, camera, 1.0)])
def test_what_is_no_image_of_the_camera_is_named(tmp_path, read):
    (tmp_path / "x.png").write_text("no image")
    with pytest.raises(ValueError, match="x.png is not an image that OpenCV can read"):
        read(tmp_path / "x.png", CAMERA)
    write_image(tmp_path / "x.png", PIXELS[:12])
    with pytest.raises(ValueError, match="x.png is 32x12, the calibration says 32x24"):
        read(tmp_path / "x.png", CAMERA)


def test_colour_is_no_depth_and_float_is_no_image(tmp_path):
    write_image(tmp_path / "x.png", PIXELS)
    with pytest.raises(ValueError, match="must have one channel of uint16 or float32"):
        read_depth(tmp_path / "x.png", CAMERA, 1.0)
    write_image(tmp_path / "x.tiff", np.ones((24, 32, 3), np.float32))
    with pytest.raises(ValueError, match="must have 8 or 16 bits per channel"):
        read_image(tmp_path / "x.tiff", CAMERA)


def test_an_image_that_cannot_be_written_is_an_error(tmp_path):
    with pytest.raises((OSError, cv2.error)):
        write_image(tmp_path / "no" / "folder" / "x.png", PIXELS)
