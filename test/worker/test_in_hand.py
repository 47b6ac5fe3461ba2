"""What the worker has in hand: keyframes since the last step, a query, and the time without
progress.
"""

import threading
import time

from vggt3_ros.worker.in_hand import InHand


def test_keyframes_are_in_hand_until_the_next_step():
    told = []
    hand = InHand(told.append)
    hand.keyframe(9)  # no job: nobody's
    hand.begin("refine")
    hand.step("features")
    hand.keyframe(1)
    assert told[-1] == {"phase": "features", "keyframes": [1], "query": ""}
    hand.step()
    assert told[-1]["keyframes"] == []
    hand.step("loops")
    for id in (4, 5, 5, 6):
        hand.keyframe(id)
    assert told[-1]["keyframes"] == [5, 6] and told[-1]["phase"] == "loops"
    hand.end()
    assert told[-1] == {"phase": "", "keyframes": [], "query": ""}


def test_keyframes_read_by_a_localization_are_not_suspected():
    told = []
    hand = InHand(told.append)
    hand.begin("refine")
    hand.query("image")
    other = threading.Thread(target=hand.keyframe, args=(3,))
    other.start()
    other.join()
    assert told[-1]["keyframes"] == [] and told[-1]["query"] == "image"


def test_the_work_without_progress_for_longest_is_reported():
    hand = InHand(lambda told: None)
    assert hand.still() is None
    hand.begin("refine")
    time.sleep(0.05)
    hand.query("image")
    assert hand.still()["what"] == "refine" and hand.still()["seconds"] >= 0.05
    hand.step("loops")
    time.sleep(0.01)
    assert hand.still()["what"] == "localize"
    hand.query("")
    assert hand.still()["what"] == "loops" and not hand.still()["patient"]
    hand.end()
    hand.begin("load", patient=True)
    assert hand.still()["patient"]
