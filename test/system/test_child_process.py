"""A child process outlives the thread that requested it, but neither its owner nor this process."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest
from waiting import until

from vggt3_ros.system import child_process
from vggt3_ros.system.child_process import ChildProcess

MODULE = "vggt3_ros.surface.fusion_process"


def test_it_outlives_the_thread_that_requested_it(tmp_path, monkeypatch):
    (tmp_path / "patient_child.py").write_text(
        "import socket, sys\n"
        "connection = socket.socket(fileno=int(sys.argv[2]))\nconnection.sendall(b'!')\nconnection.recv(1)\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    children = []
    asking = threading.Thread(target=lambda: children.append(ChildProcess("patient_child")))
    asking.start()
    asking.join()
    (child,) = children
    assert child.connection.recv(1) == b"!"
    time.sleep(0.3)
    assert child.pid and child.end == ""
    child.hang_up()
    child.wait()
    assert child.pid is None and child.end == "exit status 0" and not child.killed_for_memory


OWNER = """
import os, sys, time
from vggt3_ros.system.child_process import ChildProcess
child = ChildProcess("patient_child")
if sys.argv[1] != "early":
    child.connection.recv(1)
print(child.pid, flush=True)
if sys.argv[1] != "end":
    os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("how", ["early", "kill", "end"])
def test_it_ends_with_the_process_that_started_it_even_if_it_hangs(tmp_path, monkeypatch, how):
    (tmp_path / "patient_child.py").write_text(
        "import socket, sys, time\n"
        "socket.socket(fileno=int(sys.argv[2])).sendall(b'!')\ntime.sleep(600)\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    owner = subprocess.run([sys.executable, "-c", OWNER, how], stdout=subprocess.PIPE, text=True)
    assert owner.returncode == (0 if how == "end" else -9)
    until(lambda: not psutil.pid_exists(int(owner.stdout)))


def test_it_ends_with_its_owner_and_says_how_it_ended():
    child = ChildProcess(MODULE)
    pid = child.pid
    os.kill(pid, signal.SIGKILL)
    until(lambda: child.pid is None)
    assert child.end == "SIGKILL"
    forgotten = ChildProcess(MODULE)
    pid = forgotten.pid
    del forgotten
    gc.collect()
    assert not psutil.pid_exists(pid)


def test_a_failed_start_leaks_no_socket(monkeypatch):
    monkeypatch.setattr(child_process.sys, "executable", "/nonexistent/python")
    before = psutil.Process().num_fds()
    for _ in range(3):
        with pytest.raises(OSError):
            ChildProcess(MODULE)
    gc.collect()
    assert psutil.Process().num_fds() <= before
