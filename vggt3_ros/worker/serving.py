"""The worker's reading thread, which passes requests to the threads that serve them."""

import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from vggt3_ros.config import BackendConfig
from vggt3_ros.store.keyframes import KeyframeStore
from vggt3_ros.system import memory_limits, wire
from vggt3_ros.system.memory_use import resident_mb
from vggt3_ros.worker.channel import Channel, log
from vggt3_ros.worker.held import HeldBackend, WorkersBackend
from vggt3_ros.worker.in_hand import InHand
from vggt3_ros.worker.jobs import COMMANDS, Jobs
from vggt3_ros.worker.queries import Queries

ALIVE_SECONDS = 1.0
THREAD_FAILED = 3  # exit status


def serve(
    connection: socket.socket,
    store: KeyframeStore,
    make_backend: Callable[[KeyframeStore, BackendConfig], WorkersBackend],
) -> None:
    """Serve requests until the other side closes the connection. make_backend(store, config) is
    called in the refining thread.
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


def _or_end(name: str, work: Callable[[], object]) -> None:
    """Run a thread's work, and exit the process if it fails: the node then starts another worker,
    rather than waiting for this one for ever.
    """
    try:
        work()
    except BaseException:
        log.exception("the thread %s failed", name)
        os._exit(THREAD_FAILED)


def _dispatch(
    header: dict[str, Any], payload: bytearray, channel: Channel, queries: Queries, jobs: Jobs
) -> None:
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


def _say_alive(channel: Channel, jobs: Jobs, hand: InHand, held: HeldBackend) -> None:
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
