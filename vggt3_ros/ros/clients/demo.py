"""The whole system over real DDS: a player process publishes keyframes, the node refines them, a
client localizes images.
"""

import os
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import rclpy
from rclpy.node import Node
from sensor_msgs.msg import PointCloud2
from tf2_msgs.msg import TFMessage

from vggt3_ros.action import Refine
from vggt3_ros.messages.reading import to_transform
from vggt3_ros.msg import KeyframePoses, Status
from vggt3_ros.ros import qos
from vggt3_ros.ros.clients.goal_client import GoalClient
from vggt3_ros.ros.clients.processes import (
    MemoryWatch,
    backend_process,
    end,
    refined,
    tail,
    wait_for,
    wait_until,
)
from vggt3_ros.ros.conversions import from_camera
from vggt3_ros.ros.image_messages import from_rgb
from vggt3_ros.ros.output.clouds import from_cloud
from vggt3_ros.ros.output.outputs import LOCAL_SUFFIX
from vggt3_ros.ros.spinner import Spinner
from vggt3_ros.srv import Localize
from vggt3_ros.store.snapshot import PointMap, Snapshot

# Isolates the demo from robots on the same network.
NAMESPACE = ["-r", "__ns:=/vggt3_demo", "-r", "/tf:=tf"]
START_SECONDS, REFINE_SECONDS = 90.0, 600.0


@dataclass(frozen=True, eq=False)
class Outcome:
    """The results received over ROS. ids (N,), T_map_cam (N, 4, 4): the last keyframe_poses;
    cloud: the last map, a PointMap. localizations, memory_localizations: an Answer per query,
    verified or from the scene memory alone. snapshot_seconds: stage -> seconds of the last
    refinement. peak_memory_mb: of node and worker together.
    """

    ids: np.ndarray
    T_map_cam: np.ndarray
    cloud: PointMap
    localizations: list
    memory_localizations: list
    snapshot_seconds: dict
    peak_memory_mb: float


@dataclass(frozen=True, eq=False)
class Answer:
    """T_map_cam: (4, 4) with its covariance (6, 6) in map axes, None if not localized; message:
    why not; seconds: response time.
    """

    T_map_cam: np.ndarray | None
    covariance: np.ndarray | None
    message: str
    seconds: float


class Client(Node):
    """Subscribes to the back end and sends requests, spinning in a thread of its own."""

    def __init__(self):
        super().__init__("vggt3_demo_client")
        self.status = self.poses = self.cloud = None
        self.create_subscription(
            Status, "status", lambda message: setattr(self, "status", message), qos.LATCHED
        )
        self.create_subscription(
            KeyframePoses,
            "keyframe_poses",
            lambda message: setattr(self, "poses", message),
            qos.LATCHED,
        )
        self.create_subscription(
            PointCloud2, "map", lambda message: setattr(self, "cloud", message), qos.LATCHED
        )
        self._origins = {}  # frame -> origin (3,) in its parent
        self.create_subscription(TFMessage, "/tf_static", self._take_frames, qos.TF_STATIC)
        self.localizer = self.create_client(Localize, "localize")
        self.refiner = GoalClient(self, Refine, "refine")
        self._spinner = Spinner(self)

    def close(self):
        self._spinner.close()

    def _take_frames(self, message):
        for entry in message.transforms:
            at = entry.transform.translation
            self._origins[entry.child_frame_id] = np.array([at.x, at.y, at.z])

    @property
    def map(self):
        """The last map as a PointMap; None if there is none, or while the origin of its frame is
        unknown.
        """
        far = self.cloud is not None and self.cloud.header.frame_id.endswith(LOCAL_SUFFIX)
        if self.cloud is None or (far and self.cloud.header.frame_id not in self._origins):
            return None
        return _point_map(
            self.cloud, self._origins[self.cloud.header.frame_id] if far else np.zeros(3)
        )

    def localize(self, image, camera, verify):
        """Return the Answer of the localize service."""
        begin = time.monotonic()
        request = Localize.Request(
            image=from_rgb(image), camera_info=from_camera(camera), verify=verify
        )
        answer = wait_for(self.localizer.call_async(request), 30.0)
        seconds = time.monotonic() - begin
        if answer.error_code != Localize.Response.NONE:
            return Answer(None, None, answer.error_msg, seconds)
        return Answer(
            to_transform(answer.pose.pose.pose),
            np.reshape(answer.pose.pose.covariance, (6, 6)),
            "",
            seconds,
        )


