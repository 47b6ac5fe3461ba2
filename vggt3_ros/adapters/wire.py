"""Views and answers as frames: headers and raw little-endian arrays, every size compared before
anything is made of it.
"""

import numpy as np

from vggt3_ros.adapters.contract import POSES, TAKES, About, Seen, View

VERSION = 1
# of an image, or of dense output: the networks there are see a quarter of a million
MAX_PIXELS = 1 << 24
MAX_TEXT = 500
RIGID = 0.05  # by which a rotation may fail to be one: half precision


class WireError(ValueError):
    """What came does not follow the protocol; the message says what."""


def hello(adapter):
    """Header of the first frame of an adapter, from the attributes of About that it has."""
    return {
        "hello": VERSION,
        **{
            name: getattr(adapter, name)
            for name in ("name", "weights", "licence", "device", "dtype")
        },
        "takes": [name for name in TAKES if name in adapter.takes],
        "patch": int(adapter.patch),
    }


def about(header):
    """The About in a first frame."""
    if header.get("hello") != VERSION:
        raise WireError(
            f"it speaks version {str(header.get('hello'))[:20]} of the protocol, or another: {VERSION} is understood"
        )
    texts = {name: header.get(name) for name in ("name", "weights", "licence", "device", "dtype")}
    for name, text in texts.items():
        if not isinstance(text, str) or len(text) > MAX_TEXT:
            raise WireError(f"its {name} is no text of at most {MAX_TEXT} characters")
    takes, patch = header.get("takes"), header.get("patch")
    if not isinstance(takes, list) or not all(
        isinstance(name, str) and name in TAKES for name in takes
    ):
        raise WireError(f"it takes {str(takes)[:80]}: a list of {', '.join(TAKES)} is expected")
    if type(patch) is not int or not 1 <= patch <= 64:
        raise WireError(f"its patch is {str(patch)[:20]}: 1 to 64 pixels are expected")
    return About(**texts, takes=tuple(takes), patch=patch)


def packed_view(number, view):
    """(header, payload) of a View."""
    height, width = view.image.shape[:2]
    header = {
        "view": number,
        "size": [height, width],
        "depth": view.depth is not None,
        "dense": bool(view.dense),
        "intrinsics": _numbers(view.intrinsics),
        "pose": _numbers(view.T_world_cam),
    }
    depth = b"" if view.depth is None else np.ascontiguousarray(view.depth, "<f4").tobytes()
    return header, np.ascontiguousarray(view.image, np.uint8).tobytes() + depth


def unpacked_view(header, payload):
    """The View in a frame."""
    height, width = _size(header.get("size"))
    there = bool(header.get("depth"))
    if len(payload) != height * width * (7 if there else 3):
        raise WireError(f"a view of {width}x{height} came with {len(payload)} bytes")
    image = np.frombuffer(payload, np.uint8, 3 * height * width).reshape(height, width, 3)
    depth = (
        np.frombuffer(payload, "<f4", height * width, 3 * height * width).reshape(height, width)
        if there
        else None
    )
    return View(
        image,
        _matrix(header.get("intrinsics"), 3),
        _matrix(header.get("pose"), 4),
        depth,
        bool(header.get("dense")),
    )


def check(answer, views):
    """WireError where an Answer is not one to these views: told where it was made, so that its
    author reads it.
    """
    if len(answer.seen) != len(views):
        raise WireError(f"the adapter answered {len(answer.seen)} of {len(views)} views")
    if answer.poses not in POSES:
        raise WireError(
            f"the adapter's poses are {answer.poses!r}: one of {', '.join(POSES)} is expected"
        )


def packed_seen(number, index, seen, dense):
    """(header, payload) of a Seen; without its depth where that is not wanted."""
    header = {
        "seen": number,
        "index": index,
        "pose": _numbers(seen.pose),
        "intrinsics": _numbers(seen.intrinsics),
        "dense": None,
    }
    values = seen.depth if seen.points is None else seen.points
    if not dense or values is None:
        return header, b""
    if seen.confidence is None or np.shape(seen.confidence) != np.shape(values)[:2]:
        raise WireError(
            f"view {index} has values {np.shape(values)} and confidence {np.shape(seen.confidence)}"
        )
    header["dense"] = list(np.shape(values)[:2])
    if seen.points is not None:
        header["points"] = seen.points_frame
    return header, np.ascontiguousarray(values, "<f4").tobytes() + np.ascontiguousarray(
        seen.confidence, "<f4"
    ).tobytes()


