"""Localize requests: answered in order, refused when too many wait; other work pauses for them,
but not for long.
"""

import threading
import time
from dataclasses import asdict
from types import SimpleNamespace

import numpy as np
import pytest
from random_keyframes import CAMERA
from worker_pipe import Pipe

from vggt3_ros.geometry import se3
from vggt3_ros.worker.held import HeldBackend
from vggt3_ros.worker.in_hand import InHand
from vggt3_ros.worker.queries import LONGEST_PAUSE_SECONDS, WAITING_LOCALIZATIONS, Queries

IMAGE = np.arange(CAMERA.height * CAMERA.width * 3, dtype=np.uint32).astype(np.uint8)
IMAGE = IMAGE.reshape(CAMERA.height, CAMERA.width, 3)


class Backend:
    """Answers with the hint it gets, after `wait` is set."""

    snapshot, running_on = None, ""

    def __init__(self):
        self.wait, self.asked, self.begun = threading.Event(), [], threading.Event()
        self.wait.set()

    def localize(self, image, camera, hint, verify):
        self.asked.append((image, camera, hint, verify))
        self.begun.set()
        assert self.wait.wait(60)
        return SimpleNamespace(
            code="ok",
            message="",
            inliers=np.int64(50),
            generation=3,
            T_map_cam=hint,
            covariance=None,
            reprojection_error_px=np.float32(0.5),
            seconds=0.1,
        )


@pytest.fixture
def setup():
    """queries whose thread has not been started; backend; what was noted as in hand; the pipe."""
    pipe, backend, noted = Pipe(), Backend(), []
    held = HeldBackend(None, lambda store, config: backend, lambda b: None, lambda *told: None)
    queries = Queries(pipe.channel, held, InHand(lambda hand: noted.append(hand["query"])))
    yield SimpleNamespace(
        queries=queries,
        backend=backend,
        noted=noted,
        pipe=pipe,
        configure=lambda: held.replace(),
        start=lambda: threading.Thread(target=queries.work, daemon=True).start(),
    )
    backend.wait.set()


def header(digest="a", hint=None, verify=True):
    return {"camera": asdict(CAMERA), "hint": hint, "verify": verify, "digest": digest}


def test_image_camera_and_hint_reach_the_back_end_and_its_answer_the_node(setup):
    setup.configure()
    setup.start()
    pose = se3.exp([1, 2, 3, 0.1, 0.2, 0.3])
    setup.queries.put(7, header(hint=pose.ravel().tolist(), verify=False), IMAGE.tobytes())
    answer, _ = setup.pipe.answer(7)
    ((image, camera, hint, verify),) = setup.backend.asked
    np.testing.assert_array_equal(image, IMAGE)
    assert camera == CAMERA and verify is False
    np.testing.assert_allclose(hint, pose)
    np.testing.assert_allclose(np.reshape(answer["T_map_cam"], (4, 4)), pose)
    assert answer["inliers"] == 50 and answer["covariance"] is None
    assert answer["reprojection_error_px"] == 0.5


def test_an_image_of_another_size_is_an_error_and_the_next_is_answered(setup):
    setup.configure()
    setup.start()
    setup.queries.put(1, header(), IMAGE.tobytes()[:-3])
    setup.queries.put(2, header(), IMAGE.tobytes())
    assert setup.pipe.answer(1)[0]["code"] == "invalid"
    assert setup.pipe.answer(2)[0]["event"] == "result"


def test_requests_wait_for_a_back_end_in_order_and_too_many_are_refused(setup):
    for number in range(WAITING_LOCALIZATIONS + 2):
        setup.queries.put(number, header(str(number)), IMAGE.tobytes())
    for number in (WAITING_LOCALIZATIONS, WAITING_LOCALIZATIONS + 1):
        answer, before = setup.pipe.answer(number)
        assert answer["code"] == "busy" and not before
    setup.start()
    setup.configure()
    for number in range(WAITING_LOCALIZATIONS):
        assert setup.pipe.answer(number)[0]["event"] == "result"
    digests = [digest for digest in setup.noted if digest]
    assert digests == [str(number) for number in range(WAITING_LOCALIZATIONS)]


def test_other_work_pauses_while_an_image_is_localized(setup):
    setup.configure()
    setup.start()
    setup.backend.wait.clear()
    begin = time.monotonic()
    setup.queries.give_way()
    assert time.monotonic() - begin < LONGEST_PAUSE_SECONDS / 2  # nothing to wait for
    setup.queries.put(1, header(), IMAGE.tobytes())
    assert setup.backend.begun.wait(60)
    threading.Timer(0.1, setup.backend.wait.set).start()
    begin = time.monotonic()
    setup.queries.give_way()
    assert time.monotonic() - begin > 0.05
    assert setup.pipe.answer(1)[0]["event"] == "result"


def test_pauses_are_short_and_take_at_most_half_of_the_time(setup):
    setup.configure()
    setup.start()
    setup.backend.wait.clear()
    setup.queries.put(1, header(), IMAGE.tobytes())  # never answered meanwhile
    assert setup.backend.begun.wait(60)
    begin = time.monotonic()
    setup.queries.give_way()
    paused = time.monotonic() - begin
    assert paused >= LONGEST_PAUSE_SECONDS
    working = time.monotonic()
    while time.monotonic() - working < 0.6 * paused:
        before = time.monotonic()
        setup.queries.give_way()
        assert time.monotonic() - before < LONGEST_PAUSE_SECONDS / 2
        time.sleep(0.01)
    time.sleep(0.5 * paused)
    before = time.monotonic()
    setup.queries.give_way()
    assert time.monotonic() - before >= LONGEST_PAUSE_SECONDS
