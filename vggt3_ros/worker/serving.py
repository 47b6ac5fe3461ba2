"""The worker's reading thread: requests go to the thread that serves them, one after the other."""

import os
import threading
import time

from vggt3_ros.system import memory_limits, wire
from vggt3_ros.system.memory_use import resident_mb
from vggt3_ros.worker.channel import Channel, log
from vggt3_ros.worker.held import HeldBackend
from vggt3_ros.worker.in_hand import InHand
from vggt3_ros.worker.jobs import COMMANDS, Jobs
from vggt3_ros.worker.queries import Queries

ALIVE_SECONDS = 1.0
THREAD_FAILED = 3  # exit status


def serve(connection, store, make_backend):
    """Until the other side closes the connection. make_backend(store, config) is called in the
    refining thread.
    """
    channel = Channel(connection)
    hand = InHand(lambda hand: channel.send(None, "hand", hand=hand))
    held = HeldBackend(
        store,
        make_backend,
        lambda backend: setattr(backend, "touched", hand.keyframe),
        lambda level, message: channel.send(None, "shrink", level=level, message=message),
    )
    queries = Queries(channel, held, hand)
    jobs = Jobs(channel, store, held, hand, queries.give_way)
    for name, work in (
        ("jobs", jobs.work),
        ("queries", queries.work),
        ("alive", lambda: _say_alive(channel, jobs, hand, held)),
    ):
        threading.Thread(target=_or_end, args=(name, work), daemon=True, name=name).start()
    while True:
        try:
            header, payload = wire.receive(connection)
        except (EOFError, ConnectionError):
            return
        _dispatch(header, payload, channel, queries, jobs)


def _or_end(name, work):
    """A thread that fails takes the process with it: the node starts another, where it would wait
    for this one for ever.
    """
    try:
        work()
    except BaseException:
        log.exception("the thread %s failed", name)
        os._exit(THREAD_FAILED)


def _dispatch(header, payload, channel, queries, jobs):
    number, command = header.get("request"), header.get("command")
    if command == "localize":
        queries.put(number, header, payload)
    elif command in COMMANDS:
        jobs.put(number, header)
    elif command == "cancel":
        jobs.cancel(header.get("target"))
        channel.send(number, "result")
    else:
        channel.error(number, "invalid", f"unknown command {command!r}")


def _say_alive(channel, jobs, hand, held):
    while True:
        jobs.used_mb = resident_mb()
        channel.send(
            None,
            "alive",
            memory_mb=jobs.used_mb,
            device_mb=memory_limits.device_mb(),
            still=hand.still(),
            running_on=held.running_on,
        )
        time.sleep(ALIVE_SECONDS)
