"""Convert between PointMap and sensor_msgs/PointCloud2."""

import sys

import numpy as np
from sensor_msgs.msg import PointCloud2, PointField

LAYOUT = np.dtype([("x", "f4"), ("y", "f4"), ("z", "f4"), ("rgb", "u4"), ("confidence", "f4")])


def to_cloud(point_map, header):
    """Convert a PointMap to a PointCloud2 of x y z (metres relative to its origin), rgb
    (0x00RRGGBB packed in a float32, as PCL and RViz read it), and confidence 0..1.
    """
    points = np.empty(len(point_map), LAYOUT)
    points["x"], points["y"], points["z"] = point_map.around_origin.T
    red, green, blue = np.asarray(point_map.colors).astype(np.uint32).T
    points["rgb"] = red << 16 | green << 8 | blue
    points["confidence"] = point_map.confidence
    message = PointCloud2(
        header=header,
        height=1,
        width=len(points),
        is_dense=True,
        is_bigendian=sys.byteorder == "big",
        point_step=LAYOUT.itemsize,
        row_step=LAYOUT.itemsize * len(points),
    )
    message.fields = [
        PointField(name=name, offset=LAYOUT.fields[name][1], datatype=PointField.FLOAT32, count=1)
        for name in LAYOUT.names
    ]
    message.data.frombytes(points.tobytes())
    return message


def from_cloud(message):
    """Convert the result of :func:`to_cloud` to a structured array of x y z rgb confidence. Raises
    ValueError for another layout.
    """
    if message.point_step != LAYOUT.itemsize or [field.name for field in message.fields] != list(
        LAYOUT.names
    ):
        raise ValueError(
            f"cloud has fields {[field.name for field in message.fields]}, expected {list(LAYOUT.names)}"
        )
    return np.frombuffer(message.data, LAYOUT)
