"""Whether a keyframe is suspected of killing the worker: a note in the store, written by
worker/suspects.py.
"""

import json

from vggt3_ros.store.keyframes import KeyframeStore

# note in the store: {"keyframes": {id: {phase: count}}, "queries": {digest: count}, "phases":
# {phase: count}}
DEATHS = "worker_deaths"


def any_suspected(store: KeyframeStore) -> bool:
    """Tell whether keyframes are suspected. If so, work on one keyframe at a time, so that the next
    death shows which one is the cause.
    """
    return bool(json.loads(store.get_note(DEATHS) or "{}").get("keyframes"))
