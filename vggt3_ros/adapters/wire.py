"""Views and answers as frames: JSON headers and raw little-endian arrays. Every size is checked
before allocation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from vggt3_ros.adapters.contract import POSES, TAKES, About, Adapter, Answer, Seen, View

if TYPE_CHECKING:
    from typing import TypeGuard  # Python 3.10; an adapter's interpreter may be older

Header = Mapping[str, object]

VERSION = 1
# per image or dense output; existing networks use a quarter of a million
MAX_PIXELS = 1 << 24
MAX_TEXT = 500  # characters
RIGID = 0.05  # tolerated deviation of R R^T from the identity, for networks in half precision


class WireError(ValueError):
    """A frame violates the protocol; the message says how."""


def hello(adapter: Adapter) -> dict[str, object]:
    """Return the header of an adapter's first frame, from its attributes of About."""
    return {
        "hello": VERSION,
        **{
            name: getattr(adapter, name)
            for name in ("name", "weights", "licence", "device", "dtype")
        },
        "takes": [name for name in TAKES if name in adapter.takes],
        "patch": int(adapter.patch),
    }


def about(header: Header) -> About:
    """Return the About in an adapter's first frame. Raise WireError."""
    if header.get("hello") != VERSION:
        raise WireError(
            f"its protocol version is {str(header.get('hello'))[:20]}, expected {VERSION}"
        )
    texts = {}
    for name in ("name", "weights", "licence", "device", "dtype"):
        text = header.get(name)
        if not isinstance(text, str) or len(text) > MAX_TEXT:
            raise WireError(f"its {name} is not a string of at most {MAX_TEXT} characters")
        texts[name] = text
    takes, patch = header.get("takes"), header.get("patch")
    if not isinstance(takes, list) or not all(
        isinstance(name, str) and name in TAKES for name in takes
    ):
        raise WireError(f"it takes {str(takes)[:80]}, expected a list from {', '.join(TAKES)}")
    if not isinstance(patch, int) or isinstance(patch, bool) or not 1 <= patch <= 64:
        raise WireError(f"its patch is {str(patch)[:20]}, expected 1 to 64 pixels")
    return About(**texts, takes=tuple(takes), patch=patch)


def packed_view(number: int, view: View) -> tuple[dict[str, object], bytes]:
    """Return the header and payload of a View."""
    height, width = view.image.shape[:2]
    header: dict[str, object] = {
        "view": number,
        "size": [height, width],
        "depth": view.depth is not None,
        "dense": bool(view.dense),
        "intrinsics": _numbers(view.intrinsics),
        "pose": _numbers(view.T_world_cam),
    }
    depth = b"" if view.depth is None else np.ascontiguousarray(view.depth, "<f4").tobytes()
    return header, np.ascontiguousarray(view.image, np.uint8).tobytes() + depth


def unpacked_view(header: Header, payload: bytes | bytearray) -> View:
    """Return the View in a frame. Raise WireError."""
    height, width = _size(header.get("size"))
    there = bool(header.get("depth"))
    if len(payload) != height * width * (7 if there else 3):
        raise WireError(f"a view of {width}x{height} has a payload of {len(payload)} bytes")
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


def check(answer: Answer, views: Sequence[View]) -> None:
    """Raise WireError if an Answer does not match these views. Called in the adapter's process, so
    that its author sees the message.
    """
    if len(answer.seen) != len(views):
        raise WireError(f"the adapter answered {len(answer.seen)} of {len(views)} views")
    if answer.poses not in POSES:
        raise WireError(
            f"the adapter's poses are {answer.poses!r}, expected one of {', '.join(POSES)}"
        )


