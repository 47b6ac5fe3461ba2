"""The back end as a ROS 2 lifecycle node. It converts and publishes; the worker process computes."""

from contextlib import suppress
from functools import wraps

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import InvalidHandle
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn

from vggt3_ros.ros.core import Core
from vggt3_ros.ros.input.inputs import make_input
from vggt3_ros.ros.output.grid_output import GridOutput
from vggt3_ros.ros.output.map_odom import MapOdomBroadcaster
from vggt3_ros.ros.output.outputs import Outputs
from vggt3_ros.ros.output.status import StatusPublisher
from vggt3_ros.ros.parameters import Parameters
from vggt3_ros.ros.services.localize_service import LocalizeService
from vggt3_ros.ros.services.map_services import MapServices
from vggt3_ros.ros.services.refine_action import RefineAction
from vggt3_ros.ros.services.trajectory_service import TrajectoryService


def explained(transition):
    """Log the exception of a transition, because rclpy enters the error state without a message."""

    @wraps(transition)
    def wrapped(self, state):
        try:
            return transition(self, state)
        except Exception as error:
            self.get_logger().error(
                f"transition {transition.__name__.removeprefix('on_')} failed, shutting down: "
                f"{type(error).__name__}: {error}"
            )
            raise

    return wrapped


class BackendNode(LifecycleNode):
    """Lifecycle: configure opens the store, starts the worker and serves the last map. activate
    accepts keyframes, refines and answers requests. deactivate keeps the store open. cleanup ends
    the worker. An error also ends it; the node can then be configured again.
    """

    def __init__(self, backend="vggt3_ros.backend:Backend", **options):
        super().__init__("vggt3_ros", **options)
        self._backend = backend
        self._core = self._active_parts = None
        self.parameters = Parameters(self, self._parameters_changed)

    @explained
    def on_configure(self, state):
        try:
            self._core = Core(
                self.parameters,
                self._backend,
                self._snapshot_changed,
                self._pose_found,
                self._state_changed,
                self.get_logger(),
                lambda: self.get_clock().now().nanoseconds,
            )
        except (ValueError, OSError) as error:  # StoreError among them
            self.get_logger().error(f"cannot configure: {error}")
            return TransitionCallbackReturn.FAILURE
        self.get_logger().info(
            f"keyframe store: {self._core.store.folder} ({len(self._core.store)} keyframes)"
        )
        return TransitionCallbackReturn.SUCCESS

    @explained
    def on_activate(self, state):
        self._active_parts = ActiveParts(self, self._core)
        if self._core.snapshot is not None:
            self._active_parts.show(self._core.snapshot, None)
        self._core.resume()
        return super().on_activate(state)

    @explained
    def on_deactivate(self, state):
        self._deactivate()
        return super().on_deactivate(state)

    @explained
    def on_cleanup(self, state):
        self.close()
        return TransitionCallbackReturn.SUCCESS

    @explained
    def on_shutdown(self, state):
        self.close()
        return TransitionCallbackReturn.SUCCESS

    @explained
    def on_error(self, state):
        self.close()
        return TransitionCallbackReturn.SUCCESS

    def stop(self):
        """Stop before the executor is shut down, so that its threads do not wait for the worker."""
        self._deactivate()
        if self._core is not None:
            self._core.stop()

    def close(self):
        """Stop work, end the worker and close the store. Keyframes and snapshots stay on disk."""
        self._deactivate()
        core, self._core = self._core, None
        if core is not None:
            core.close()

    def destroy_node(self):
        """Destroy the node, and the lifecycle interfaces that rclpy would leave in the ROS graph
        until garbage collection.
        """
        super().destroy_node()
        self._state_machine.destroy_when_not_in_use()

    def _deactivate(self):
        parts, self._active_parts = self._active_parts, None
        if parts is not None:
            self._core.refinery.pause()
            parts.destroy()

    def _snapshot_changed(self, snapshot, change):
        parts = self._active_parts
        with suppress(InvalidHandle):  # deactivated in the meantime
            if parts is not None:
                parts.show(snapshot, change)

    def _pose_found(self, *pose):
        parts = self._active_parts
        with suppress(InvalidHandle):  # deactivated in the meantime
            if parts is not None:
                parts.outputs.publish_pose(*pose)
                parts.map_odom.broadcast()

    def _state_changed(self):
        parts = self._active_parts
        with suppress(InvalidHandle):  # deactivated in the meantime
            if parts is not None:
                parts.status.publish_if_changed()

    def _parameters_changed(self, node_config, backend_config):
        if self._core is not None:
            self._core.configure()


class ActiveParts:
    """The parts that exist while the node is active: subscriptions, publishers, services, timers."""

    def __init__(self, node, core):
        self._node, self._core, self._timer, self._parts = node, core, None, []
        try:
            self._create(node, core, core.parameters)
        except Exception:
            self.destroy()
            raise

    def _create(self, node, core, config):
        self.outputs = self._add(
            Outputs(
                node,
                config.node.map_frame,
                lambda: config.backend.map.max_points,
                core.store.public_ids,
            )
        )
        self.map_odom = self._add(
            MapOdomBroadcaster(
                node,
                config.node.tf_rate,
                lambda: core.T_map_frontend,
                lambda: (config.node.map_frame, core.intake.odom_frame),
                lambda: config.node.transform_tolerance,
                lambda: config.node.publish_tf,
            )
        )
        self.grid = self._add(GridOutput(node, core, config.node.status_period))
        self.localize = self._add(LocalizeService(node, core))
        self.services = self._add(MapServices(node, core))
        self.trajectory = self._add(TrajectoryService(node, core))
        self.refine = self._add(RefineAction(node, core))
        self.status = self._add(StatusPublisher(node, core, self.localize))
        self.input = self._add(make_input(node, core, self.map_odom.broadcast))
        self._timer = node.create_timer(
            config.node.status_period,
            self._tick,
            callback_group=MutuallyExclusiveCallbackGroup(),
            clock=Clock(clock_type=ClockType.STEADY_TIME),
        )
        self.status.publish()

    def _add(self, part):
        self._parts.append(part)
        return part

    def show(self, snapshot, change):
        """Publish a snapshot (None: the map was discarded) and its Change (None: it is not a
        refinement).
        """
        if snapshot is None:
            self.outputs.publish_nothing()
        else:
            self.outputs.publish(snapshot)
        if change is not None:
            self.outputs.publish_change(snapshot, change)
        self.map_odom.broadcast()
        self.status.publish()

    def _tick(self):
        self._core.refinery.tick()
        self._core.intake.input_msg = self.input.monitor.check()
        self.outputs.publish_map()
        self.status.publish()

    def destroy(self):
        if self._timer is not None:
            self._node.destroy_timer(self._timer)
        for part in reversed(self._parts):  # the input first, to stop new data
            part.destroy()
