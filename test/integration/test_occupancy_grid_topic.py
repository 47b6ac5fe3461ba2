"""Topic occupancy_grid: latched, made when somebody subscribes, again when a parameter changes,
empty when the map is forgotten.
"""

import numpy as np
from nav_msgs.msg import OccupancyGrid
from random_keyframes import make_keyframe
from rclpy.parameter import Parameter
from ros_graph import until
from vggt3_ros.srv import Reset

from vggt3_ros.messages.reading import to_transform
from vggt3_ros.surface.grid import occupancy


def cells(message):
    return np.array(message.data, np.int8).reshape(message.info.height, message.info.width)


def test_a_late_subscriber_gets_the_grid_of_the_map(graph):
    backend = graph.backend(grid__min_height=-0.5, grid__max_height=0.5, grid__resolution=0.5)
    frames = [make_keyframe(id) for id in range(4)]
    snapshot = graph.refined(*frames, backend=backend)
    assert backend._active_parts.grid._shown == (None, None)  # nobody listens: nothing is computed
    grids = graph.listen(OccupancyGrid, "occupancy_grid")
    until(lambda: grids)
    message, cameras = grids[0], [frame.camera.undistorted() for frame in frames]
    assert message.header.frame_id == "map" and abs(message.info.resolution - 0.5) < 1e-6
    expected = occupancy(
        snapshot.cloud.points, snapshot.T_map_cam, cameras, backend.parameters.node.grid, 5.0
    )
    np.testing.assert_array_equal(cells(message), expected.cells)
    np.testing.assert_allclose(to_transform(message.info.origin), expected.T_map_grid, atol=1e-9)
    assert (cells(message) == 100).any()

    assert backend.set_parameters([Parameter("grid.resolution", value=0.25)])[0].successful
    until(lambda: len(grids) > 1)
    assert (
        abs(grids[-1].info.resolution - 0.25) < 1e-6 and grids[-1].info.width > message.info.width
    )
    refused = backend.set_parameters([Parameter("grid.min_height", value=1.0)])[0]
    assert not refused.successful and "min_height must be below max_height" in refused.reason

    graph.call(Reset, "reset", Reset.Request())
    until(lambda: grids[-1].info.width == 0 and not grids[-1].data)


def test_a_grid_that_would_be_endless_is_an_error_in_words_and_the_node_goes_on(graph):
    backend = graph.backend(
        grid__resolution=0.01, grid__min_height=-1000.0, grid__max_height=1000.0
    )
    errors = []
    backend.get_logger().error = errors.append
    far = [make_keyframe(0), make_keyframe(1)]
    far[1].T_odom_cam[:3, 3] = (400.0, 300.0, 0.0)
    graph.refined(*far, backend=backend)
    grids = graph.listen(OccupancyGrid, "occupancy_grid")
    until(lambda: errors)
    assert "increase grid.resolution" in errors[0] and not grids
    assert backend.set_parameters([Parameter("grid.resolution", value=1.0)])[0].successful
    until(lambda: grids)
