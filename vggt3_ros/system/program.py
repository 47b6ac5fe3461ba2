"""A program in a process of its own: started, watched, ended with whoever owns it, and its end
told in words.
"""

import os
import signal
import subprocess
import weakref

from vggt3_ros.system import memory_limits


class Program:
    """A process of the words `command`; it ends with :meth:`close`, at the latest when this object
    is forgotten or Python exits.

    Its pipes are closed first and release() is called, so that it sees the end of its input; it
    then has `patience` seconds to end by itself and is killed after, all of its session where
    own_session is set. own_session also keeps a Ctrl-C meant for this process from it. start:
    called instead of subprocess.Popen; options: of subprocess.Popen. Raises OSError where it
    cannot be started.
    """

    def __init__(
        self,
        command,
        own_session=False,
        patience=0.0,
        release=lambda: None,
        start=subprocess.Popen,
        **options,
    ):
        self._oom_kills = memory_limits.oom_kills()
        self._process = start(command, start_new_session=own_session, **options)
        self.stdin, self.stdout = self._process.stdin, self._process.stdout
        self._ending = weakref.finalize(self, _end, self._process, patience, release, own_session)

    @property
    def pid(self):
        """None once it has ended."""
        return self._process.pid if self._process.poll() is None else None

    @property
    def end(self):
        """How it ended: the name of a signal, or "exit status 7"; empty while it lives."""
        code = self._process.poll()
        if code is None:
            return ""
        return signal.Signals(-code).name if code < 0 else f"exit status {code}"

    @property
    def killed_for_memory(self):
        """Whether it was killed, and the kernel has killed processes for want of memory since it
        started.
        """
        return self.end == "SIGKILL" and memory_limits.oom_kills() > self._oom_kills

    def ends_within(self, seconds):
        """Wait for its end: whether it came."""
        return _ends_within(self._process, seconds)

    def kill(self):
        # unlike os.kill it bears with a process that another thread has just waited for
        self._process.kill()

    def close(self):
        """End it now, as the class says."""
        self._ending()


def _ends_within(process, seconds):
    try:
        process.wait(seconds)
        return True
    except subprocess.TimeoutExpired:
        return False


def _end(process, patience, release, own_session):
    release()
    for pipe in filter(None, (process.stdin, process.stdout)):
        try:
            pipe.close()
        except BrokenPipeError:
            continue  # what is still in it is for nobody
    if _ends_within(process, patience):
        return
    try:
        os.killpg(process.pid, signal.SIGKILL) if own_session else process.kill()
    except ProcessLookupError:
        pass  # another thread has just waited for it
    process.wait()
