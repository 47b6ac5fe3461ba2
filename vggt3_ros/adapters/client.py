"""The back end's side of an adapter: start its process, send requests, and end it when it hangs.
vggt3_ros/adapters/__init__.py describes the protocol.
"""

import functools
import logging
import os
import re
import select
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from vggt3_ros.adapters import host, wire
from vggt3_ros.adapters.contract import POSES, About, Seen, View
from vggt3_ros.system.environment import foreign_environment
from vggt3_ros.system.program import Program
from vggt3_ros.system.wire import FrameError, receive, send

POLL_SECONDS = 0.1
EXIT_SECONDS = 2.0  # time to exit by itself after its socket is closed
HOPELESS = 3  # consecutive failures after which it is not restarted
MAX_ANSWER = 16 * wire.MAX_PIXELS  # bytes of a view's dense output: points and confidence
MAX_FAILURE = 500  # characters kept of its error message
# progress of a request once all views are sent, and once the network has finished
SHARE_SENT, SHARE_RUN = 0.1, 0.9
_CLASS = re.compile(r"[^\s:]+:[A-Za-z_]\w*")
_OF_THIS_PYTHON = ("PYTHONPATH", "PYTHONHOME")
_EXHAUSTED = ("out of memory", "MemoryError")

log = logging.getLogger(__name__)


class AdapterError(RuntimeError):
    """The adapter cannot be used or did not answer. The message names it and the reason."""


@dataclass(frozen=True, eq=False)
class Answered:
    """An adapter's answer for N views. seen: a Seen per view; poses: the direction of their poses,
    one of contract.POSES; metric: the network claims metres.
    """

    seen: list[Seen]
    poses: str
    metric: bool


