"""The map as a PLY file."""

import numpy as np

VERTEX = np.dtype(
    [
        ("x", "<f4"),
        ("y", "<f4"),
        ("z", "<f4"),
        ("red", "u1"),
        ("green", "u1"),
        ("blue", "u1"),
        ("confidence", "<f4"),
    ]
)
FAR_VERTEX = np.dtype([(name, "<f8" if name in "xyz" else kind) for name, kind in VERTEX.descr])
PLY_TYPES = {"<f4": "float", "<f8": "double", "|u1": "uchar"}


def write_ply(path, point_map):
    """PointMap -> binary PLY: x y z in metres, red green blue, confidence. Coordinates that
    float32 cannot carry are doubles.
    """
    layout = FAR_VERTEX if point_map.origin.any() else VERTEX
    vertices = np.empty(len(point_map), layout)
    vertices["x"], vertices["y"], vertices["z"] = np.asarray(point_map.points, layout["x"]).T
    vertices["red"], vertices["green"], vertices["blue"] = np.asarray(point_map.colors, np.uint8).T
    vertices["confidence"] = point_map.confidence
    properties = "".join(
        f"property {PLY_TYPES[layout[name].str]} {name}\n" for name in layout.names
    )
    with open(path, "wb") as file:
        file.write(
            f"ply\nformat binary_little_endian 1.0\nelement vertex {len(vertices)}\n{properties}end_header\n".encode()
        )
        file.write(vertices.tobytes())
