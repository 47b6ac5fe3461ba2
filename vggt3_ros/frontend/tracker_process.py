"""A tracker in a process of its own, as ORB-SLAM3 in scripts/orbslam3-tracker: the package knows its bytes, not its code.

To its standard input, for every frame: one line of JSON {"stamp_ns", "width", "height", "fx", "fy", "cx", "cy"}, height x width x 3
bytes of undistorted RGB, height x width little-endian float32 of depth in metres (0: unknown). From its standard output, for every
frame: one line of JSON {"T_world_cam": 16 numbers, row by row, or null while it is lost}.
"""

import json
import os
import shlex
import subprocess

import numpy as np

from vggt3_ros.frontend.rgbd_odometry import LOST_SIGMA, Tracked
from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import undistort

JUMP_M, JUMP_RAD = 0.5, 0.5  # after a loss, a pose this far from the last one is in a new map of the tracker's
MAX_ANSWER = 4096  # bytes


class TrackerProcess:
    """Starts `command` (a line as in a shell). Use in a with statement; ValueError when it ends or answers nonsense."""

    def __init__(self, command):
        self._command = command
        try:
            # Without the allocator that torch needs (system/environment.py): ORB-SLAM3 was seen to crash on it.
            environment = {name: value for name, value in os.environ.items() if name not in ("LD_PRELOAD", "MALLOC_CONF")}
            self._process = subprocess.Popen(shlex.split(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        except OSError as error:
            raise ValueError(f"the tracker '{command}' cannot be started: {error.strerror or error}") from error
        self._T_odom_world, self._last, self._lost, self._chain = np.eye(4), np.eye(4), True, 0

    def track(self, image, depth, camera, stamp_ns):
        """As RgbdOdometry.track. Where the tracker begins a new map, the odometry goes on from the last pose."""
        pinhole = camera.undistorted()
        head = {"stamp_ns": stamp_ns, **{name: getattr(pinhole, name) for name in ("width", "height", "fx", "fy", "cx", "cy")}}
        pose = self._ask(json.dumps(head).encode() + b"\n" + undistort(image, camera).tobytes()
                         + undistort(depth, camera, nearest=True).astype("<f4").tobytes())
        if pose is None:
            self._lost = True
            return Tracked(self._last, 0, np.diag(LOST_SIGMA**2), None)
        T_odom_cam = self._T_odom_world @ pose
        again, jump = self._lost, se3.inverse(self._last) @ T_odom_cam
        new_map = again and (np.linalg.norm(jump[:3, 3]) > JUMP_M or se3.rotation_angle(jump) > JUMP_RAD)
        if new_map:
            self._T_odom_world, T_odom_cam = self._last @ se3.inverse(pose), self._last
            self._chain += 1
        self._last, self._lost = se3.orthonormalize(T_odom_cam), False
        return Tracked(self._last, 1, np.diag(LOST_SIGMA**2) if new_map else None, self._chain)

    def _ask(self, question):
        """Pose (4, 4) that the process answers, None while it is lost."""
        try:
            self._process.stdin.write(question)
            self._process.stdin.flush()
            line = self._process.stdout.readline(MAX_ANSWER)
        except OSError:
            line = b""
        if not line:
            raise ValueError(f"the tracker '{self._command}' ended with status {self._process.wait(10)}")
        try:
            answer = json.loads(line)["T_world_cam"]
            return None if answer is None else se3.check(np.array(answer, float).reshape(4, 4), "T_world_cam")
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"the tracker '{self._command}' answered nonsense: {error}") from error

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for pipe in (self._process.stdin, self._process.stdout):
            try:
                pipe.close()
            except BrokenPipeError:
                continue  # it has ended already
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
