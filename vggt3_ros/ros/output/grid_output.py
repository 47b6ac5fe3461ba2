"""Topic occupancy_grid: the map as a floor plan, computed when there is a subscriber."""

import numpy as np
from nav_msgs.msg import MapMetaData, OccupancyGrid
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from std_msgs.msg import Header

from vggt3_ros.refinement.scene_scale import REPORT as SCENE_SCALE
from vggt3_ros.refinement.scene_scale import in_scale
from vggt3_ros.ros import qos
from vggt3_ros.ros.conversions import from_transform
from vggt3_ros.surface.grid import UNKNOWN, Grid, occupancy


class GridOutput:
    """Checks every `period` seconds for a newer map, another grid configuration and a subscriber.
    core: the node's Core.
    """

    def __init__(self, node, core, period):
        self._node, self._core, self._shown = node, core, (None, None)
        self._publisher = node.create_publisher(
            OccupancyGrid,
            "occupancy_grid",
            qos.own(qos.LATCHED),
            qos_overriding_options=qos.overridable(),
        )
        # A callback group of its own, because a grid of many rooms takes seconds.
        self._timer = node.create_timer(
            period,
            self._update,
            callback_group=MutuallyExclusiveCallbackGroup(),
            clock=Clock(clock_type=ClockType.STEADY_TIME),
        )

    def _update(self):
        snapshot, config = self._core.snapshot, self._core.parameters.node.grid
        shown = _same(snapshot, self._shown[0]) and (snapshot is None or config == self._shown[1])
        if shown or not self._publisher.get_subscription_count():
            return
        self._shown = snapshot, config
        header = Header(
            stamp=self._node.get_clock().now().to_msg(),
            frame_id=self._core.parameters.node.map_frame,
        )
        try:
            message = to_message(self._grid(snapshot, config), header)
        except (
            ValueError,
            KeyError,
        ) as error:  # KeyError: a keyframe was discarded in the meantime
            self._node.get_logger().error(f"cannot compute the occupancy grid: {error}")
            return
        self._publisher.publish(message)

    def _grid(self, snapshot, config):
        if snapshot is None:
            return Grid(np.full((0, 0), UNKNOWN, np.int8), config.resolution, np.eye(4))
        backend = in_scale(self._core.parameters.backend, snapshot.report.get(SCENE_SCALE) or 1.0)
        cameras = [self._core.store.camera(int(id)).undistorted() for id in snapshot.keyframe_ids]
        return occupancy(
            snapshot.cloud.points,
            snapshot.T_map_cam,
            cameras,
            config,
            backend.map.max_depth,
        )

    def destroy(self):
        self._node.destroy_timer(self._timer)
        self._node.destroy_publisher(self._publisher)


def _same(snapshot, other):
    """Return whether two Snapshots (or None) have the same map: idle time changes only the scene
    memory.
    """
    if snapshot is None or other is None:
        return snapshot is other
    return np.array_equal(snapshot.T_map_cam, other.T_map_cam) and len(snapshot.cloud) == len(
        other.cloud
    )


def to_message(grid, header):
    """Convert a Grid to nav_msgs/OccupancyGrid."""
    rows, columns = grid.cells.shape
    info = MapMetaData(
        map_load_time=header.stamp,
        resolution=float(grid.resolution),
        width=columns,
        height=rows,
        origin=from_transform(grid.T_map_grid),
    )
    message = OccupancyGrid(header=header, info=info)
    message.data.frombytes(grid.cells.tobytes())
    return message
