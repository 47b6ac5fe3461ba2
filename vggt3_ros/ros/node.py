"""The back end as a ROS 2 lifecycle node: it converts and publishes; the worker process does the work."""

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn

from vggt3_ros.ros.core import Core
from vggt3_ros.ros.inputs import make_input
from vggt3_ros.ros.grid_output import GridOutput
from vggt3_ros.ros.localize_service import LocalizeService
from vggt3_ros.ros.map_odom import MapOdomBroadcaster
from vggt3_ros.ros.map_services import MapServices
from vggt3_ros.ros.outputs import Outputs
from vggt3_ros.ros.parameters import Parameters
from vggt3_ros.ros.refine_action import RefineAction
from vggt3_ros.ros.status import StatusPublisher
from vggt3_ros.ros.trajectory_service import TrajectoryService


class BackendNode(LifecycleNode):
    """configure: open the store, start the worker, serve the last map. activate: take keyframes, refine, answer.
    deactivate keeps the store; cleanup ends the worker."""

    def __init__(self, backend="vggt3_ros.backend:Backend", **options):
        super().__init__("vggt3_ros", **options)
        self._backend = backend
        self._core = self._active_parts = None
        self.parameters = Parameters(self, self._parameters_changed)

    def on_configure(self, state):
        try:
            self._core = Core(self.parameters, self._backend, self._snapshot_changed, self._pose_found,
                              self._state_changed, self.get_logger())
        except (ValueError, OSError) as error:  # StoreError among them
            self.get_logger().error(f"cannot configure: {error}")
            return TransitionCallbackReturn.FAILURE
        self.get_logger().info(f"keyframe store: {self._core.store.folder} ({len(self._core.store)} keyframes)")
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state):
        self._active_parts = ActiveParts(self, self._core)
        if self._core.snapshot is not None:
            self._active_parts.show(self._core.snapshot, None)
        self._core.resume()
        return super().on_activate(state)

    def on_deactivate(self, state):
        self._deactivate()
        return super().on_deactivate(state)

    def on_cleanup(self, state):
        self.close()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state):
        self.close()
        return TransitionCallbackReturn.SUCCESS

    def stop(self):
        """Before the executor is shut down: its threads must not wait for the worker any longer."""
        self._deactivate()
        if self._core is not None:
            self._core.stop()

    def close(self):
        """Stop work, end the worker and close the store; keyframes and snapshots stay on disk."""
        self._deactivate()
        core, self._core = self._core, None
        if core is not None:
            core.close()

    def _deactivate(self):
        parts, self._active_parts = self._active_parts, None
        if parts is not None:
            self._core.refinery.pause()
            parts.destroy()

    def _snapshot_changed(self, snapshot, change):
        parts = self._active_parts
        if parts is not None:
            parts.show(snapshot, change)

    def _pose_found(self, *pose):
        parts = self._active_parts
        if parts is not None:
            parts.outputs.publish_pose(*pose)
            parts.map_odom.broadcast()

    def _state_changed(self):
        parts = self._active_parts
        if parts is not None:
            parts.status.publish_if_changed()

    def _parameters_changed(self, node_config, backend_config):
        if self._core is not None:
            self._core.configure()


class ActiveParts:
    """What exists while the node is active: subscription, publishers, services, timers."""

    def __init__(self, node, core):
        self._node, config = node, core.parameters
        self.outputs = Outputs(node, config.node.map_frame)
        self.map_odom = MapOdomBroadcaster(node, config.node.tf_rate, lambda: core.T_map_frontend,
                                           lambda: (config.node.map_frame, core.intake.odom_frame),
                                           lambda: config.node.transform_tolerance, lambda: config.node.publish_tf)
        self.grid = GridOutput(node, core, config.node.status_period)
        self.localize = LocalizeService(node, core)
        self.services = MapServices(node, core)
        self.trajectory = TrajectoryService(node, core)
        self.refine = RefineAction(node, core)
        self.status = StatusPublisher(node, core, self.localize)
        self._core = core
        self._timer = node.create_timer(config.node.status_period, self._tick, callback_group=MutuallyExclusiveCallbackGroup(),
                                        clock=Clock(clock_type=ClockType.STEADY_TIME))
        self.input = make_input(node, core, self.map_odom.broadcast)
        self.status.publish()

    def show(self, snapshot, change):
        """Publish a snapshot, None: the map was forgotten; and what it changed (Change, None: it is no refinement)."""
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
        self.input.destroy()
        self._node.destroy_timer(self._timer)
        for part in (self.status, self.refine, self.trajectory, self.services, self.localize, self.grid, self.map_odom, self.outputs):
            part.destroy()
