"""The status as a text above the newest keyframe, for RViz, which cannot show custom messages."""

import textwrap

from visualization_msgs.msg import Marker

from vggt3_ros.msg import Status

HEIGHT, ABOVE = 0.12, 0.4  # of a letter, and of the text above the camera, metres
WIDTH, LINES = 70, 4  # characters per line, most lines per problem
STATES = {
    Status.IDLE: "idle",
    Status.REFINING: "refining",
    Status.DISTILLING: "improving the memory",
    Status.STARTING: "worker starting",
    Status.FAULT: "fault",
}


def to_marker(status, header, position):
    """Convert a Status to a Marker at a position (3,) in header's frame, metres; red if there is a
    problem.
    """
    troubles = [text for text in (status.error_msg, status.withheld, status.input_msg) if text]
    marker = Marker(
        header=header,
        ns="status",
        type=Marker.TEXT_VIEW_FACING,
        action=Marker.ADD,
        text="\n".join(_lines(status, troubles)),
    )
    marker.pose.position.x, marker.pose.position.y, marker.pose.position.z = map(float, position)
    marker.pose.position.z += ABOVE
    marker.pose.orientation.w, marker.scale.z, marker.color.a = 1.0, HEIGHT, 1.0
    marker.color.r, marker.color.g, marker.color.b = (
        (1.0, 0.3, 0.2) if troubles else (1.0, 1.0, 1.0)
    )
    return marker


def _lines(status, troubles):
    doing = STATES[status.state] + (
        f": {status.phase} {100 * status.progress:.0f} %" if status.phase else ""
    )
    yield doing + (", localization only" if status.mode == Status.LOCALIZATION else "")
    yield f"map {status.generation}: {status.keyframes_refined} of {status.keyframes} keyframes, {status.map_points} points"
    yield f"loops: {status.loops_accepted} accepted, {status.loops_rejected} rejected"
    for trouble in troubles:
        yield textwrap.fill(textwrap.shorten(trouble, LINES * WIDTH, placeholder=" ..."), WIDTH)
