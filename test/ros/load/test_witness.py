"""What hears a node under load, and asks it."""

import threading
from types import SimpleNamespace

from rclpy.task import Future

from vggt3_ros.ros.load import witness


def test_the_late_answer_to_a_request_given_up_does_not_answer_the_next(monkeypatch):
    monkeypatch.setattr(witness, "RETRY_SECONDS", 0.3)
    asked = []

    class Client:
        def wait_for_service(self, seconds):
            return True

        def call_async(self, request):
            asked.append(Future())
            if len(asked) == 2:  # the first is answered now, the second a while later
                threading.Timer(0.05, asked[0].set_result, ["of the first"]).start()
                threading.Timer(0.2, asked[1].set_result, ["of the second"]).start()
            return asked[-1]

        def remove_pending_request(self, future):
            pass

    asking = SimpleNamespace(closing=threading.Event())
    assert witness.Witness._answer(asking, Client(), "request") == "of the second"
    assert len(asked) == 2
