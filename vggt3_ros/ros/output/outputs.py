"""Publish a Snapshot: path, keyframe_poses, map, loops, loop_markers, correction, pose. All but
the last two are latched.

If the map's coordinates (UTM) exceed the precision of float32, `map` is in a frame of its own near
the data: <map_frame>_local, on /tf_static.
"""

import threading

import numpy as np
from geometry_msgs.msg import PoseWithCovarianceStamped, TransformStamped
from nav_msgs.msg import Path
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage
from visualization_msgs.msg import MarkerArray

from vggt3_ros.geometry import se3
from vggt3_ros.msg import Correction, KeyframePoses, Loop, Loops, OdometryBreak
from vggt3_ros.refinement.odometry_breaks import told
from vggt3_ros.ros import qos
from vggt3_ros.ros.conversions import (
    from_nanoseconds,
    from_transform,
    to_transform_message,
    with_covariance,
)
from vggt3_ros.ros.output.clouds import to_cloud
from vggt3_ros.ros.output.gate import jump
from vggt3_ros.ros.output.loop_markers import no_markers, to_markers
from vggt3_ros.ros.services.trajectory_service import to_path
from vggt3_ros.store.snapshot import PointMap

TOPICS = {
    "path": (Path, qos.LATCHED),
    "keyframe_poses": (KeyframePoses, qos.LATCHED),
    "map": (PointCloud2, qos.LATCHED),
    "loops": (Loops, qos.LATCHED),
    "loop_markers": (MarkerArray, qos.LATCHED),
    "correction": (Correction, qos.EVENTS),
    "pose": (PoseWithCovarianceStamped, qos.EVENTS),
}

LOCAL_SUFFIX = "_local"
EMPTY = PointMap(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.uint8), np.zeros(0, np.float32))


class Outputs:
    """Publishers of the results of a refinement. max_points(): limit of the map; public_ids():
    {keyframe id: public id}.
    """

    def __init__(self, node, map_frame, max_points, public_ids):
        self._node, self._frame, self._max_points, self._public_ids = (
            node,
            map_frame,
            max_points,
            public_ids,
        )
        self._publishers = {
            name: node.create_publisher(
                kind, name, qos.own(profile), qos_overriding_options=qos.overridable()
            )
            for name, (kind, profile) in TOPICS.items()
        }
        self._static = node.create_publisher(
            TFMessage, "/tf_static", qos.own(qos.LATCHED), qos_overriding_options=qos.overridable()
        )
        self._lock = threading.Lock()
        self._origin = np.zeros(3)  # of the last published map
        # (cloud, header) to publish; (cloud, limit) as last published.
        self._map, self._map_sent = None, None

    def publish(self, snapshot):
        """Publish the latched topics. The map is published when it has a subscriber: see
        :meth:`publish_map`.
        """
        header = Header(
            stamp=from_nanoseconds(snapshot.stamps_ns.max(initial=0)), frame_id=self._frame
        )
        order = np.argsort(snapshot.stamps_ns, kind="stable")
        self._send("path", to_path(snapshot.stamps_ns, snapshot.T_map_cam, order, self._frame))
        public_ids = self._public_ids()
        self._send("keyframe_poses", keyframe_poses(snapshot, header, public_ids))
        self._send("loops", loops(snapshot, header, public_ids))
        self._send("loop_markers", to_markers(snapshot, header))
        with self._lock:
            self._map = (snapshot.cloud, header)
        self.publish_map()

    def publish_change(self, snapshot, change):
        """Publish the correction of a refinement (Change) and the newest keyframe's pose."""
        newest = snapshot.newest
        header = Header(stamp=from_nanoseconds(snapshot.stamps_ns[newest]), frame_id=self._frame)
        self._send("correction", correction(snapshot, change, header))
        self.publish_pose(
            snapshot.stamps_ns[newest], snapshot.T_map_cam[newest], snapshot.covariances[newest]
        )

    def publish_pose(self, stamp_ns, T_map_cam, covariance):
        header = Header(stamp=from_nanoseconds(stamp_ns), frame_id=self._frame)
        self._send(
            "pose",
            PoseWithCovarianceStamped(header=header, pose=with_covariance(T_map_cam, covariance)),
        )

    def publish_nothing(self):
        """Replace the latched messages by empty ones, because the map was discarded."""
        header = Header(stamp=self._node.get_clock().now().to_msg(), frame_id=self._frame)
        self._send("path", Path(header=header))
        self._send("keyframe_poses", KeyframePoses(header=header))
        self._send("loops", Loops(header=header))
        self._send("loop_markers", no_markers(header))
        with self._lock:
            self._map = (EMPTY, header)
        self.publish_map()

    def publish_map(self):
        """Publish the newest map once per limit, if it has a subscriber: a large cloud costs more
        than everything else together.
        """
        with self._lock:
            most = self._max_points()
            if (
                self._map is None
                or not self._publishers["map"].get_subscription_count()
                or self._is_sent(most)
            ):
                return
            cloud, header = self._map
            self._map_sent = cloud, most
        if cloud.origin.any():
            header = Header(stamp=header.stamp, frame_id=self._frame + LOCAL_SUFFIX)
            self._place(header, cloud.origin)
        self._send("map", to_cloud(cloud.thinned(most), header))

    def _place(self, header, origin):
        """Publish the frame of a map far from the origin; latched, once per origin."""
        if np.array_equal(origin, self._origin):
            return
        self._origin = origin
        parent = Header(stamp=header.stamp, frame_id=self._frame)
        T_map_local = se3.from_rotation_translation(np.eye(3), origin)
        self._static.publish(
            TFMessage(
                transforms=[
                    TransformStamped(
                        header=parent,
                        child_frame_id=header.frame_id,
                        transform=to_transform_message(T_map_local),
                    )
                ]
            )
        )

    def _is_sent(self, most):
        cloud, limit = self._map_sent or (None, 0)
        # Idle time changes only the scene memory, not the points.
        same = (
            cloud is not None
            and np.array_equal(cloud.points, self._map[0].points)
            and np.array_equal(cloud.colors, self._map[0].colors)
        )
        return same and (limit == most or len(cloud) <= min(limit, most))

    def _send(self, name, message):
        self._publishers[name].publish(message)

    def destroy(self):
        for publisher in (*self._publishers.values(), self._static):
            self._node.destroy_publisher(publisher)