def packed_seen(
    number: int, index: int, seen: Seen, dense: bool
) -> tuple[dict[str, object], bytes]:
    """Return the header and payload of a Seen; without its depth unless ``dense``. Raise
    WireError.
    """
    header: dict[str, object] = {
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
        shape = None if seen.confidence is None else np.shape(seen.confidence)
        raise WireError(f"view {index}: values {np.shape(values)} do not match confidence {shape}")
    header["dense"] = list(np.shape(values)[:2])
    if seen.points is not None:
        header["points"] = seen.points_frame
    return header, np.ascontiguousarray(values, "<f4").tobytes() + np.ascontiguousarray(
        seen.confidence, "<f4"
    ).tobytes()


def unpacked_seen(header: Header, payload: bytes) -> tuple[int, Seen]:
    """Return the index and the Seen in a frame; :func:`along_z` gives its depth. Raise WireError."""
    index = header.get("index")
    if not isinstance(index, int) or isinstance(index, bool) or index < 0:
        raise WireError(f"the index of its view is {str(index)[:20]}, expected an integer >= 0")
    pose, intrinsics = _matrix(header.get("pose"), 4), _matrix(header.get("intrinsics"), 3)
    pose = None if pose is None else _rigid(pose, index)
    if header.get("dense") is None:
        return index, Seen(pose, intrinsics)
    (height, width), frame = _size(header["dense"]), header.get("points")
    if frame is not None and (not isinstance(frame, str) or frame not in ("camera", "world")):
        raise WireError(f"its points are in the frame {str(frame)[:20]}, expected camera or world")
    count = height * width * (1 if frame is None else 3)
    if len(payload) != 4 * (count + height * width):
        raise WireError(
            f"dense output of {width}x{height} of view {index} has a payload of {len(payload)} bytes"
        )
    values = np.frombuffer(payload, "<f4", count)
    confidence = np.frombuffer(payload, "<f4", height * width, 4 * count).reshape(height, width)
    confidence = np.nan_to_num(confidence, nan=0.0, posinf=float(np.finfo(np.float32).max))
    if frame is None:
        return index, Seen(pose, intrinsics, values.reshape(height, width), confidence)
    return index, Seen(pose, intrinsics, None, confidence, values.reshape(height, width, 3), frame)


def along_z(seen: Seen, poses: str) -> np.ndarray | None:
    """Return the depth (h, w) of a Seen along its optical axis, float32, 0 where unknown; None
    without dense output. poses: the direction of its pose, one of POSES.
    """
    if seen.points is None:
        return None if seen.depth is None else _depth(seen.depth)
    if seen.points_frame == "camera":
        return _depth(seen.points[..., 2])
    if seen.pose is None:
        return np.zeros(seen.points.shape[:2], np.float32)
    T_cam_world = seen.pose if poses == POSES[0] else np.linalg.inv(seen.pose)
    return _depth(seen.points @ T_cam_world[2, :3] + T_cam_world[2, 3])


def _depth(z: np.ndarray) -> np.ndarray:
    z = np.nan_to_num(z, nan=0.0, posinf=0.0, neginf=0.0)
    return np.where(z > 0, z, 0).astype(np.float32)


def _rigid(pose: np.ndarray, index: int) -> np.ndarray | None:
    """Return the nearest rigid pose, or None if the pose holds NaN or infinity. Raise WireError if
    it is not near one.
    """
    if not np.isfinite(pose).all():
        return None
    rotation = pose[:3, :3]
    apart = np.abs(rotation @ rotation.T - np.eye(3)).max()
    if apart > RIGID or np.linalg.det(rotation) < 0 or np.abs(pose[3] - (0, 0, 0, 1)).max() > 1e-3:
        raise WireError(
            f"the pose of view {index} is not rigid: bad rotation, or last row not 0 0 0 1"
        )
    u, _, vt = np.linalg.svd(rotation)
    out = np.eye(4)
    out[:3, :3], out[:3, 3] = u @ vt, pose[:3, 3]
    return out


def _numbers(matrix: np.ndarray | None) -> list[float] | None:
    """Return a matrix row by row, or None if it holds NaN or infinity, which JSON cannot express."""
    if matrix is None:
        return None
    flat = np.asarray(matrix, float).ravel()
    return [float(value) for value in flat] if np.isfinite(flat).all() else None


def _matrix(numbers: object, side: int) -> np.ndarray | None:
    if numbers is None:
        return None
    if (
        not isinstance(numbers, list)
        or len(numbers) != side * side
        or not all(_number(n) for n in numbers)
    ):
        raise WireError(f"a matrix must have {side * side} numbers, got {str(numbers)[:80]}")
    return np.array(numbers, float).reshape(side, side)


def fraction(value: object) -> float:
    """Return a share of completed work, clipped to 0..1. Raise WireError if it is not a number."""
    if not _number(value) or value != value:
        raise WireError(f"a fraction must be a number, got {str(value)[:40]}")
    return min(1.0, max(0.0, float(value)))


def _number(value: object) -> TypeGuard[int | float]:
    """Whether this is a number within a double's range; JSON integers have any length."""
    return isinstance(value, (int, float)) and (isinstance(value, float) or abs(value) < 2**63)


def _size(size: object) -> tuple[int, int]:
    if (
        not isinstance(size, list)
        or len(size) != 2
        or not all(type(side) is int and 0 < side < 2**31 for side in size)
    ):
        raise WireError(f"a size must be two positive integers, got {str(size)[:80]}")
    if size[0] * size[1] > MAX_PIXELS:
        raise WireError(f"{size[1]}x{size[0]} exceeds the limit of {MAX_PIXELS} pixels")
    return size[0], size[1]
