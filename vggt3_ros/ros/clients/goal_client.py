"""Action goals sent while another thread spins."""

import threading

from rclpy.action import ActionClient


class GoalClient(ActionClient):
    """An ActionClient that handles no response while a goal is being sent.

    rclpy (9, Kilted) registers one future for a goal, releases its lock, and replaces it by the
    future that the caller gets. A response in between completed the first one, and the caller
    waited forever. Under load this happened to one refinement in nineteen.
    """

    def __init__(self, *arguments, **options):
        self._sending_goal = threading.RLock()
        super().__init__(*arguments, **options)

    def send_goal_async(self, *arguments, **options):
        with self._sending_goal:
            return super().send_goal_async(*arguments, **options)

    def take_data(self):
        with self._sending_goal:
            return super().take_data()
