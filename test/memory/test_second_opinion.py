"""What a second opinion may change: an image not found is looked for again; an answer is refused
only where that was asked for.
"""

import numpy as np
import pytest

from vggt3_ros.geometry import se3
from vggt3_ros.memory.localizer import Localization
from vggt3_ros.memory.second_opinion import reviewed

HERE = se3.exp([1.0, 2.0, 0.0, 0.0, 0.3, 0.0])
FOUND = Localization("ok", "", HERE, np.eye(6), 120, 0.5, 7, 0.2, True)
LOST = Localization("not_localized", "nothing alike", inliers=11, generation=7, seconds=0.4)


def never(*_):
    raise AssertionError("must not be asked")


def test_a_place_that_verification_confirms_is_the_answer():
    asked = []
    answer = reviewed(LOST, "failed", lambda: HERE, lambda pose: asked.append(pose) or FOUND)
    assert answer.code == "ok" and answer.T_map_cam is HERE and asked[0] is HERE
    assert answer.seconds == pytest.approx(0.6)


def test_a_place_that_verification_does_not_confirm_changes_nothing():
    assert reviewed(LOST, "failed", lambda: HERE, lambda pose: LOST) is LOST
    assert reviewed(LOST, "failed", lambda: None, never) is LOST


@pytest.mark.parametrize("policy", ["none", "failed"])
def test_answers_are_not_questioned_unless_asked_for(policy):
    assert reviewed(FOUND, policy, never, never) is FOUND


def test_no_opinion_where_there_is_no_map_no_image_or_no_wish():
    for code in ("no_map", "bad_image"):
        answer = Localization(code, "")
        assert reviewed(answer, "all", never, never) is answer
    assert reviewed(LOST, "none", never, never) is LOST


def test_an_answer_that_the_network_contradicts_is_refused_with_the_reason():
    near, far = HERE @ se3.exp([0.3, 0, 0, 0, 0.1, 0]), HERE @ se3.exp([3.0, 0, 0, 0, 0, 0])
    assert reviewed(FOUND, "all", lambda: near, never) is FOUND
    refused = reviewed(FOUND, "all", lambda: far, never)
    assert (
        refused.code == "not_localized"
        and "3.0 m" in refused.message
        and refused.T_map_cam is None
        and refused.generation == 7
    )
