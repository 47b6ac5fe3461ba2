"""A program run as a child process that ends with its owner; its exit is described in words."""

import os
import signal
import subprocess
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from vggt3_ros.system import memory_limits


class Program:
    """Run `command` as a child process until :meth:`close`, or at the latest until this object is
    garbage-collected or Python exits.

    On close, its pipes are closed and release() is called, so that the program sees the end of its
    input. It then has `patience` seconds to exit before it is killed; with own_session its whole
    session is killed. own_session also keeps Ctrl-C in the terminal from reaching it. start: called
    instead of subprocess.Popen; options: passed to it. Raises OSError if the program cannot be
    started.
    """

    def __init__(
        self,
        command: list[str],
        own_session: bool = False,
        patience: float = 0.0,
        release: Callable[[], object] = lambda: None,
        start: Callable[..., "subprocess.Popen[bytes]"] = subprocess.Popen,
        **options: Any,
    ) -> None:
        self._oom_kills = memory_limits.oom_kills()
        self._process = start(command, start_new_session=own_session, **options)
        self.stdin, self.stdout = self._process.stdin, self._process.stdout
        self._ending = weakref.finalize(self, _end, self._process, patience, release, own_session)

    @property
    def pid(self) -> int | None:
        """The process id; None once the program has ended."""
        return self._process.pid if self._process.poll() is None else None

    @property
    def end(self) -> str:
        """How it ended: the name of a signal, or "exit status 7"; empty while it runs."""
        code = self._process.poll()
        if code is None:
            return ""
        return signal.Signals(-code).name if code < 0 else f"exit status {code}"

    @property
    def killed_for_memory(self) -> bool:
        """Whether it was killed, and the kernel's OOM killer has killed a process since it
        started.
        """
        return self.end == "SIGKILL" and memory_limits.oom_kills() > self._oom_kills

    def ends_within(self, seconds: float | None) -> bool:
        """Wait up to `seconds` (None: for ever) for the program to end; return whether it did."""
        return _ends_within(self._process, seconds)

    def kill(self) -> None:
        """Send SIGKILL; do nothing if it has ended."""
        # unlike os.kill, this is safe if another thread has just reaped the process
        self._process.kill()

    def close(self) -> None:
        """End the program now, as described for the class."""
        self._ending()


def _ends_within(process: "subprocess.Popen[bytes]", seconds: float | None) -> bool:
    try:
        process.wait(seconds)
        return True
    except subprocess.TimeoutExpired:
        return False


def _end(
    process: "subprocess.Popen[bytes]",
    patience: float,
    release: Callable[[], object],
    own_session: bool,
) -> None:
    release()
    for pipe in filter(None, (process.stdin, process.stdout)):
        try:
            pipe.close()
        except BrokenPipeError:
            continue  # nobody will read what is still buffered
    if _ends_within(process, patience):
        return
    with suppress(ProcessLookupError):  # another thread has just reaped it
        os.killpg(process.pid, signal.SIGKILL) if own_session else process.kill()
    process.wait()
