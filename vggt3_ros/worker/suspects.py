"""Inputs that end the worker: counted in the store, and set aside when it has happened three
times. No torch, no ROS.
"""

import hashlib
import json
import logging

from vggt3_ros.store.database import StoreError
from vggt3_ros.store.suspicion import DEATHS

FATAL = 3
QUERIES_KEPT = 200


def digest(image, camera):
    """Of an image (height, width, 3) uint8 and its Camera: the same for the same question."""
    return hashlib.blake2b(image.tobytes() + repr(camera).encode(), digest_size=16).hexdigest()


class Suspects:
    """Kept in `store` (KeyframeStore), so that a restart of the node forgets nothing. What was in
    hand (InHand) when the worker died is under suspicion; after FATAL deaths in a row it is set
    aside: a keyframe takes no part in refinements, an image is not asked about, and a phase that
    no keyframe was in hand in waits for new keyframes. What passes the phase that it is suspected
    in is cleared, so that kills from outside, however many, hit nobody three times in a row.
    """

    def __init__(self, store, logger=None):
        self._store, self._log = store, logger or logging.getLogger(__name__)
        self._suspected = set(self._counts()["keyframes"])

    def died(self, hand, reason):
        """The worker died with this in hand. Returns whether trying the same again is of use."""
        try:
            return self._count(hand, reason)
        except StoreError as error:
            self._log.error(f"what ended the worker is not noted: {error}")
            return True

    def _count(self, hand, reason):
        counts = self._counts()
        query, keyframes, phase = (
            hand.get("query"),
            [str(i) for i in hand.get("keyframes", ())],
            hand.get("phase"),
        )
        query_is_it = False
        if query:
            counts["queries"][query] = counts["queries"].pop(query, 0) + 1
            query_is_it = counts["queries"][query] == FATAL
            if query_is_it:
                self._log.error(
                    f"an image to localize ({query}) ended the worker {FATAL} times and is not asked about again: {reason}"
                )
        for keyframe in keyframes:
            of_it = counts["keyframes"].setdefault(keyframe, {})
            of_it[phase] = of_it.get(phase, 0) + 1
        hopeless = False
        if phase and not keyframes and not query:
            counts["phases"][phase] = counts["phases"].get(phase, 0) + 1
            hopeless = counts["phases"][phase] >= FATAL
        # of a keyframe and an image that were both there each time, the image goes first
        if not query_is_it:
            self._set_aside(counts["keyframes"], keyframes, phase, reason)
        self._store.note(DEATHS, json.dumps(counts))
        self._suspected = set(counts["keyframes"])
        return not hopeless

    def _set_aside(self, counts, keyframes, phase, reason):
        """The one of `keyframes` under the gravest suspicion, the newest of those alike: two are
        in hand where pairs are matched. At first many pairs are matched at once, and the wrong two
        may be named; once any is suspected, one pair at a time.
        """
        worst = max(keyframes, key=lambda i: (counts[i][phase], int(i)), default=None)
        if worst is not None and counts[worst][phase] >= FATAL:
            text = f"ended the worker {counts.pop(worst)[phase]} times, in {phase}: {reason}"
            self._store.set_aside(int(worst), text)
            self._log.error(
                f"keyframe {self._store.public_ids().get(int(worst), worst)} is set aside: {text}"
            )

    def passed(self, keyframes, phase):
        """Work on keyframes (ids) in a phase has ended without a death: of those in that phase
        they are cleared. Cheap where none is suspected.
        """
        hit = self._suspected.intersection(map(str, keyframes))
        if not hit:
            return
        counts = self._counts()["keyframes"]
        kept = {
            i: {name: count for name, count in of_it.items() if i not in hit or name != phase}
            for i, of_it in counts.items()
        }
        self._forgive(keyframes={i: of_it for i, of_it in kept.items() if of_it})

    def refined(self):
        """A refinement passed: every keyframe in it, and every phase, is cleared."""
        self._forgive(keyframes={}, phases={})

    def answered(self, query):
        """An image was answered: it is cleared."""
        if query in self._counts()["queries"]:
            counts = self._counts()["queries"]
            counts.pop(query)
            self._forgive(queries=counts)

    def refuses(self, query):
        """Whether the image with this digest is set aside."""
        return self._counts()["queries"].get(query, 0) >= FATAL

    def _forgive(self, **values):
        counts = self._counts()
        if any(counts[kind] != value for kind, value in values.items()):
            try:
                self._store.note(DEATHS, json.dumps({**counts, **values}))
                self._suspected = set({**counts, **values}["keyframes"])
            except StoreError as error:
                self._log.error(f"a cleared suspicion is not noted: {error}")

    def _counts(self):
        counts = {
            "keyframes": {},
            "queries": {},
            "phases": {},
            **json.loads(self._store.get_note(DEATHS) or "{}"),
        }
        # earlier ones had no phase
        counts["keyframes"] = {
            i: of_it for i, of_it in counts["keyframes"].items() if isinstance(of_it, dict)
        }
        counts["queries"] = dict(list(counts["queries"].items())[-QUERIES_KEPT:])
        return counts
