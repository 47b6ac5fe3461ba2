"""Goals of actions, sent while another thread spins."""

import threading

from rclpy.action import ActionClient


class GoalClient(ActionClient):
    """An ActionClient that takes no answer while a goal is being sent.

    rclpy (9, Kilted) registers one future for a goal, lets go of its lock, and puts another in its
    place, which the caller gets: an answer that came between the two completed the first, and the
    caller waited in vain. One refinement in nineteen did under load.
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