def run(folder, odometry, sequence, out, rate, bars):
    """Play `sequence` (read from the TUM-layout `folder`) at `rate` keyframes per second and
    return the Outcome.

    bars(description, total, unit): returns a tqdm-like bar. Logs of the processes are written to
    `out`. Raises RuntimeError if one of them fails.
    """
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    with (
        rclpy.init(args=["--ros-args", *NAMESPACE]),
        _backend(out, len(sequence)) as backend,
        closing(Client()) as client,
    ):
        memory = MemoryWatch(backend.pid)
        wait_until(
            lambda: client.status is not None and client.status.state == Status.IDLE,
            START_SECONDS,
            backend,
            out / "backend.log",
            "the back end does not start",
        )
        _play(client, folder, odometry, len(sequence), rate, out, bars, backend)
        _follow(client, PhaseBars(bars, "first refinement"))
        phases = PhaseBars(bars, "refinement")
        result = refined(client.refiner, REFINE_SECONDS, phases)
        phases.close()
        stages = Snapshot.load(out / "store" / "snapshots" / f"{result.generation:06d}").seconds
        # From now on idle time may publish a better memory with the same poses and map.
        wait_until(
            lambda: (
                client.poses
                and client.poses.generation >= result.generation
                and client.map is not None
            ),
            30.0,
            backend,
            out / "backend.log",
            "the refined map did not arrive",
        )
        answers = {True: [], False: []}
        with bars("localizing", len(sequence.queries), "image") as bar:
            for query in sequence.queries:
                for verify, list_ in answers.items():
                    list_.append(client.localize(query.image, sequence.camera, verify))
                bar.update()
        return Outcome(
            np.array(client.poses.ids, np.int64),
            np.array([to_transform(pose.pose) for pose in client.poses.poses]),
            client.map,
            answers[True],
            answers[False],
            stages,
            memory.peak_mb,
        )


def _point_map(message, origin):
    points = from_cloud(message)
    packed = points["rgb"]
    return PointMap.around(
        origin,
        np.stack([points["x"], points["y"], points["z"]], axis=1),
        np.stack([packed >> 16 & 255, packed >> 8 & 255, packed & 255], axis=1).astype(np.uint8),
        points["confidence"],
    )


def _backend(out, keyframes):
    """Run the node as a process that refines once by itself on the way."""
    parameters = {
        "store": out / "store",
        "refine_every_keyframes": keyframes // 2 + 1,
        "refine_every_seconds": 0.0,
        "map_folder": out / "maps",
    }
    return backend_process(out / "backend.log", parameters, NAMESPACE)


def _play(client, folder, odometry, total, rate, out, bars, backend):
    command = [
        sys.executable,
        "-P",
        "-m",
        "vggt3_ros.cli.main",
        "replay",
        str(folder),
        "--rate",
        str(rate),
        "--quiet",
    ]
    command += (["--odometry", str(odometry)] if odometry else []) + ["--ros-args", *NAMESPACE]
    with open(out / "player.log", "w") as log, bars("keyframes stored", total, "") as bar:
        player = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            while player.poll() is None:
                time.sleep(0.2)
                bar.update(client.status.keyframes - bar.n)
                bar.set_postfix_str(
                    client.status.phase and f"refining: {client.status.phase}", refresh=False
                )
                if backend.poll() is not None:
                    raise RuntimeError(
                        f"the back end ended, see {out / 'backend.log'}:\n{tail(out / 'backend.log')}"
                    )
            bar.update(total - bar.n)
        finally:
            end(player)
    if player.returncode:
        raise RuntimeError(f"the player failed:\n{tail(out / 'player.log')}")


def _follow(client, heard):
    """Show the progress of a running refinement until it ends."""
    while client.status.state == Status.REFINING:
        if client.status.phase:
            heard(client.status.phase, client.status.progress)
        time.sleep(0.2)
    heard.close()


class PhaseBars:
    """Shows a progress bar for each phase of a refinement."""

    def __init__(self, bars, title):
        self._bars, self._title, self._bar, self._phase = bars, title, None, None

    def __call__(self, phase, fraction):
        if phase != self._phase:
            self.close()
            self._phase, self._bar = phase, self._bars(f"{self._title}: {phase}", 100, "%")
        self._bar.update(round(100 * fraction) - self._bar.n)

    def close(self):
        if self._bar is not None:
            self._bar.update(100 - self._bar.n)
            self._bar.close()
            self._bar = None
