"""camera.yaml: written, read back, and what is wrong with it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vggt3_ros.datasets.camera_file import read_camera, write_camera
from vggt3_ros.geometry.camera import Camera

LENS = Camera(64, 48, 60.0, 61.0, 31.5, 23.5, "plumb_bob", (0.1, -0.05, 0.001, 0.002), 0.25)
LINES = {"width": 64, "height": 48, "fx": 60.0, "fy": 61.0, "cx": 31.5, "cy": 23.5}


def text(**changes):
    lines = LINES | changes
    return "".join(f"{name}: {value}\n" for name, value in lines.items() if value is not None)


@pytest.mark.parametrize("camera", [LENS, Camera(64, 48, 60.0, 61.0, 31.5, 23.5)])
def test_what_is_written_is_read_back(tmp_path, camera):
    write_camera(tmp_path / "camera.yaml", camera, 5000.0)
    assert read_camera(tmp_path / "camera.yaml", 1.0) == (camera, 5000.0)


@given(f=st.floats(4, 6000), c=st.floats(0, 64), scale=st.floats(1e-3, 1e6))
def test_numbers_keep_every_digit(tmp_path_factory, f, c, scale):
    path = tmp_path_factory.mktemp("camera") / "camera.yaml"
    camera = Camera(64, 48, f, f, c, c)
    write_camera(path, camera, scale)
    assert read_camera(path, 1.0) == (camera, scale)


def test_the_scale_of_depth_may_be_left_to_the_reader(tmp_path):
    path = tmp_path / "camera.yaml"
    path.write_text(text())
    assert read_camera(path, 1000.0)[1] == 1000.0
    path.write_text(text(depth_scale=5000))
    assert read_camera(path, 1000.0)[1] == 5000.0


@pytest.mark.parametrize(
    "content, words",
    [
        (text(fx=None), "fx is missing: add a line 'fx: value'"),
        (text(fx="wide"), "could not convert string to float: 'wide'; correct this entry"),
        (text(depth_scale=0), "depth_scale must be positive, got 0"),
        (text(depth_scale=".nan"), "depth_scale must be positive"),
        (text(distortion_model="fisheye9"), "fisheye9"),
        ("- 1\n- 2\n", "must contain 'name: value' lines"),
        ("fx: [", "camera.yaml: "),
        ("!!python/object/apply:os.system ['true']", "camera.yaml: "),
    ],
)
def test_faults_are_named(tmp_path, content, words):
    (tmp_path / "camera.yaml").write_text(content)
    with pytest.raises(ValueError, match=words):
        read_camera(tmp_path / "camera.yaml", 1000.0)


def test_a_missing_file_says_what_belongs_into_it(tmp_path):
    with pytest.raises(
        ValueError, match="camera.yaml cannot be read .No such file.*fx, fy, cx, cy"
    ):
        read_camera(tmp_path / "camera.yaml", 1000.0)
