"""The back end's end of an adapter: starts its process, asks it, ends it when it hangs. The
protocol is that of vggt3_ros/adapters.
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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vggt3_ros.adapters import host, wire
from vggt3_ros.adapters.contract import POSES, About, Seen, View
from vggt3_ros.system.environment import foreign_environment
from vggt3_ros.system.program import Program
from vggt3_ros.system.wire import FrameError, receive, send

POLL_SECONDS = 0.1
EXIT_SECONDS = 2.0  # for it to end by itself once its socket is closed
HOPELESS = 3  # failures in a row after which it is not asked again
MAX_ANSWER = 16 * wire.MAX_PIXELS  # bytes of one view's dense output: points and confidence
MAX_FAILURE = 500  # characters of what it says of a failure
# of the progress of a request: when all views are sent, when the network is through
SHARE_SENT, SHARE_RUN = 0.1, 0.9
_CLASS = re.compile(r"[^\s:]+:[A-Za-z_]\w*")
_OF_THIS_PYTHON = ("PYTHONPATH", "PYTHONHOME")
_EXHAUSTED = ("out of memory", "MemoryError")

log = logging.getLogger(__name__)


class AdapterError(RuntimeError):
    """The adapter cannot be asked, or did not answer; the message says which, how and why."""


@dataclass(frozen=True, eq=False)
class Answered:
    """What an adapter made of N views: seen, a Seen of each; poses: of contract.POSES, what their
    poses are; metric: it claims metres.
    """

    seen: list[Seen]
    poses: str
    metric: bool


class AdapterProcess:
    """One process for `adapter`: module:Class or file.py:Class in the interpreter `python` (empty:
    this one), or else a command.

    weights, device, dtype: handed to the class, and to a command in the environment.
    silent_seconds: without a sign of life for so long it is ended. It starts with the first
    request, or with start(), and again after it ended; it ends with close(), or when this is
    forgotten. Raises ValueError where the program cannot be there.
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
        self.about: About | None = None  # once it has said so
        self._settings = {"weights": weights, "device": device, "dtype": dtype}
        self._python, self._is_class = python, _CLASS.fullmatch(adapter) is not None
        program = (python or sys.executable) if self._is_class else next(iter(_words(adapter)), "")
        if shutil.which(os.path.expanduser(program)) is None:
            raise ValueError(
                f"the adapter '{adapter}' cannot be started: there is no program '{program}'"
            )
        self._using = threading.Lock()
        self._number, self._running, self._failures = 0, False, 0
        self._program = self._listener = self._connection = None

    @property
    def pid(self) -> int | None:
        """Of the process, None while there is none."""
        return None if self._program is None else self._program.pid

    def start(self) -> None:
        """Start the process where none runs; it loads its network while nobody waits. Raises
        AdapterError where that is hopeless.
        """
        if self.pid is not None:
            return
        self.close()
        if self._failures >= HOPELESS:
            raise AdapterError(f"the adapter '{self.adapter}' failed {HOPELESS} times in a row and is not started again: change a parameter "
                               "of network.*, or start anew")  # fmt: skip
        self._folder = tempfile.mkdtemp(prefix="vggt3_adapter_")  # of this user alone
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
        """Ask about `count` views. step(fraction) is called now and then; what it raises passes,
        and the request is given up.

        Raises AdapterError; the process is ended then, unless it said itself that it failed.
        """
        with self._using, self._failures_named("took or sent nothing"):
            answered = self._ask(views, count, step)
            self._failures = 0
            return answered

    def ready(self, step: Callable[[float], None]) -> About:
        """Start it where it does not run, and wait until it says what it is. Errors as of a
        request.
        """
        with self._using, self._failures_named("did not connect, or said nothing,"):
            self._connect(step)
            return self.about

    @contextmanager
    def _failures_named(self, silence: str) -> Iterator[None]:
        """What goes wrong between the two processes as AdapterError; silence: in words, what a
        process that hangs did.
        """
        try:
            yield
        except (FrameError, wire.WireError) as error:
            raise self._failed(
                f"the adapter '{self.adapter}' sent what cannot be read: {error}"
            ) from error
        except TimeoutError as error:
            raise self._failed(
                f"the adapter '{self.adapter}' {silence} for {self.silent_seconds:g} s and was ended"
            ) from error
        except (EOFError, OSError) as error:
            raise self._failed(self._how_it_ended()) from error

    def _ask(self, views: Iterator[View], count: int, step: Callable[[float], None]) -> Answered:
        self._connect(step)
        while self._running:  # a request that was given up
            self._note(self._receive(lambda: step(0.0))[0])
        self._number += 1
        self._send({"begin": self._number, "views": count})
        for index, view in enumerate(views):
            step(SHARE_SENT * index / count)
            self._send(*wire.packed_view(self._number, view))
        self._send({"run": self._number})
        self._running = True
        seen, fraction = {}, SHARE_SENT
        while True:
            header, payload = self._receive(functools.partial(step, fraction))
            self._note(header)
            if header.get("progress") == self._number:
                fraction = SHARE_SENT + (SHARE_RUN - SHARE_SENT) * wire.fraction(
                    header.get("fraction")
                )
            elif header.get("seen") == self._number:
                index, one = wire.unpacked_seen(header, payload)
                if index >= count:
                    raise wire.WireError(f"it answered view {index} of {count}")
                seen[index] = one
                fraction = SHARE_RUN + (1 - SHARE_RUN) * len(seen) / count
            elif header.get("done") == self._number:
                if len(seen) != count or str(header.get("poses")) not in POSES:
                    raise wire.WireError(
                        f"it answered {len(seen)} of {count} views, their poses being {str(header.get('poses'))[:40]}"
                    )
                return Answered(
                    [seen[index] for index in range(count)],
                    header["poses"],
                    bool(header.get("metric")),
                )

    def _note(self, header: dict) -> None:
        """Keep up with whether it runs; AdapterError when it says that the request failed."""
        if "failed" in header:
            self._running, text = False, str(header["failed"])[:MAX_FAILURE]
            if header.get("request", self._number) != self._number:
                return  # one that nobody waits for
            self._failures += 1
            if self.about is None:
                self.close()  # it ends now
            hint = (
                ": lower network.max_keyframes or network.image_side"
                if any(sign in text for sign in _EXHAUSTED)
                else ""
            )
            raise AdapterError(f"the adapter '{self.adapter}' failed: {text}{hint}")
        if "done" in header:
            self._running = False

    def _connect(self, step: Callable[[float], None]) -> None:
        """Start where it does not run, and hear what it is."""
        self.start()
        if self._connection is None:
            self._wait(self._listener, lambda: step(0.0))
            self._connection, _ = self._listener.accept()
            self._sockets.append(self._connection)
            # nobody else is to connect, and nothing is left if this process is killed
            shutil.rmtree(self._folder, ignore_errors=True)
        if self.about is None:
            header, _ = self._receive(lambda: step(0.0))
            self._note(header)
            self.about = wire.about(header)
            log.info("network: %s, %s (%s), on %s, %s", self.about.name, self.about.weights, self.about.licence, self.about.device,
                     self.about.dtype)  # fmt: skip

    def _send(self, header: dict, payload: bytes = b"") -> None:
        try:
            self._connection.settimeout(self.silent_seconds)
            send(self._connection, header, payload)
        except (EOFError, ConnectionError, TimeoutError):
            raise
        except BaseException:
            self.close()  # half a frame is on its way: what follows would not be understood
            raise

    def _receive(self, waiting: Callable[[], None]) -> tuple[dict, bytes]:
        self._wait(self._connection, waiting)
        self._connection.settimeout(self.silent_seconds)
        return receive(self._connection, MAX_ANSWER)

    def _wait(self, what: socket.socket, waiting: Callable[[], None]) -> None:
        """Until there is something to read; waiting() is called now and then. EOFError when the
        process ends, TimeoutError in silence.
        """
        waiting()
        since = time.monotonic()
        while not select.select([what], [], [], POLL_SECONDS)[0]:
            waiting()
            if self.pid is None and not select.select([what], [], [], 0)[0]:
                raise EOFError("it ended")
            if time.monotonic() - since > self.silent_seconds:
                raise TimeoutError

    def _failed(self, text: str) -> AdapterError:
        self._failures += 1
        self.close()
        return AdapterError(text)

    def _how_it_ended(self) -> str:
        """What it said last, or its exit status."""
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
        if not self._program.ends_within(EXIT_SECONDS):
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
        raise ValueError(f"network.adapter '{command}' is no command: {error}") from error


def _release(folder: str, sockets: list) -> None:
    for one in sockets:
        one.close()
    shutil.rmtree(folder, ignore_errors=True)


@functools.lru_cache(maxsize=1)
def adapter_process(*settings) -> AdapterProcess:
    """The process of these arguments of AdapterProcess, kept: a changed parameter makes a new back
    end, not a new process.
    """
    return AdapterProcess(*settings)
