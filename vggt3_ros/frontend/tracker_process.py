"""A tracker in a process of its own, as ORB-SLAM3 in scripts/orbslam3-tracker: the package knows
its bytes, not its code.

To its standard input, for every frame: one line of JSON {"stamp_ns", "width", "height", "fx",
"fy", "cx", "cy"}, height x width x 3 bytes of undistorted RGB, height x width little-endian
float32 of depth in metres (0: unknown). From its standard output, for every frame: one line of
JSON {"T_world_cam": 16 numbers, row by row, or null while it is lost}.
"""

import json
import shlex
from subprocess import PIPE

import numpy as np

from vggt3_ros.frontend.rgbd_odometry import LOST_SIGMA, Tracked
from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import undistort
from vggt3_ros.system.environment import foreign_environment
from vggt3_ros.system.program import Program

# after a loss, a pose this far from the last one is in a new map of the tracker's
JUMP_M, JUMP_RAD = 0.5, 0.5
MAX_ANSWER = 4096  # bytes
EXIT_SECONDS = 10.0  # that it has to end by itself once its input ends


class TrackerProcess:
    """Starts `command` (a line as in a shell). Use in a with statement; ValueError when it ends or
    answers nonsense.
    """

    def __init__(self, command):
        self._command = command
        try:
            self._program = Program(
                shlex.split(command),
                patience=EXIT_SECONDS,
                stdin=PIPE,
                stdout=PIPE,
                env=foreign_environment(),
            )
        except OSError as error:
            raise ValueError(
                f"the tracker '{command}' cannot be started: {error.strerror or error}"
            ) from error
        self._T_odom_world, self._last, self._lost, self._chain = np.eye(4), np.eye(4), True, 0

    def track(self, image, depth, camera, stamp_ns):
        """As RgbdOdometry.track. Where the tracker begins a new map, the odometry goes on from the
        last pose.
        """
        pinhole = camera.undistorted()
        head = {
            "stamp_ns": stamp_ns,
            **{
                name: getattr(pinhole, name)
                for name in ("width", "height", "fx", "fy", "cx", "cy")
            },
        }
        pose = self._ask(
            json.dumps(head).encode()
            + b"\n"
            + undistort(image, camera).tobytes()
            + undistort(depth, camera, nearest=True).astype("<f4").tobytes()
        )
        if pose is None:
            self._lost = True
            return Tracked(self._last, 0, np.diag(LOST_SIGMA**2), None)
        T_odom_cam = self._T_odom_world @ pose
        again, jump = self._lost, se3.inverse(self._last) @ T_odom_cam
        new_map = again and (
            np.linalg.norm(jump[:3, 3]) > JUMP_M or se3.rotation_angle(jump) > JUMP_RAD
        )
        if new_map:
            self._T_odom_world, T_odom_cam = self._last @ se3.inverse(pose), self._last
            self._chain += 1
        self._last, self._lost = se3.orthonormalize(T_odom_cam), False
        return Tracked(self._last, 1, np.diag(LOST_SIGMA**2) if new_map else None, self._chain)

    def _ask(self, question):
        """Pose (4, 4) that the process answers, None while it is lost."""
        try:
            self._program.stdin.write(question)
            self._program.stdin.flush()
            line = self._program.stdout.readline(MAX_ANSWER)
        except OSError:
            line = b""
        if not line:
            self._program.ends_within(EXIT_SECONDS)
            raise ValueError(
                f"the tracker '{self._command}' ended ({self._program.end or 'its answers did'})"
            )
        try:
            answer = json.loads(line)["T_world_cam"]
            return (
                None
                if answer is None
                else se3.check(np.array(answer, float).reshape(4, 4), "T_world_cam")
            )
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"the tracker '{self._command}' answered nonsense: {error}"
            ) from error

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._program.close()
