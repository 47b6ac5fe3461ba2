"""Export the map as a PLY file."""

from pathlib import Path

import numpy as np

from vggt3_ros.store.snapshot import PointMap

FIELDS = {
    "x": "<f4",
    "y": "<f4",
    "z": "<f4",
    "red": "|u1",
    "green": "|u1",
    "blue": "|u1",
    "confidence": "<f4",
}
FAR_FIELDS = FIELDS | dict.fromkeys("xyz", "<f8")
PLY_TYPES = {"<f4": "float", "<f8": "double", "|u1": "uchar"}


def write_ply(path: Path | str, point_map: PointMap) -> None:
    """Write a PointMap as binary PLY: x y z in metres, red green blue, confidence.

    Coordinates are doubles where float32 is too coarse.
    """
    fields = FAR_FIELDS if point_map.origin.any() else FIELDS
    vertices = np.empty(len(point_map), list(fields.items()))
    vertices["x"], vertices["y"], vertices["z"] = np.asarray(point_map.points, fields["x"]).T
    vertices["red"], vertices["green"], vertices["blue"] = np.asarray(point_map.colors, np.uint8).T
    vertices["confidence"] = point_map.confidence
    properties = "".join(f"property {PLY_TYPES[kind]} {name}\n" for name, kind in fields.items())
    with open(path, "wb") as file:
        file.write(
            f"ply\nformat binary_little_endian 1.0\nelement vertex {len(vertices)}\n{properties}end_header\n".encode()
        )
        file.write(vertices.tobytes())
