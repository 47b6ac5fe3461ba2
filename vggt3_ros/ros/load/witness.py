"""A front end that survives restarts of the node: it continues to send keyframes and checks the
output of a restarted node.
"""

import threading
import time

import numpy as np
from nav_msgs.msg import Path
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from sensor_msgs.msg import PointCloud2

from vggt3_ros.msg import Status
from vggt3_ros.ros import qos
from vggt3_ros.ros.conversions import from_camera, to_matrix
from vggt3_ros.ros.load.observer import IN_FLIGHT, Observer
from vggt3_ros.srv import GetTrajectory, Localize

RETRY_SECONDS = 5.0  # DDS may lose a response sent before discovery is complete
STATES = {
    None: "before it was active",
    Status.STARTING: "while its worker started",
    Status.IDLE: "idle",
    Status.REFINING: "refining",
    Status.DISTILLING: "while it improved the memory",
    Status.FAULT: "in fault",
}


class Witness(Observer):
    """Observes one life of the node. sent: ids of the published keyframes, in order. path, cloud:
    the latest messages. transforms: (parent, child, (4, 4)) of every map->odom received.
    """

    def __init__(self, context, stream):
        self.path = self.cloud = None
        self.transforms, self.sent, self._stream = [], [], stream
        super().__init__("vggt3_witness", context)
        self.create_subscription(
            Path, "path", lambda message: setattr(self, "path", message), qos.LATCHED
        )
        self.create_subscription(
            PointCloud2, "map", lambda message: setattr(self, "cloud", message), qos.LATCHED
        )
        self._trajectory = self.create_client(GetTrajectory, "get_trajectory")
        self._parameters = self.create_client(SetParameters, "vggt3_ros/set_parameters")

    def _take_transform(self, message):
        found = message.transforms[0]
        self.transforms.append(
            (found.header.frame_id, found.child_frame_id, to_matrix(found.transform))
        )

    def send_forever(self, first_id, rate):
        """Start a thread that publishes keyframes first_id, first_id + 1, ... while few of them
        are unacknowledged.
        """
        self.start(lambda: self._send_forever(first_id, rate))

    def _send_forever(self, first_id, rate):
        while not self.closing.wait(1 / rate):
            if (
                self.status is not None
                and self.keyframes.get_subscription_count()
                and len(self.sent) - self._taken() < IN_FLIGHT
            ):
                self.sent.append(first_id + len(self.sent))
                self.keyframes.publish(self._stream.message(self.sent[-1], time.time_ns()))

    def acknowledged_ids(self):
        """Return the ids of the acknowledged keyframes: the node accepts them in order."""
        return self.sent[: self._taken() if self.status is not None else 0]

    # requests; None once this is closing
    # -----------------------------------------------------------------

    def stored_ids(self):
        """Return the ids of all keyframes in the node's store, as given by get_trajectory."""
        answer = self._answer(
            self._trajectory, GetTrajectory.Request(source=GetTrajectory.Request.ODOMETRY)
        )
        return None if answer is None else set(answer.ids)

    def place(self, keyframe_id):
        """Return the first localize response from a worker for the image of a keyframe, None if the
        run ends before.
        """
        request = Localize.Request(
            image=self._stream.image(self._stream.index(keyframe_id)),
            camera_info=from_camera(self._stream.camera),
            verify=True,
        )
        while (answer := self._answer(self.localizer, request)) is not None:
            if answer.error_code not in (Localize.Response.NO_WORKER, Localize.Response.TIMEOUT):
                return answer
            self.closing.wait(0.05)
        return None

    def set(self, **parameters):
        request = SetParameters.Request(
            parameters=[
                Parameter(name, value=value).to_parameter_msg()
                for name, value in parameters.items()
            ]
        )
        answer = self._answer(self._parameters, request)
        return answer is not None and all(result.successful for result in answer.results)

    def _answer(self, client, request):
        while not self.closing.is_set():
            if not client.wait_for_service(0.1):
                continue
            future, done = client.call_async(request), threading.Event()
            # A late response to an earlier request must not set this event.
            future.add_done_callback(lambda _, done=done: done.set())
            limit = time.monotonic() + RETRY_SECONDS
            while not self.closing.is_set() and time.monotonic() < limit:
                if done.wait(0.02):
                    return future.result()
            client.remove_pending_request(future)
        return None


def differences(witness, snapshot, answer):
    """Yield, as text, where the observed output differs from `snapshot`."""
    poses, path, cloud = witness.poses, witness.path, witness.cloud
    if poses.generation != snapshot.generation or set(poses.ids) != set(
        snapshot.keyframe_ids.tolist()
    ):
        yield f"keyframe_poses are of generation {poses.generation}, {len(poses.ids)} keyframes"
    if len(path.poses) != len(snapshot):
        yield f"path has {len(path.poses)} poses"
    if cloud.width * cloud.height != len(snapshot.cloud):
        yield f"map has {cloud.width * cloud.height} points"
    for parent, child, T_map_odom in list(witness.transforms):
        if (parent, child) != ("map", "odom") or not np.allclose(
            T_map_odom, snapshot.T_map_odom, atol=1e-6
        ):
            yield f"TF {parent} -> {child} is {np.round(T_map_odom, 4).tolist()}"
            break
    if answer.error_code != Localize.Response.NONE or answer.generation != snapshot.generation:
        yield f"localize returns {answer.error_code} '{answer.error_msg}', generation {answer.generation}"
