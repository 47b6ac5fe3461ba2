"""Whether a keyframe is under suspicion of ending the worker: a note in the store, which
worker/suspects.py keeps.
"""

import json

# note in the store: {"keyframes": {id: {phase: count}}, "queries": {digest: count}, "phases":
# {phase: count}}
DEATHS = "worker_deaths"


def any_suspected(store):
    """Whether a keyframe was in hand when the worker died of late: then work on one at a time
    tells which of them it is.
    """
    return bool(json.loads(store.get_note(DEATHS) or "{}").get("keyframes"))
