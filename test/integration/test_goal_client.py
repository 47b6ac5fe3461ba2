"""A goal whose answer comes while it is still being sent."""

import time

from rclpy.action import client as action_client
from vggt3_ros.action import Refine

from vggt3_ros.ros.clients.goal_client import GoalClient


def test_an_answer_that_comes_while_the_goal_is_being_sent_is_heard(graph, monkeypatch):
    class Slow(action_client.Future):
        def __init__(self, *arguments, **options):
            time.sleep(0.5)
            super().__init__(*arguments, **options)

    graph.backend()
    client = GoalClient(graph.client, Refine, "refine")
    assert client.wait_for_server(10)
    monkeypatch.setattr(action_client, "Future", Slow)
    goal = graph.wait(client.send_goal_async(Refine.Goal()))
    monkeypatch.undo()
    assert goal.accepted
    assert graph.wait(goal.get_result_async()).result.error_code == Refine.Result.NOTHING_TO_REFINE
