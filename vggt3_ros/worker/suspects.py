"""Inputs suspected of killing the worker: counted in the store, and set aside after three deaths. No
torch, no ROS.
"""

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping
from typing import Any, Protocol, TypedDict

import numpy as np

from vggt3_ros.geometry.camera import Camera
from vggt3_ros.store.database import StoreError
from vggt3_ros.store.keyframes import KeyframeStore
from vggt3_ros.store.suspicion import DEATHS

FATAL = 3  # deaths in a row after which an input is set aside
QUERIES_KEPT = 200


class Logger(Protocol):
    """What the loggers of logging and rclpy have in common."""

    def info(self, message: str, /) -> object: ...
    def warning(self, message: str, /) -> object: ...
    def error(self, message: str, /) -> object: ...


OfKeyframes = dict[str, dict[str, int]]  # {keyframe id: {phase: deaths}}


class Counts(TypedDict):
    """Deaths by keyframe and phase, by digest of an image, and by phase without keyframes."""

    keyframes: OfKeyframes
    queries: dict[str, int]
    phases: dict[str, int]


def digest(image: np.ndarray, camera: Camera) -> str:
    """Return a digest of an image (height, width, 3) uint8 and its camera."""
    return hashlib.blake2b(image.tobytes() + repr(camera).encode(), digest_size=16).hexdigest()


class Suspects:
    """Count what was in hand (see InHand) when the worker died.

    After FATAL deaths in a row an input is set aside: a keyframe is left out of refinements, an
    image is refused, and a phase that died without keyframes in hand is not tried again before
    there are new keyframes. An input that passes the phase it is suspected in is cleared, so that
    kills from outside do not hit the same input three times in a row. The counts are kept in
    `store`, so that they survive a restart of the node.
    """

    def __init__(self, store: KeyframeStore, logger: Logger | None = None) -> None:
        self._store = store
        self._log: Logger = logger or logging.getLogger(__name__)
        self._suspected = set(self._counts()["keyframes"])

    def died(self, hand: Mapping[str, Any], reason: str) -> bool:
        """Note that the worker died with `hand` in hand. Return whether to try the same again."""
        try:
            return self._count(hand, reason)
        except StoreError as error:
            self._log.error(f"the cause of the worker's death cannot be noted: {error}")
            return True

    def _count(self, hand: Mapping[str, Any], reason: str) -> bool:
        counts = self._counts()
        query: str = hand.get("query", "")
        phase: str = hand.get("phase", "")
        keyframes = [str(i) for i in hand.get("keyframes", ())]
        query_is_it = False
        if query:
            counts["queries"][query] = counts["queries"].pop(query, 0) + 1
            query_is_it = counts["queries"][query] == FATAL
            if query_is_it:
                self._log.error(
                    f"an image to localize ({query}) killed the worker {FATAL} times and is refused from now on: {reason}"
                )
        for keyframe in keyframes:
            by_phase = counts["keyframes"].setdefault(keyframe, {})
            by_phase[phase] = by_phase.get(phase, 0) + 1
        hopeless = False
        if phase and not keyframes and not query:
            counts["phases"][phase] = counts["phases"].get(phase, 0) + 1
            hopeless = counts["phases"][phase] >= FATAL
        # if a keyframe and an image were in hand each time, the image is set aside first
        if not query_is_it:
            self._set_aside(counts["keyframes"], keyframes, phase, reason)
        self._store.note(DEATHS, json.dumps(counts))
        self._suspected = set(counts["keyframes"])
        return not hopeless

    def _set_aside(
        self, counts: OfKeyframes, keyframes: list[str], phase: str, reason: str
    ) -> None:
        """Set aside the most suspected of `keyframes` if its deaths reach FATAL; of equally
        suspected ones, the newest.

        Two are in hand when pairs are matched. At first many pairs are matched in parallel, and
        the wrong two may be named; as soon as any is suspected, pairs are matched one by one.
        """
        if not keyframes:
            return
        worst = max(keyframes, key=lambda i: (counts[i][phase], int(i)))
        if counts[worst][phase] >= FATAL:
            text = f"killed the worker {counts.pop(worst)[phase]} times, in {phase}: {reason}"
            self._store.set_aside(int(worst), text)
            self._log.error(
                f"keyframe {self._store.public_ids().get(int(worst), worst)} is set aside: {text}"
            )

    def passed(self, keyframes: Iterable[int], phase: str) -> None:
        """Clear keyframes (ids) of suspicion in a phase that they have passed. Cheap if none is
        suspected.
        """
        hit = self._suspected.intersection(map(str, keyframes))
        if not hit:
            return
        counts = self._counts()["keyframes"]
        kept = {
            i: {name: count for name, count in by_phase.items() if i not in hit or name != phase}
            for i, by_phase in counts.items()
        }
        self._clear(keyframes={i: by_phase for i, by_phase in kept.items() if by_phase})

    def refined(self) -> None:
        """Clear all keyframes and phases: a refinement has succeeded."""
        self._clear(keyframes={}, phases={})

    def answered(self, query: str) -> None:
        """Clear the image with this digest: it was answered."""
        if query in self._counts()["queries"]:
            counts = self._counts()["queries"]
            counts.pop(query)
            self._clear(queries=counts)

    def refuses(self, query: str) -> bool:
        """Tell whether the image with this digest is set aside."""
        return self._counts()["queries"].get(query, 0) >= FATAL

    def _clear(
        self,
        keyframes: OfKeyframes | None = None,
        queries: dict[str, int] | None = None,
        phases: dict[str, int] | None = None,
    ) -> None:
        """Replace the counts of each kind that is given."""
        before = self._counts()
        counts: Counts = {
            "keyframes": before["keyframes"] if keyframes is None else keyframes,
            "queries": before["queries"] if queries is None else queries,
            "phases": before["phases"] if phases is None else phases,
        }
        if counts == before:
            return
        try:
            self._store.note(DEATHS, json.dumps(counts))
            self._suspected = set(counts["keyframes"])
        except StoreError as error:
            self._log.error(f"a cleared suspicion cannot be noted: {error}")

    def _counts(self) -> Counts:
        noted = json.loads(self._store.get_note(DEATHS) or "{}")
        return {
            # older versions counted keyframes without their phase
            "keyframes": {
                i: by_phase
                for i, by_phase in noted.get("keyframes", {}).items()
                if isinstance(by_phase, dict)
            },
            "queries": dict(list(noted.get("queries", {}).items())[-QUERIES_KEPT:]),
            "phases": noted.get("phases", {}),
        }
