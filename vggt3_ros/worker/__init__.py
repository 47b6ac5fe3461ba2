"""The process that owns torch and the device: `python -m vggt3_ros.worker --store FOLDER --channel
FD`.

The node starts it and talks to it over an inherited socket (system/wire.py). It ends when the node
does. client.py is the node's end, which restarts a worker that has died; suspects.py counts what
was in hand at a death. In the worker, serving.py reads requests and sends signs of life, jobs.py
refines (at a lower priority, and distils when idle), queries.py localizes. held.py holds the back
end that both use, channel.py sends to the node, and in_hand.py notes what is being worked on.

Requests: {"request": number, "command": name, ...}

    configure   config: BackendConfig values by flat name; distil_seconds: idle time spent on the
                scene memory after a refinement; shrink: how often the plan was shrunk because
                memory ran out
    refine      answered by progress, then result or error
    cancel      target: number of the refine request
    session     the front end was restarted: its new keyframes are a session of their own, which
                is tied to the map where it is recognised
    reset       deletes keyframes and snapshots
    load        folder of a saved map, merge: bool; see refinement/merging.py
    localize    camera, hint (16 numbers or null), verify, digest (of the image); payload: RGB bytes

Answers: {"request": number, "event": "result" | "progress" | "error", ...}. Unrequested: alive
(every second, with what has made no progress and for how long), hand (what is being worked on, see
InHand), shrink (memory ran out), snapshot (one was published).
"""
