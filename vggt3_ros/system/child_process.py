"""A process of this package with a socket to it: started so that it ends with this process, its
end told in words.
"""

import os
import runpy
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from vggt3_ros.system.environment import end_with_parent, worker_environment
from vggt3_ros.system.program import Program

EXIT_SECONDS = 2.0  # that a process whose socket is closed has to end by itself
_starters = {}  # process id -> the thread that starts its children


class ChildProcess(Program):
    """`python -m module --channel FD argument...`, which talks over :attr:`connection` and ends
    when that is closed.

    It is killed by the kernel when this process ends, in whatever way. The kernel watches the
    thread that started it, so that one thread starts them all, and lives as long as this process:
    who asked for it may end before. own_session: not in this process's group, so that a Ctrl-C
    meant for this one does not end it.
    """

    def __init__(self, module, *arguments, own_session=False):
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

    def hang_up(self):
        """Whoever reads from the connection, here or there, finds that it is closed."""
        try:
            self.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it is already

    def wait(self):
        """Until it has ended, in EXIT_SECONDS or by a kill; then :attr:`end` says how."""
        if not self.ends_within(EXIT_SECONDS):
            self.kill()
            self.ends_within(None)


def _start(*arguments, **options):
    return _starter().submit(subprocess.Popen, *arguments, **options).result()


def _starter():
    """The thread that starts children of this process; a forked one has none of its parent's
    threads.
    """
    # its thread begins when it is used
    return _starters.setdefault(os.getpid(), ThreadPoolExecutor(1, thread_name_prefix="starter"))


if __name__ == "__main__":
    end_with_parent()  # before anything that takes long is imported
    if os.getppid() != int(sys.argv[1]):
        sys.exit()  # it ended before the kernel was asked
    del sys.argv[:2]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
