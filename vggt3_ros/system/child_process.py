"""Child processes that run a module of this package, connected by a socket, and that never
outlive this process.
"""

import os
import runpy
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from vggt3_ros.system.environment import end_with_parent, worker_environment
from vggt3_ros.system.program import Program

EXIT_SECONDS = 2.0  # grace period for a child whose socket was closed, before it is killed
_starters: dict[int, ThreadPoolExecutor] = {}  # process id -> the thread that starts its children


class ChildProcess(Program):
    """Run `python -m module --channel FD argument...`, which communicates over :attr:`connection`
    and exits when that is closed.

    The kernel kills the child when this process ends for any reason. The kernel in fact watches
    the thread that started the child. All children are therefore started by one thread that lives
    as long as this process, and the calling thread may end earlier. With own_session the child is
    in a session of its own, so that Ctrl-C in the terminal does not reach it. Raises OSError if
    the process cannot be started.
    """

    def __init__(self, module: str, *arguments: object, own_session: bool = False) -> None:
        self.connection, theirs = socket.socketpair()
        with theirs:
            command = [
                sys.executable,
                "-P",
                "-m",
                "vggt3_ros.system.child_process",
                str(os.getpid()),
                module,
                "--channel",
                str(theirs.fileno()),
                *map(str, arguments),
            ]
            try:
                super().__init__(
                    command,
                    own_session,
                    release=self.connection.close,
                    start=_start,
                    pass_fds=[theirs.fileno()],
                    env=worker_environment(),
                    stdin=subprocess.DEVNULL,
                )
            except BaseException:
                self.connection.close()
                raise

    def hang_up(self) -> None:
        """Shut the connection down, so that readers on both ends see end of file."""
        with suppress(OSError):  # already shut down
            self.connection.shutdown(socket.SHUT_RDWR)

    def wait(self) -> None:
        """Wait up to EXIT_SECONDS for the child to exit, then kill it; :attr:`end` says how it
        ended.
        """
        if not self.ends_within(EXIT_SECONDS):
            self.kill()
            self.ends_within(None)


def _start(command: list[str], **options: Any) -> "subprocess.Popen[bytes]":
    def start() -> "subprocess.Popen[bytes]":
        return subprocess.Popen(command, **options)

    return _starter().submit(start).result()


def _starter() -> ThreadPoolExecutor:
    """Return the thread that starts this process's children. It is per process, because a fork
    does not inherit its parent's threads.
    """
    # setdefault may construct a second executor; it has no thread until it is used
    return _starters.setdefault(os.getpid(), ThreadPoolExecutor(1, thread_name_prefix="starter"))


if __name__ == "__main__":
    end_with_parent()  # before any slow import
    if os.getppid() != int(sys.argv[1]):
        sys.exit()  # the parent ended before the kernel was told to watch it
    del sys.argv[:2]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