class AdapterProcess:
    """One process that runs `adapter`: module:Class or file.py:Class in the interpreter `python`
    (empty: this one), or otherwise a command.

    weights, device, dtype are passed to the class, and to a command in its environment. A process
    that sends nothing for silent_seconds is ended. The process starts with the first request or
    with start(), and again after it has ended. It ends with close(), or when this object is
    garbage-collected. Raise ValueError if the program does not exist.
    """

    def __init__(
        self,
        adapter: str,
        python: str = "",
        weights: str = "",
        device: str = "auto",
        dtype: str = "auto",
        silent_seconds: float = 600.0,
    ):
        self.adapter, self.silent_seconds = adapter, silent_seconds
        self.about: About | None = None  # None until it has connected
        self._settings = {"weights": weights, "device": device, "dtype": dtype}
        self._python, self._is_class = python, _CLASS.fullmatch(adapter) is not None
        program = (python or sys.executable) if self._is_class else next(iter(_words(adapter)), "")
        if shutil.which(os.path.expanduser(program)) is None:
            raise ValueError(
                f"cannot start the adapter '{adapter}': program '{program}' not found"
            )
        self._using = threading.Lock()
        self._number, self._running, self._failures = 0, False, 0
        self._program: Program | None = None
        self._listener: socket.socket | None = None
        self._connection: socket.socket | None = None

    @property
    def pid(self) -> int | None:
        """Process id; None while no process runs."""
        return None if self._program is None else self._program.pid

    def start(self) -> None:
        """Start the process unless it runs, so that it loads its network before the first request.

        Raise AdapterError after HOPELESS consecutive failures.
        """
        if self.pid is not None:
            return
        self.close()
        if self._failures >= HOPELESS:
            raise AdapterError(f"the adapter '{self.adapter}' failed {HOPELESS} times in a row and will not be restarted: change a parameter "
                               "of network.*, or restart the node")  # fmt: skip
        self._folder = tempfile.mkdtemp(prefix="vggt3_adapter_")  # readable by this user only
        path = str(Path(self._folder) / "socket")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen(1)
        self._sockets = [self._listener]
        self._program = Program(
            self._command(path),
            own_session=True,
            patience=EXIT_SECONDS,
            env=self._environment(path),
            release=functools.partial(_release, self._folder, self._sockets),
            stdin=subprocess.DEVNULL,
        )

    def close(self) -> None:
        """End the process."""
        if self._program is not None:
            self._program.close()
        self._program = self._listener = self._connection = self.about = None
        self._running = False

    def __call__(
        self, views: Iterator[View], count: int, step: Callable[[float], None]
    ) -> Answered:
        """Send `count` views and return the answer. step(fraction) is called periodically; an
        exception it raises propagates, and the request is abandoned.

        Raise AdapterError. The process is then ended, unless it reported the failure itself.
        """
        with self._using, self._failures_named("neither read nor sent anything"):
            answered = self._ask(views, count, step)
            self._failures = 0
            return answered

    def ready(self, step: Callable[[float], None]) -> About:
        """Start the process unless it runs, and wait until it has identified itself. Errors are as
        for a request.
        """
        with self._using, self._failures_named("did not connect or identify itself"):
            return self._connect(step)[1]

    @contextmanager
    def _failures_named(self, silence: str) -> Iterator[None]:
        """Convert failures of the connection to AdapterError. silence: what a hanging process
        failed to do, in words.
        """
        try:
            yield
        except (FrameError, wire.WireError) as error:
            raise self._failed(
                f"the adapter '{self.adapter}' sent an invalid frame: {error}"
            ) from error
        except TimeoutError as error:
            raise self._failed(
                f"the adapter '{self.adapter}' {silence} for {self.silent_seconds:g} s and was ended"
            ) from error
        except (EOFError, OSError) as error:
            raise self._failed(self._how_it_ended()) from error

    def _ask(self, views: Iterator[View], count: int, step: Callable[[float], None]) -> Answered:
        """Send one request and collect its answer."""
        self._connect(step)
        while self._running:  # drain an abandoned request
            self._note(self._receive(lambda: step(0.0))[0])
        self._number += 1
        self._send({"begin": self._number, "views": count})
        for index, view in enumerate(views):
            step(SHARE_SENT * index / count)
            self._send(*wire.packed_view(self._number, view))
        self._send({"run": self._number})
        self._running = True
        seen: dict[int, Seen] = {}
        fraction = SHARE_SENT
        while True:
            header, payload = self._receive(partial(step, fraction))
            self._note(header)
            if header.get("progress") == self._number:
                fraction = SHARE_SENT + (SHARE_RUN - SHARE_SENT) * wire.fraction(
                    header.get("fraction")
                )
            elif header.get("seen") == self._number:
                index, one = wire.unpacked_seen(header, payload)
                if index >= count:
                    raise wire.WireError(f"it answered view {index}, but there are {count}")
                seen[index] = one
                fraction = SHARE_RUN + (1 - SHARE_RUN) * len(seen) / count
            elif header.get("done") == self._number:
                if len(seen) != count or str(header.get("poses")) not in POSES:
                    raise wire.WireError(
                        f"it answered {len(seen)} of {count} views, with poses {str(header.get('poses'))[:40]}"
                    )
                return Answered(
                    [seen[index] for index in range(count)],
                    str(header["poses"]),
                    bool(header.get("metric")),
                )

    def _note(self, header: Mapping[str, object]) -> None:
        """Track whether a request is running. Raise AdapterError if the process reports its
        failure.
        """
        if "failed" in header:
            self._running, text = False, str(header["failed"])[:MAX_FAILURE]
            if header.get("request", self._number) != self._number:
                return  # of an abandoned request
            self._failures += 1
            if self.about is None:
                self.close()  # it failed to start and is exiting
            hint = (
                "; lower network.max_keyframes or network.image_side"
                if any(sign in text for sign in _EXHAUSTED)
                else ""
            )
            raise AdapterError(f"the adapter '{self.adapter}' failed: {text}{hint}")
        if "done" in header:
            self._running = False

    def _connect(self, step: Callable[[float], None]) -> tuple[socket.socket, About]:
        """Start the process unless it runs, and return its connection and what it declares."""
        self.start()
        if self._connection is None:
            listener = _open(self._listener)
            self._wait(listener, lambda: step(0.0))
            self._connection, _ = listener.accept()
            self._sockets.append(self._connection)
            # No other process may connect, and nothing must be left if this process is killed.
            shutil.rmtree(self._folder, ignore_errors=True)
        if self.about is None:
            header, _ = self._receive(lambda: step(0.0))
            self._note(header)
            self.about = wire.about(header)
            log.info("network: %s, %s (%s), on %s, %s", self.about.name, self.about.weights, self.about.licence, self.about.device,
                     self.about.dtype)  # fmt: skip
        return self._connection, self.about

    def _send(self, header: dict[str, Any], payload: bytes = b"") -> None:
        connection = _open(self._connection)
        try:
            connection.settimeout(self.silent_seconds)
            send(connection, header, payload)
        except (EOFError, ConnectionError, TimeoutError):
            raise
        except BaseException:
            self.close()  # a partial frame may have been sent: the stream is no longer in step
            raise

    def _receive(self, waiting: Callable[[], None]) -> tuple[dict[str, Any], bytearray]:
        connection = _open(self._connection)
        self._wait(connection, waiting)
        connection.settimeout(self.silent_seconds)
        header, payload = receive(connection, MAX_ANSWER)
        return header, payload

    def _wait(self, what: socket.socket, waiting: Callable[[], None]) -> None:
        """Wait until there is something to read; call waiting() periodically. Raise EOFError when
        the process has ended, TimeoutError after silent_seconds.
        """
        waiting()
        since = time.monotonic()
        while not select.select([what], [], [], POLL_SECONDS)[0]:
            waiting()
            if self.pid is None and not select.select([what], [], [], 0)[0]:
                raise EOFError("the process has ended")
            if time.monotonic() - since > self.silent_seconds:
                raise TimeoutError

    def _failed(self, text: str) -> AdapterError:
        self._failures += 1
        self.close()
        return AdapterError(text)

    def _how_it_ended(self) -> str:
        """Return its last error message, or its exit status."""
        try:
            if self._connection is not None:
                self._connection.settimeout(EXIT_SECONDS)
                while "failed" not in (header := receive(self._connection, MAX_ANSWER)[0]):
                    pass
                return (
                    f"the adapter '{self.adapter}' failed: {str(header['failed'])[:MAX_FAILURE]}"
                )
        except (EOFError, OSError, FrameError):
            pass
        if self._program is None or not self._program.ends_within(EXIT_SECONDS):
            return f"the adapter '{self.adapter}' closed its socket"
        return f"the process of the adapter '{self.adapter}' ended ({self._program.end})"

    def _command(self, path: str) -> list[str]:
        if not self._is_class:
            return [word.replace("{socket}", path) for word in _words(self.adapter)]
        options = [
            option for name, value in self._settings.items() for option in (f"--{name}", value)
        ]
        python = os.path.expanduser(self._python) or sys.executable
        return [
            python,
            host.__file__,
            "--adapter",
            self.adapter,
            "--socket",
            path,
            "--parent",
            str(os.getpid()),
            *options,
        ]

    def _environment(self, path: str) -> dict[str, str]:
        left_out = _OF_THIS_PYTHON if self._python or not self._is_class else ()
        kept = {
            name: value for name, value in foreign_environment().items() if name not in left_out
        }
        return (
            kept
            | {"VGGT3_ADAPTER_SOCKET": path}
            | {f"VGGT3_ADAPTER_{name.upper()}": value for name, value in self._settings.items()}
        )


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError as error:
        raise ValueError(f"network.adapter '{command}' is not a valid command: {error}") from error


def _open(one: socket.socket | None) -> socket.socket:
    if one is None:
        raise EOFError("the process has no connection")
    return one


def _release(folder: str, sockets: list[socket.socket]) -> None:
    for one in sockets:
        one.close()
    shutil.rmtree(folder, ignore_errors=True)


@functools.lru_cache(maxsize=1)
def adapter_process(
    adapter: str,
    python: str = "",
    weights: str = "",
    device: str = "auto",
    dtype: str = "auto",
    silent_seconds: float = 600.0,
) -> AdapterProcess:
    """Return the process for these arguments of AdapterProcess. The last one is cached: a changed
    parameter makes a new back end, not a new process.
    """
    return AdapterProcess(adapter, python, weights, device, dtype, silent_seconds)
