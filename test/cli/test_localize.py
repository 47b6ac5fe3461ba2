"""vggt3 localize as it is typed: poses of unseen images in a saved map, or why there is none."""

import json

import cv2
import numpy as np
import pytest

from vggt3_ros.cli.main import main
from vggt3_ros.datasets.camera_file import write_camera
from vggt3_ros.geometry import se3


@pytest.fixture
def images(rendered, tmp_path):
    names = [tmp_path / f"{k}.png" for k in range(3)]
    for name, image in zip(names, rendered.queries):
        cv2.imwrite(str(name), image[..., ::-1])
    return [str(name) for name in names]


def test_unseen_images_are_found_and_a_blank_one_is_not(
    rendered, refined_folder, images, tmp_path, capsys
):
    cv2.imwrite(
        str(tmp_path / "blank.png"),
        np.zeros((rendered.camera.height, rendered.camera.width), np.uint8),
    )
    write_camera(tmp_path / "camera.yaml", rendered.camera, 5000)
    before = (refined_folder / "keyframes.db").read_bytes()
    assert (
        main(
            [
                "localize",
                str(refined_folder),
                *images,
                str(tmp_path / "blank.png"),
                "--camera",
                str(tmp_path / "camera.yaml"),
                "--json",
                "--set",
                "device=cpu",
            ]
        )
        == 1
    )
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [answer["image"] for answer in answers] == [*images, str(tmp_path / "blank.png")]
    T_map_world = rendered.T_odom_cam[0] @ se3.inverse(rendered.T_world_cam[0])
    for answer, truth in zip(answers[:3], rendered.T_world_query):
        error = se3.inverse(T_map_world @ truth) @ np.array(answer["T_map_cam"])
        assert (
            answer["code"] == "ok"
            and np.linalg.norm(error[:3, 3]) < 0.1
            and se3.rotation_angle(error) < 0.05
        )
        assert np.linalg.eigvalsh(answer["covariance"]).min() > 0
    assert answers[3]["code"] != "ok" and answers[3]["message"] and answers[3]["T_map_cam"] is None
    assert (refined_folder / "keyframes.db").read_bytes() == before


def test_the_maps_own_camera_serves_and_text_is_a_tum_pose(
    rendered, refined_folder, images, capsys
):
    assert main(["localize", str(refined_folder), images[0], "--set", "device=cpu"]) == 0
    name, _, rest = capsys.readouterr().out.partition(": ")
    numbers, _, quality = rest.partition("  +- ")
    pose = se3.from_quaternion(*np.split(np.array([float(word) for word in numbers.split()]), [3]))
    truth = (
        rendered.T_odom_cam[0] @ se3.inverse(rendered.T_world_cam[0]) @ rendered.T_world_query[0]
    )
    assert name == images[0] and np.linalg.norm(pose[:3, 3] - truth[:3, 3]) < 0.1
    assert " m, " in quality and quality.strip().endswith("inliers")


def test_what_cannot_be_used_is_one_line(refined_folder, images, tmp_path, capsys):
    cv2.imwrite(str(tmp_path / "small.png"), np.zeros((48, 64, 3), np.uint8))
    (tmp_path / "text.png").write_text("no image")
    for arguments, text in (
        ([str(tmp_path), images[0]], "is not a saved map"),
        ([str(refined_folder), str(tmp_path / "none.png")], "file not found"),
        (
            [str(refined_folder), str(tmp_path / "small.png")],
            "is 64x48, the calibration says 640x480",
        ),
        ([str(refined_folder), str(tmp_path / "text.png")], "is not an image"),
        (
            [str(refined_folder), images[0], "--camera", str(tmp_path / "none.yaml")],
            "cannot be read",
        ),
    ):
        assert main(["localize", *arguments]) == 2
        error = capsys.readouterr().err
        assert text in error and error.count("\n") == 1
