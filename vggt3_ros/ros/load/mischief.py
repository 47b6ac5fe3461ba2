"""Disturb a node in a soak test: kill its worker, send malformed messages and requests. Each runs
in a thread of its own.
"""

import random
import time

import psutil

from vggt3_ros.messages.reading import to_keyframe
from vggt3_ros.msg import Keyframe
from vggt3_ros.ros import qos
from vggt3_ros.ros.conversions import from_camera
from vggt3_ros.ros.input.input_monitor import decoded
from vggt3_ros.ros.load.malformed import noise, spoil
from vggt3_ros.srv import Localize

# Time in which a refinement must complete after a kill, before the next kill.
RECOVERY_SECONDS = 600.0
KILL_PAUSE = 10.0, 60.0  # seconds between a recovery and the next kill
BROKEN_IDS = 2**61  # first id of malformed keyframes, distinct from valid ones


class WorkerKiller:
    """Sends SIGKILL to the worker of the node `pid` at random moments. recoveries: seconds from
    each kill to the next completed refinement, None if none completed.
    """

    def __init__(self, observer, pid, seed):
        self._observer, self._node, self._rng = observer, psutil.Process(pid), random.Random(seed)
        self.kills, self.recoveries = 0, []
        observer.start(self._run)

    def _run(self):
        closing = self._observer.closing
        while not closing.wait(self._rng.uniform(*KILL_PAUSE)):
            worker = self._worker()
            if worker is None or not self._observer.status.generation:
                continue
            worker.kill()
            self.kills += 1
            killed, generation = time.monotonic(), self._observer.status.generation
            while (
                self._observer.status.generation <= generation
                and time.monotonic() - killed < RECOVERY_SECONDS
            ):
                if closing.wait(0.2):
                    self.kills -= 1  # the test ended first: outcome unknown
                    return
            recovered = self._observer.status.generation > generation
            self.recoveries.append(time.monotonic() - killed if recovered else None)

    def _worker(self):
        for child in self._node.children():
            if "vggt3_ros.worker" in " ".join(child.cmdline()):
                return child
        return None


class Vandal:
    """Sends malformed keyframes and requests. sent: number of malformed keyframes, each of which
    must be refused.
    """

    def __init__(self, observer, stream, period, seed):
        self._observer, self._stream, self._period, self._rng = (
            observer,
            stream,
            period,
            random.Random(seed),
        )
        self._publisher = observer.create_publisher(Keyframe, "keyframes", qos.KEYFRAMES)
        self.sent = self.asked = self.unanswered = 0
        observer.start(self._run)

    def _run(self):
        while not self._observer.closing.wait(self._period * self._rng.uniform(0.2, 1.8)):
            if self._rng.random() < 0.2:
                self._ask()
            else:
                self._publisher.publish(self._broken())
                self.sent += 1

    def _broken(self):
        """Return a malformed keyframe, as message or as bytes."""
        while True:
            message = self._stream.small(self._rng.randrange(len(self._stream)), time.time_ns())
            message.id = BROKEN_IDS + self._rng.randrange(2**60)
            for _ in range(self._rng.randint(1, 3)):
                spoil(message, self._rng)
            candidate = noise(message, self._rng) if self._rng.random() < 0.3 else message
            if unusable(candidate):
                return candidate

    def _ask(self):
        request = Localize.Request(camera_info=from_camera(self._stream.camera), verify=True)
        request.image = self._stream.small(0, time.time_ns()).image
        spoil(request, self._rng)
        self.asked += 1
        self.unanswered += self._observer.ask(request, count=False) is None


def unusable(candidate):
    """Return whether a keyframe, or its bytes, cannot be read. Any exception but ValueError is a
    bug and ends the run.
    """
    try:
        message = decoded(candidate, Keyframe) if isinstance(candidate, bytes) else candidate
        to_keyframe(message)
    except ValueError:
        return True
    return message.header.frame_id != "odom"
