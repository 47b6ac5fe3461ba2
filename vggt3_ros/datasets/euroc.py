"""Folders of the EuRoC (ASL) layout: mav0/cam0/{sensor.yaml, data.csv, data/}, cam1 beside it, and
state_groundtruth_estimate0/data.csv (body in world) as truth. Burri et al., IJRR 2016.
"""

import csv
from pathlib import Path

import numpy as np
import yaml

from vggt3_ros.datasets.image_files import levels_of, read_image
from vggt3_ros.datasets.recording import Recording
from vggt3_ros.datasets.trajectories import offset_text, offsets_ns, paired, poses_at
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


def mav_folder(folder):
    """The folder that holds cam0: `folder`/mav0 or `folder` itself; None for anything else."""
    return next(
        (
            path
            for path in (Path(folder) / "mav0", Path(folder))
            if (path / "cam0" / "data.csv").is_file()
        ),
        None,
    )


def read_euroc(folder, stereo=True, pairing=PairingConfig(), time_offsets=None):
    """All frames as a Recording. With cam1 (and `stereo`) the images are rectified, have depth
    from stereo, and only frames that both cameras took count; with cam0 alone they are as the
    camera saw them, without depth. time_offsets: {"right", "groundtruth": seconds to add to the
    stamps of cam1 or the truth}. ValueError names file and fault.
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
    T_world_body = (
        None if truth is None else poses_at(truth[0] + offsets["groundtruth"], truth[1], stamps_ns)
    )
    if truth is not None and not np.isfinite(T_world_body).any():
        raise ValueError(
            f"{mav / TRUTH}: nothing is known at the time of any image: "
            f"{offset_text(stamps_ns, truth[0] + offsets['groundtruth'], 'groundtruth')}"
        )
    if not (stereo and (mav / "cam1" / "data.csv").is_file()):
        return Recording(
            name,
            camera,
            stamps_ns,
            lambda i: read_image(files[i], camera, levels),
            T_world_cam=None if truth is None else T_world_body @ T_body_cam,
        )

    right, T_body_right = _read_sensor(mav / "cam1" / "sensor.yaml")
    pair = StereoPair(camera, right, se3.inverse(T_body_right) @ T_body_cam)
    right_stamps, right_files = _read_images(mav / "cam1")
    of_left, of_right = paired(
        stamps_ns, right_stamps + offsets["right"], pairing.tolerance_ns, "right", mav / "cam1"
    )
    left_image = lambda i: read_image(files[of_left[i]], camera, levels)
    return Recording(
        name,
        pair.camera,
        stamps_ns[of_left],
        lambda i: pair.rectify(left_image(i)),
        lambda i: pair.depth(left_image(i), read_image(right_files[of_right[i]], right, levels)),
        T_world_cam=None
        if truth is None
        else T_world_body[of_left] @ T_body_cam @ pair.T_left_rectified,
        T_file_cam=pair.T_left_rectified,
    )


def _read_sensor(path):
    """sensor.yaml -> (Camera, T_body_cam)."""
    try:
        text = path.read_text()
        # as OpenCV writes it
        text = yaml.safe_load(text.split("\n", 1)[1] if text.startswith("%YAML:") else text)
        if text.get("camera_model", "pinhole") != "pinhole":
            raise ValueError(f"camera_model '{text['camera_model']}' is not supported, pinhole is")
        model = text.get("distortion_model") or ""
        if model not in DISTORTION:
            raise ValueError(
                f"distortion_model '{model}' is unknown; known: {', '.join(filter(None, DISTORTION))}"
            )
        camera = Camera(
            *map(int, text["resolution"]),
            *map(float, text["intrinsics"]),
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


def _read_images(folder):
    rows = _read_csv(folder / "data.csv", 2)
    files = []
    for number, fields in rows:
        path = folder / "data" / fields[1]
        if Path(fields[1]).name != fields[1] or not path.is_file():
            raise ValueError(f"{folder / 'data.csv'}:{number}: {path} is missing")
        files.append(path)
    return _stamps(folder / "data.csv", rows), files


def _read_truth(path):
    """(stamps, T_world_body) or None without a file."""
    if not path.exists():
        return None
    rows = _read_csv(path, 8)
    try:
        values = np.array([fields[1:8] for _, fields in rows], float)
        # the file has w first
        return _stamps(path, rows), se3.from_quaternion(values[:, :3], values[:, [4, 5, 6, 3]])
    except ValueError as error:
        raise ValueError(
            f"{path}: {error}; a row is 'nanoseconds, x, y, z, qw, qx, qy, qz, ...'"
        ) from error


def _read_csv(path, least):
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
            raise ValueError(f"{path}:{number}: {len(fields)} fields where {least} are needed")
    if not rows:
        raise ValueError(f"{path} holds no row")
    return rows


def _stamps(path, rows):
    stamps = []
    for number, fields in rows:
        if (
            not fields[0].isdecimal()
            or not int(fields[0]) < 2**63
            or (stamps and int(fields[0]) <= stamps[-1])
        ):
            raise ValueError(
                f"{path}:{number}: '{fields[0]}' must be nanoseconds after those of the row before"
            )
        stamps.append(int(fields[0]))
    return np.array(stamps, np.int64)
