"""The worker's localizing thread, and how work of the refining one steps aside for it."""

import queue
import threading
import time

import numpy as np

from vggt3_ros.geometry.camera import Camera

LONGEST_PAUSE_SECONDS = 0.5
WAITING_LOCALIZATIONS = 8


class Queries:
    """Answers localize requests in the order they came. channel: Channel; held: HeldBackend; hand:
    InHand.
    """

    def __init__(self, channel, held, hand):
        self._channel, self._held, self._hand = channel, held, hand
        self._requests = queue.Queue(WAITING_LOCALIZATIONS)
        self._none_in_hand, self._no_pause_before = threading.Event(), 0.0
        self._none_in_hand.set()

    def put(self, number, header, payload):
        try:
            self._requests.put_nowait((number, header, payload))
        except queue.Full:
            self._channel.error(
                number, "busy", f"{WAITING_LOCALIZATIONS} localizations are waiting already"
            )

    def work(self):
        while True:
            number, header, payload = self._requests.get()
            self._held.wait()
            self._none_in_hand.clear()
            self._hand.query(str(header.get("digest", "?")))
            self._channel.answer(number, self._localize, header, payload)
            self._hand.query("")
            self._none_in_hand.set()

    def give_way(self):
        """In another thread, between two small steps of its work: pause while an image is
        localized. A library that holds the interpreter (as fusion does) would make it wait for
        every one of its operations. At most half of the time, so that a refinement always ends.
        """
        begin = time.monotonic()
        if begin >= self._no_pause_before and not self._none_in_hand.is_set():
            self._none_in_hand.wait(LONGEST_PAUSE_SECONDS)
            end = time.monotonic()
            self._no_pause_before = end + (end - begin)

    def _localize(self, header, payload):
        backend, camera = self._held.get(), Camera(**header["camera"])
        image = np.frombuffer(payload, np.uint8).reshape(camera.height, camera.width, 3)
        hint = (
            None if header.get("hint") is None else np.array(header["hint"], float).reshape(4, 4)
        )
        found = backend.localize(image, camera, hint=hint, verify=bool(header.get("verify", True)))
        return {
            "code": found.code,
            "message": found.message,
            "inliers": int(found.inliers),
            "generation": int(found.generation),
            "T_map_cam": None if found.T_map_cam is None else np.ravel(found.T_map_cam).tolist(),
            "covariance": None
            if found.covariance is None
            else np.ravel(found.covariance).tolist(),
            "reprojection_error_px": float(found.reprojection_error_px),
            "seconds": float(found.seconds),
        }
