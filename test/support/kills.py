"""What a process leaves behind that is killed between any two of its steps."""

import itertools
import os
import signal
import sys

from vggt3_ros.store.database import Database

STEPS = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.listdir", "shutil.copyfile"}


def killed_at_every_step(make, action, stride=1):
    """make() gives a fresh folder; action(folder) runs in a forked process that kills itself at
    its 1st, (1 + stride)-th, ... step: a statement of SQL, a file opened, renamed or removed.
    Yields (folder, whether the action came to its end), the last time True.
    """
    for last in itertools.count(1, stride):
        folder = make()
        child = os.fork()
        if child == 0:
            _count_down(last)
            try:
                action(folder)
            except BaseException as error:
                os.write(2, f"{type(error).__name__}: {error}\n".encode())
                os._exit(1)
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        ended = os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0
        assert ended or os.WIFSIGNALED(status), "the action failed"
        yield folder, ended
        if ended:
            return


def _count_down(last):
    steps = itertools.count(1)

    def step(*_):
        if next(steps) >= last:
            os.kill(os.getpid(), signal.SIGKILL)

    connect = Database._connect

    def traced(uri):
        connection = connect(uri)
        connection.set_trace_callback(step)
        return connection

    Database._connect = staticmethod(traced)
    sys.addaudithook(lambda event, arguments: step() if event in STEPS else None)
