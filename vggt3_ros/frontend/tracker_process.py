"""An external tracker in its own process, such as ORB-SLAM3 in scripts/orbslam3-tracker. The
package only knows its protocol, not its code.

Standard input, for every frame: one line of JSON {"stamp_ns", "width", "height", "fx", "fy", "cx",
"cy"}, height x width x 3 bytes of undistorted RGB, and height x width little-endian float32 depth
in metres (0: unknown). Standard output, for every frame: one line of JSON {"T_world_cam": 16
numbers, row-major, or null while tracking is lost}.
"""

import json
import shlex
from subprocess import PIPE
from types import TracebackType
from typing import Any

import numpy as np

from vggt3_ros.frontend.rgbd_odometry import LOST_SIGMA, Tracked
from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import Camera, undistort
from vggt3_ros.geometry.se3 import Floats
from vggt3_ros.system.environment import foreign_environment
from vggt3_ros.system.program import Program

# after tracking was lost, a pose this far from the last one belongs to a new map of the tracker
JUMP_M, JUMP_RAD = 0.5, 0.5
MAX_ANSWER = 4096  # bytes
EXIT_SECONDS = 10.0  # grace period to exit after its input has ended


class TrackerProcess:
    """Run the tracker `command` (as typed in a shell). Use it in a with statement. Raises
    ValueError if the tracker cannot be started, ends, or sends an invalid answer.

    patience: seconds that it has to end by itself once its input ends.
    """

    def __init__(self, command: str, patience: float = EXIT_SECONDS) -> None:
        self._command = command
        try:
            self._program = Program(
                shlex.split(command),
                patience=patience,
                stdin=PIPE,
                stdout=PIPE,
                env=foreign_environment(),
            )
        except OSError as error:
            raise ValueError(
                f"the tracker '{command}' cannot be started: {error.strerror or error}"
            ) from error
        self._T_odom_world: Floats = np.eye(4)
        self._last: Floats = np.eye(4)
        self._lost, self._chain = True, 0

    def track(
        self, image: np.ndarray, depth: np.ndarray, camera: Camera, stamp_ns: int
    ) -> Tracked:
        """Track a frame; see RgbdOdometry.track. If the tracker begins a new map, the odometry
        continues from the last pose.
        """
        pinhole = camera.undistorted()
        head: dict[str, Any] = {
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

    def _ask(self, question: bytes) -> Floats | None:
        """Send a frame and return the pose (4, 4) that the tracker answers; None while lost."""
        stdin, stdout = self._program.stdin, self._program.stdout
        assert stdin is not None and stdout is not None
        try:
            stdin.write(question)
            stdin.flush()
            line = stdout.readline(MAX_ANSWER)
        except OSError:
            line = b""
        if not line:
            self._program.ends_within(EXIT_SECONDS)
            raise ValueError(
                f"the tracker '{self._command}' ended ({self._program.end or 'it closed its output'})"
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
                f"the tracker '{self._command}' sent an invalid answer: {error}"
            ) from error

    def __enter__(self) -> "TrackerProcess":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._program.close()
