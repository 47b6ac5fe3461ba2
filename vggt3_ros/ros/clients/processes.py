"""Run the back end as a child process: start, monitor, wait for, end."""

import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import psutil

from vggt3_ros.action import Refine
from vggt3_ros.ros.clients.goal_client import GoalClient

GOAL_SECONDS = 90.0  # time-out for accepting a goal
BACKEND = "vggt3_ros.backend:Backend"
UNCAUGHT = re.compile(
    r"Traceback \(most recent call last\)|a callback failed|unexpected error in a|Fatal Python error"
)


@contextmanager
def backend_process(log, parameters, remappings=(), backend=BACKEND):
    """Run the node with its output in the file `log`; SIGINT at the end.

    parameters: {name: value}. backend: module:class that refines.
    """
    arguments = [part for name, value in parameters.items() for part in ("-p", f"{name}:={value}")]
    with open(log, "w") as file:
        process = subprocess.Popen(
            [
                sys.executable,
                "-P",
                "-m",
                "vggt3_ros.ros.main",
                "--backend",
                backend,
                "--ros-args",
                *remappings,
                *arguments,
            ],
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            end(process)


def end(process):
    """Send SIGINT, then SIGKILL if that has no effect."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until(condition, seconds, process, log, complaint):
    """Wait for condition(). Raises RuntimeError with the end of `log` if the process ends or it
    takes too long.
    """
    limit = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None or time.monotonic() > limit:
            raise RuntimeError(f"{complaint}, see {log}:\n{tail(log)}")
        time.sleep(0.05)


def wait_for(future, seconds):
    """Return the result of an rclpy future that another thread's executor completes. Raises
    RuntimeError on a time-out.
    """
    done = threading.Event()
    future.add_done_callback(lambda _: done.set())
    if not done.wait(seconds):
        raise RuntimeError(f"the back end did not respond within {seconds:.0f} s")
    return future.result()


def refine_client(node):
    """Return a GoalClient of the refine action, for an rclpy node that another thread spins."""
    return GoalClient(node, Refine, "refine")


def refined(client, seconds, heard=lambda phase, fraction: None):
    """Refine through a GoalClient that another thread's executor serves. Returns the result.

    heard(phase, fraction) is called with the progress. Raises RuntimeError if it fails or takes
    longer than `seconds`.
    """
    goal = wait_for(
        client.send_goal_async(
            Refine.Goal(), lambda message: heard(message.feedback.phase, message.feedback.progress)
        ),
        GOAL_SECONDS,
    )
    result = wait_for(goal.get_result_async(), seconds).result
    if result.error_code:
        raise RuntimeError(f"the refinement failed: {result.error_msg}")
    return result


def uncaught(log):
    """Return the number of uncaught exceptions in a log file."""
    return sum(
        bool(UNCAUGHT.search(line)) for line in log.read_text(errors="replace").splitlines()
    )


def tail(path, lines=15):
    """Return the last lines of a file."""
    return "".join(path.read_text().splitlines(keepends=True)[-lines:])


class MemoryWatch:
    """Samples the resident memory of a process and its children twice a second.

    samples: rows of (seconds since the start, MB of the process itself, MB of its children).
    """

    def __init__(self, pid):
        self.samples, self._begin = [], time.monotonic()
        threading.Thread(target=self._watch, args=(psutil.Process(pid),), daemon=True).start()

    @property
    def peak_mb(self):
        """Peak of all processes together."""
        return max((own + children for _, own, children in list(self.samples)), default=0.0)

    def _watch(self, process):
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            try:
                own, children = (
                    process.memory_info().rss,
                    sum(map(_resident, process.children(recursive=True))),
                )
            except psutil.NoSuchProcess:
                return  # the process has ended
            self.samples.append((time.monotonic() - self._begin, own / 2**20, children / 2**20))
            time.sleep(0.5)


def _resident(process):
    try:
        return process.memory_info().rss
    except psutil.NoSuchProcess:
        return 0