def unpacked_seen(header, payload):
    """(index, Seen) in a frame; what of it is depth, :func:`along_z` says."""
    index = header.get("index")
    if type(index) is not int or index < 0:
        raise WireError(f"it answered view {str(index)[:20]}")
    pose, intrinsics = _matrix(header.get("pose"), 4), _matrix(header.get("intrinsics"), 3)
    pose = None if pose is None else _rigid(pose, index)
    if header.get("dense") is None:
        return index, Seen(pose, intrinsics)
    (height, width), frame = _size(header["dense"]), header.get("points")
    if frame is not None and (not isinstance(frame, str) or frame not in ("camera", "world")):
        raise WireError(
            f"its points are in the frame {str(frame)[:20]}: camera or world is expected"
        )
    count = height * width * (1 if frame is None else 3)
    if len(payload) != 4 * (count + height * width):
        raise WireError(
            f"dense output of {width}x{height} of view {index} came with {len(payload)} bytes"
        )
    values = np.frombuffer(payload, "<f4", count)
    confidence = np.frombuffer(payload, "<f4", height * width, 4 * count).reshape(height, width)
    confidence = np.nan_to_num(confidence, nan=0.0, posinf=np.finfo(np.float32).max)
    if frame is None:
        return index, Seen(pose, intrinsics, values.reshape(height, width), confidence)
    return index, Seen(pose, intrinsics, None, confidence, values.reshape(height, width, 3), frame)


def along_z(seen, poses):
    """(h, w) float32 depth of a Seen along its optical axis, 0 where it is not known; None without
    any. poses: of POSES, what its pose is.
    """
    if seen.points is None:
        return None if seen.depth is None else _depth(seen.depth)
    if seen.points_frame == "camera":
        return _depth(seen.points[..., 2])
    if seen.pose is None:
        return np.zeros(seen.points.shape[:2], np.float32)
    T_cam_world = seen.pose if poses == POSES[0] else np.linalg.inv(seen.pose)
    return _depth(seen.points @ T_cam_world[2, :3] + T_cam_world[2, 3])


def _depth(z):
    z = np.nan_to_num(z, nan=0.0, posinf=0.0, neginf=0.0)
    return np.where(z > 0, z, 0).astype(np.float32)


def _rigid(pose, index):
    """None for a pose that says nothing (NaN), its nearest rigid one else."""
    if not np.isfinite(pose).all():
        return None
    rotation = pose[:3, :3]
    apart = np.abs(rotation @ rotation.T - np.eye(3)).max()
    if apart > RIGID or np.linalg.det(rotation) < 0 or np.abs(pose[3] - (0, 0, 0, 1)).max() > 1e-3:
        raise WireError(
            f"the pose of view {index} holds no rotation, or another last row than 0 0 0 1"
        )
    u, _, vt = np.linalg.svd(rotation)
    out = np.eye(4)
    out[:3, :3], out[:3, 3] = u @ vt, pose[:3, 3]
    return out


def _numbers(matrix):
    """A matrix row by row; NaN has no place in JSON: one that holds any is none."""
    if matrix is None:
        return None
    flat = np.asarray(matrix, float).ravel()
    return flat.tolist() if np.isfinite(flat).all() else None


def _matrix(numbers, side):
    if numbers is None:
        return None
    if (
        not isinstance(numbers, list)
        or len(numbers) != side * side
        or not all(_number(n) for n in numbers)
    ):
        raise WireError(f"{side * side} numbers are expected of a matrix, not {str(numbers)[:80]}")
    return np.array(numbers, float).reshape(side, side)


def fraction(value):
    """A share of the work done, in 0..1."""
    if not _number(value) or value != value:
        raise WireError(f"a fraction is a number, not {str(value)[:40]}")
    return min(1.0, max(0.0, float(value)))


def _number(value):
    """JSON's integers have any length: those beyond a double are none."""
    return isinstance(value, (int, float)) and (isinstance(value, float) or abs(value) < 2**63)


def _size(size):
    if (
        not isinstance(size, list)
        or len(size) != 2
        or not all(type(side) is int and 0 < side < 2**31 for side in size)
    ):
        raise WireError(f"a size is two positive numbers, not {str(size)[:80]}")
    if size[0] * size[1] > MAX_PIXELS:
        raise WireError(f"{size[1]}x{size[0]} are more than the {MAX_PIXELS} pixels there may be")
    return size
