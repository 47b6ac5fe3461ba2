"""Action refine: run a refinement, after the current one if any, and report its phases. Goals can
be cancelled independently.
"""

import threading

from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.callback_groups import ReentrantCallbackGroup

from vggt3_ros.action import Refine
from vggt3_ros.system import strict_json
from vggt3_ros.worker.client import WorkerError

CODES = {
    "invalid": Refine.Result.NOTHING_TO_REFINE,
    "cancelled": Refine.Result.CANCELED,
    "died": Refine.Result.NO_WORKER,
}
MAX_GOALS = 4  # each occupies a thread of the executor


class RefineAction:
    """core: the node's Core."""

    def __init__(self, node, core):
        self._core, self._log = core, node.get_logger()
        self._goals, self._lock = 0, threading.Lock()
        self._server = ActionServer(
            node,
            Refine,
            "refine",
            self._execute,
            goal_callback=self._accept,
            cancel_callback=lambda goal: CancelResponse.ACCEPT,
            callback_group=ReentrantCallbackGroup(),
        )

    def destroy(self):
        self._server.destroy()

    def _accept(self, request):
        with self._lock:
            if self._goals >= MAX_GOALS:
                self._log.warning(f"refine goal rejected: {self._goals} goals are pending already")
                return GoalResponse.REJECT
            self._goals += 1
        return GoalResponse.ACCEPT

    def _execute(self, goal):
        try:
            return self._refine(goal)
        finally:
            with self._lock:
                self._goals -= 1

    def _refine(self, goal):
        result = Refine.Result()
        if self._core.localizing:
            result.error_code, result.error_msg = (
                Refine.Result.FAILED,
                "the node is in localization mode, which does not modify the map",
            )
            goal.abort()
            return result
        finished = threading.Event()
        wish = self._core.refinery.request(
            lambda phase, fraction: self._feedback(goal, finished, phase, fraction)
        )
        wish.add_done_callback(lambda _: finished.set())
        while not finished.wait(0.05):
            if goal.is_cancel_requested:
                self._core.refinery.withdraw(wish)
        try:
            snapshot = self._core.load_snapshot(wish.result())
        except WorkerError as error:
            result.error_code, result.error_msg = (
                CODES.get(error.code, Refine.Result.FAILED),
                str(error),
            )
        except ValueError as error:  # the snapshot cannot be read
            result.error_code, result.error_msg = Refine.Result.FAILED, str(error)
        else:
            result.generation, result.keyframes, result.map_points = (
                snapshot.generation,
                len(snapshot),
                len(snapshot.cloud),
            )
            result.loops_accepted = sum(loop.accepted for loop in snapshot.loops)
            result.loops_rejected = len(snapshot.loops) - result.loops_accepted
            result.seconds = self._core.refinery.seconds
            result.report = strict_json.dumps({"seconds": snapshot.seconds, **snapshot.report})
            goal.succeed()
            return result
        if result.error_code == Refine.Result.CANCELED and goal.is_cancel_requested:
            goal.canceled()
        else:
            goal.abort()
        return result

    @staticmethod
    def _feedback(goal, finished, phase, fraction):
        if goal.is_active and not finished.is_set():
            goal.publish_feedback(Refine.Feedback(phase=phase, progress=float(fraction)))
