"""The process that owns torch and the device: `python -m vggt3_ros.worker --store FOLDER --channel
FD`.

The node starts it and talks to it over an inherited socket (system/wire.py). It ends when the node
does. Threads: serving.py reads requests and says that it is alive, jobs.py refines (at a lower
priority, and distils when idle), queries.py localizes; held.py is the back end that both use,
channel.py the way back. client.py is the node's end, which starts a worker again when it dies;
in_hand.py notes what it works on, suspects.py what was in hand when it died.

Requests {"request": number, "command": name, ...}:
    configure  config: BackendConfig values by flat name; distil_seconds: idle time spent on the
    memory of one refinement; shrink: how
               often the plan was shrunk for want of memory
    refine     answered by progress frames, then result or error cancel     target: number of the
    refine request session    the front end started anew: what it sends from now on is tied to the
    map where it is found in it reset      forgets the store's keyframes and snapshots load
    folder of a saved map, merge: bool; see refinement/merging.py localize   camera, hint (16
    numbers or null), verify, digest (of the image); payload: RGB bytes
Answers {"request": number, "event": "result" | "progress" | "error", ...}; unasked: alive (each
second, with what has not got on and for how long), hand (what is worked on: InHand), shrink
(memory ran out), snapshot.
"""
