"""A process of this package with a socket to it: started so that it ends with this process, its end told in words."""

import os
import runpy
import signal
import socket
import subprocess
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor

from vggt3_ros.system import memory_limits
from vggt3_ros.system.environment import end_with_parent, worker_environment

EXIT_SECONDS = 2.0  # that a process whose socket is closed has to end by itself
_starters = {}  # process id -> the thread that starts its children


class ChildProcess:
    """`python -m module --channel FD argument...`, which talks over :attr:`connection` and ends when that is closed.

    It is killed by the kernel when this process ends, in whatever way. The kernel watches the thread that started it, so that one thread
    starts them all, and lives as long as this process: who asked for it may end before.
    own_session: not in this process's group, so that a Ctrl-C meant for this one does not end it.
    """

    def __init__(self, module, *arguments, own_session=False):
        self.connection, theirs = socket.socketpair()
        self._oom_kills = memory_limits.oom_kills()
        with theirs:
            command = [sys.executable, "-P", "-m", "vggt3_ros.system.child_process", str(os.getpid()), module, "--channel", str(theirs.fileno()),
                       *map(str, arguments)]
            try:
                self._process = _starter().submit(subprocess.Popen, command, pass_fds=[theirs.fileno()], env=worker_environment(),
                                                  stdin=subprocess.DEVNULL, start_new_session=own_session).result()
            except BaseException:
                self.connection.close()
                raise
        self._ending = weakref.finalize(self, _end, self._process, self.connection)

    @property
    def pid(self):
        """None once it has ended."""
        return self._process.pid if self._process.poll() is None else None

    def kill(self):
        self._process.kill()  # unlike os.kill it bears with a process that another thread has just waited for

    def hang_up(self):
        """Whoever reads from the connection, here or there, finds that it is closed."""
        try:
            self.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it is already

    def wait(self):
        """Until it has ended, in EXIT_SECONDS or by a kill; then :attr:`end` says how."""
        try:
            self._process.wait(EXIT_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            self._process.wait()

    @property
    def end(self):
        """How it ended: the name of a signal, or "exit status 7"; empty while it lives."""
        code = self._process.poll()
        if code is None:
            return ""
        return signal.Signals(-code).name if code < 0 else f"exit status {code}"

    @property
    def killed_for_memory(self):
        """Whether it was killed, and the kernel has killed processes for want of memory since it started."""
        return self.end == "SIGKILL" and memory_limits.oom_kills() > self._oom_kills

    def close(self):
        """End it now."""
        self._ending()


def _starter():
    """The thread that starts children of this process; a forked one has none of its parent's threads."""
    return _starters.setdefault(os.getpid(), ThreadPoolExecutor(1, thread_name_prefix="starter"))  # its thread begins when it is used


def _end(process, connection):
    connection.close()
    process.kill()
    process.wait()


if __name__ == "__main__":
    end_with_parent()  # before anything that takes long is imported
    if os.getppid() != int(sys.argv[1]):
        sys.exit()  # it ended before the kernel was asked
    del sys.argv[:2]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
