"""The worker's localizing thread, and how the refining thread yields to it."""

import queue
import threading
import time
from typing import Any

import numpy as np

from vggt3_ros.geometry.camera import Camera
from vggt3_ros.worker.channel import Channel
from vggt3_ros.worker.held import HeldBackend
from vggt3_ros.worker.in_hand import InHand

LONGEST_PAUSE_SECONDS = 0.5
WAITING_LOCALIZATIONS = 8


class Queries:
    """Answer localize requests in the order of their arrival."""

    def __init__(self, channel: Channel, held: HeldBackend, hand: InHand) -> None:
        self._channel, self._held, self._hand = channel, held, hand
        self._requests: queue.Queue[tuple[int | None, dict[str, Any], bytes | bytearray]] = (
            queue.Queue(WAITING_LOCALIZATIONS)
        )
        self._none_in_hand, self._no_pause_before = threading.Event(), 0.0
        self._none_in_hand.set()

    def put(self, number: int | None, header: dict[str, Any], payload: bytes | bytearray) -> None:
        """Queue a request, or answer "busy" if WAITING_LOCALIZATIONS already wait."""
        try:
            self._requests.put_nowait((number, header, payload))
        except queue.Full:
            self._channel.error(
                number, "busy", f"{WAITING_LOCALIZATIONS} localizations are already waiting"
            )

    def work(self) -> None:
        """Answer requests for ever, in the calling thread."""
        while True:
            number, header, payload = self._requests.get()
            self._held.wait()
            self._none_in_hand.clear()
            self._hand.query(str(header.get("digest", "?")))
            self._channel.answer(number, self._localize, header, payload)
            self._hand.query("")
            self._none_in_hand.set()

    def give_way(self) -> None:
        """Pause the calling thread while an image is localized. The refining thread calls this
        between two small steps.

        Libraries that hold the interpreter lock, such as those used for fusion, would otherwise
        delay every operation of the localization. At most half of the time is spent in pauses, so
        that a refinement always ends.
        """
        begin = time.monotonic()
        if begin >= self._no_pause_before and not self._none_in_hand.is_set():
            self._none_in_hand.wait(LONGEST_PAUSE_SECONDS)
            end = time.monotonic()
            self._no_pause_before = end + (end - begin)

    def _localize(self, header: dict[str, Any], payload: bytes | bytearray) -> dict[str, Any]:
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