def keyframe_poses(snapshot, header, public_ids):
    order = np.argsort(snapshot.stamps_ns, kind="stable")
    ids = [_public(snapshot.keyframe_ids[at], public_ids) for at in order]
    return KeyframePoses(
        header=header,
        generation=snapshot.generation,
        ids=ids,
        stamps=[from_nanoseconds(snapshot.stamps_ns[at]) for at in order],
        poses=[with_covariance(snapshot.T_map_cam[at], snapshot.covariances[at]) for at in order],
    )


def loops(snapshot, header, public_ids):
    message = Loops(header=header, generation=snapshot.generation)
    for loop in snapshot.loops:
        out = Loop(
            source_id=_public(loop.source_id, public_ids),
            target_id=_public(loop.target_id, public_ids),
            accepted=bool(loop.accepted),
            reason=loop.reason,
            origin=loop.origin,
            inliers=int(loop.inliers),
            residual_translation=float(loop.residual_m),
            residual_rotation=float(loop.residual_rad),
        )
        if loop.T_source_target is not None:
            out.t_source_target = from_transform(loop.T_source_target)
        if loop.information is not None:
            out.information = np.ravel(loop.information).astype(float)
        message.loops.append(out)
    message.odometry_breaks = [
        OdometryBreak(
            before=b.before,
            after=b.after,
            translation=b.metres,
            rotation=float(np.radians(b.degrees)),
        )
        for b in told(snapshot.report, public_ids)
    ]
    return message


def _public(keyframe_id, public_ids):
    # The store may just have been cleared.
    return public_ids.get(int(keyframe_id), int(keyframe_id))


def correction(snapshot, change, header):
    """Return the motion of `snapshot` relative to its Change; before the first refinement,
    relative to odometry.
    """
    message = Correction(
        header=header,
        generation=snapshot.generation,
        previous=to_transform_message(change.T_map_odom),
        current=to_transform_message(snapshot.T_map_odom),
        withheld=change.withheld,
    )
    newest = snapshot.T_odom_cam[snapshot.newest]
    message.jump_translation, message.jump_rotation = jump(
        change.T_map_odom, snapshot.T_map_odom, newest
    )
    previous = change.previous
    if previous is not None:
        _, now, then = np.intersect1d(
            snapshot.keyframe_ids, previous.keyframe_ids, return_indices=True
        )
        moved = se3.inverse(previous.T_map_cam[then]) @ snapshot.T_map_cam[now]
    else:
        moved = se3.inverse(snapshot.T_odom_cam) @ snapshot.T_map_cam
    if len(moved):
        message.largest_translation = float(np.linalg.norm(moved[:, :3, 3], axis=1).max())
        message.largest_rotation = float(se3.rotation_angle(moved).max())
    return message
