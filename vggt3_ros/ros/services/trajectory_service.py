"""Service get_trajectory: corrected or odometry poses of the keyframes in a time range."""

import numpy as np
from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Path
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from std_msgs.msg import Header

from vggt3_ros.messages.reading import to_nanoseconds
from vggt3_ros.ros.conversions import from_nanoseconds, from_transform
from vggt3_ros.ros.services.localize_service import answering, failed
from vggt3_ros.srv import GetTrajectory


class TrajectoryService:
    """core: the node's Core, of which store, snapshot and frames are used."""

    def __init__(self, node, core):
        self._node, self._core = node, core
        self._service = node.create_service(
            GetTrajectory,
            "get_trajectory",
            answering(node, self._answer, GetTrajectory.Response.BAD_REQUEST),
            callback_group=MutuallyExclusiveCallbackGroup(),
        )

    def destroy(self):
        self._node.destroy_service(self._service)

    def _answer(self, request, response):
        kinds, snapshot = GetTrajectory.Response, self._core.snapshot
        start, end = to_nanoseconds(request.start), to_nanoseconds(request.end)
        if end and end < start:
            return failed(
                response,
                kinds.BAD_REQUEST,
                f"end, {end / 1e9:.3f} s, is before start, {start / 1e9:.3f} s",
            )
        if request.source == GetTrajectory.Request.ODOMETRY:
            poses = self._core.store.poses()
            # Other sessions have other odometry frames.
            poses = poses.only(poses.sessions == self._core.store.session)
            ids, stamps, transforms, frame = (
                poses.ids,
                poses.stamps_ns,
                poses.T_odom_cam,
                self._core.intake.odom_frame,
            )
        elif request.source != GetTrajectory.Request.CORRECTED:
            return failed(
                response,
                kinds.BAD_REQUEST,
                f"source must be CORRECTED or ODOMETRY, got {request.source}",
            )
        elif snapshot is None:
            return failed(response, kinds.NO_MAP, "there is no refined map yet")
        else:
            ids, stamps, transforms = snapshot.keyframe_ids, snapshot.stamps_ns, snapshot.T_map_cam
            frame, response.generation = self._core.parameters.node.map_frame, snapshot.generation
        order = np.argsort(stamps, kind="stable")
        order = [at for at in order if stamps[at] >= start and (not end or stamps[at] <= end)]
        response.path = to_path(stamps, transforms, order, frame)
        public_ids = self._core.store.public_ids()
        response.ids = [public_ids.get(int(ids[at]), int(ids[at])) for at in order]
        return response


def to_path(stamps_ns, transforms, order, frame):
    """Return poses (N, 4, 4) with stamps (N,) at the indices `order` as nav_msgs/Path, stamped
    like its last pose.
    """
    path = Path(
        header=Header(
            stamp=from_nanoseconds(stamps_ns[order[-1]] if len(order) else 0), frame_id=frame
        )
    )
    for at in order:
        header = Header(stamp=from_nanoseconds(stamps_ns[at]), frame_id=frame)
        path.poses.append(PoseStamped(header=header, pose=from_transform(transforms[at])))
    return path
