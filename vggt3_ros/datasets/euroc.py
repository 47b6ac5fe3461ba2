"""Folders of the EuRoC (ASL) layout: mav0/cam0/{sensor.yaml, data.csv, data/}, optionally cam1,
and state_groundtruth_estimate0/data.csv (body in world) as truth. Burri et al., IJRR 2016.
"""

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import yaml

from vggt3_ros.datasets.image_files import levels_of, read_image
from vggt3_ros.datasets.odometry import PAIRING
from vggt3_ros.datasets.recording import Recording
from vggt3_ros.datasets.trajectories import offset_text, offsets_ns, paired, poses_at
from vggt3_ros.datasets.tum_files import Rows
from vggt3_ros.frontend.pairing import PairingConfig
from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import Camera
from vggt3_ros.geometry.stereo import StereoPair

TRUTH = "state_groundtruth_estimate0"
DISTORTION = {
    "radial-tangential": "plumb_bob",
    "radtan": "plumb_bob",
    "equidistant": "equidistant",
    "none": "",
    "": "",
}


def mav_folder(folder: str | Path) -> Path | None:
    """Return the folder that contains cam0: `folder`/mav0 or `folder` itself; None for anything
    else.
    """
    return next(
        (
            path
            for path in (Path(folder) / "mav0", Path(folder))
            if (path / "cam0" / "data.csv").is_file()
        ),
        None,
    )


def read_euroc(
    folder: str | Path,
    stereo: bool = True,
    pairing: PairingConfig = PAIRING,
    time_offsets: Mapping[str, float] | None = None,
) -> Recording:
    """Read all frames as a Recording.

    With cam1 and `stereo`, the images are rectified, have stereo depth, and only frames of both
    cameras are used. With cam0 alone the images are unmodified and have no depth. time_offsets:
    {"right" or "groundtruth": seconds to add to the stamps of cam1 or of the truth}. Raise
    ValueError naming the file and the fault.
    """
    offsets = offsets_ns(time_offsets)
    mav = mav_folder(folder)
    if mav is None:
        raise ValueError(f"{folder} is not in the EuRoC layout: mav0/cam0/data.csv is missing")
    name = mav.resolve().parent.name if mav.name == "mav0" else mav.resolve().name
    camera, T_body_cam = _read_sensor(mav / "cam0" / "sensor.yaml")
    stamps_ns, files = _read_images(mav / "cam0")
    levels = levels_of(files)
    truth = _read_truth(mav / TRUTH / "data.csv")
    T_world_body = None
    if truth is not None:
        truth_stamps = truth[0] + offsets["groundtruth"]
        T_world_body = poses_at(truth_stamps, truth[1], stamps_ns)
        if not np.isfinite(T_world_body).any():
            raise ValueError(
                f"{mav / TRUTH}: no pose is known at the time of any image: "
                f"{offset_text(stamps_ns, truth_stamps, 'groundtruth')}"
            )
    if not (stereo and (mav / "cam1" / "data.csv").is_file()):
        return Recording(
            name,
            camera,
            stamps_ns,
            lambda i: read_image(files[i], camera, levels),
            T_world_cam=None if T_world_body is None else T_world_body @ T_body_cam,
        )

    right, T_body_right = _read_sensor(mav / "cam1" / "sensor.yaml")
    pair = StereoPair(camera, right, se3.inverse(T_body_right) @ T_body_cam)
    right_stamps, right_files = _read_images(mav / "cam1")
    of_left, of_right = paired(
        stamps_ns, right_stamps + offsets["right"], pairing.tolerance_ns, "right", mav / "cam1"
    )

    def left_image(i: int) -> np.ndarray:
        return read_image(files[of_left[i]], camera, levels)

    return Recording(
        name,
        pair.camera,
        stamps_ns[of_left],
        lambda i: pair.rectify(left_image(i)),
        lambda i: pair.depth(left_image(i), read_image(right_files[of_right[i]], right, levels)),
        T_world_cam=None
        if T_world_body is None
        else T_world_body[of_left] @ T_body_cam @ pair.T_left_rectified,
        T_file_cam=pair.T_left_rectified,
    )


def _read_sensor(path: Path) -> tuple[Camera, np.ndarray]:
    """Return the camera and T_body_cam (4, 4) of a sensor.yaml. Raise ValueError."""
    try:
        text = path.read_text()
        # OpenCV's header, which PyYAML rejects
        text = yaml.safe_load(text.split("\n", 1)[1] if text.startswith("%YAML:") else text)
        if text.get("camera_model", "pinhole") != "pinhole":
            raise ValueError(
                f"camera_model '{text['camera_model']}' is not supported, only pinhole"
            )
        model = text.get("distortion_model") or ""
        if model not in DISTORTION:
            raise ValueError(
                f"distortion_model '{model}' is unknown; known: {', '.join(filter(None, DISTORTION))}"
            )
        width, height = map(int, text["resolution"])
        fx, fy, cx, cy = map(float, text["intrinsics"])
        camera = Camera(
            width,
            height,
            fx,
            fy,
            cx,
            cy,
            DISTORTION[model],
            tuple(text.get("distortion_coefficients") or ()),
        )
        return camera, se3.check(np.array(text["T_BS"]["data"], float).reshape(4, 4), "T_BS")
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    except KeyError as error:
        raise ValueError(f"{path}: {error.args[0]} is missing") from error
    except (AttributeError, TypeError, ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: {error}") from error


def _read_images(folder: Path) -> tuple[np.ndarray, list[Path]]:
    rows = _read_csv(folder / "data.csv", 2)
    files = []
    for number, fields in rows:
        path = folder / "data" / fields[1]
        if Path(fields[1]).name != fields[1] or not path.is_file():
            raise ValueError(f"{folder / 'data.csv'}:{number}: {path} is missing")
        files.append(path)
    return _stamps(folder / "data.csv", rows), files


def _read_truth(path: Path) -> tuple[np.ndarray, np.ndarray] | None:
    """Return stamps (N,) and T_world_body (N, 4, 4), or None if the file does not exist. Raise
    ValueError.
    """
    if not path.exists():
        return None
    rows = _read_csv(path, 8)
    try:
        values = np.array([fields[1:8] for _, fields in rows], float)
        # the file stores w first
        return _stamps(path, rows), se3.from_quaternion(values[:, :3], values[:, [4, 5, 6, 3]])
    except ValueError as error:
        raise ValueError(
            f"{path}: {error}; expected 'nanoseconds, x, y, z, qw, qx, qy, qz, ...'"
        ) from error


def _read_csv(path: Path, least: int) -> Rows:
    """Return (line number, fields) of all rows with at least `least` fields. Raise ValueError."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = [
                (number, [field.strip() for field in fields])
                for number, fields in enumerate(csv.reader(file), start=1)
                if fields and not fields[0].lstrip().startswith("#")
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    for number, fields in rows:
        if len(fields) < least:
            raise ValueError(f"{path}:{number}: {len(fields)} fields, expected at least {least}")
    if not rows:
        raise ValueError(f"{path} has no rows")
    return rows


def _stamps(path: Path, rows: Rows) -> np.ndarray:
    stamps: list[int] = []
    for number, fields in rows:
        if (
            not fields[0].isdecimal()
            or not int(fields[0]) < 2**63
            or (stamps and int(fields[0]) <= stamps[-1])
        ):
            raise ValueError(
                f"{path}:{number}: '{fields[0]}' must be nanoseconds, increasing from row to row"
            )
        stamps.append(int(fields[0]))
    return np.array(stamps, np.int64)
