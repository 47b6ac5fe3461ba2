"""Show loops as lines between keyframes in RViz: accepted green, rejected red."""

import numpy as np
from geometry_msgs.msg import Point
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker, MarkerArray

KINDS = {
    "accepted": (True, ColorRGBA(r=0.1, g=0.9, b=0.2, a=1.0), 0.02),
    "rejected": (False, ColorRGBA(r=0.9, g=0.1, b=0.1, a=0.4), 0.005),
}


def to_markers(snapshot, header):
    """Return a MarkerArray of two line lists in the map frame, metres; an empty list becomes a
    deletion.
    """
    position = dict(zip(map(int, snapshot.keyframe_ids), snapshot.T_map_cam[:, :3, 3]))
    return MarkerArray(
        markers=[
            _lines(
                name,
                [loop for loop in snapshot.loops if loop.accepted == accepted],
                position,
                color,
                width,
                header,
            )
            for name, (accepted, color, width) in KINDS.items()
        ]
    )


def no_markers(header):
    """Return a message that deletes the markers."""
    return MarkerArray(markers=[Marker(header=header, action=Marker.DELETEALL)])


def _lines(name, loops, position, color, width, header):
    ends = [position[int(id)] for loop in loops for id in (loop.source_id, loop.target_id)]
    marker = Marker(
        header=header,
        ns=name,
        type=Marker.LINE_LIST,
        action=Marker.ADD if ends else Marker.DELETE,
        color=color,
    )
    marker.pose.orientation.w, marker.scale.x = 1.0, width
    marker.points = [
        Point(x=float(x), y=float(y), z=float(z)) for x, y, z in np.reshape(ends, (-1, 3))
    ]
    return marker
