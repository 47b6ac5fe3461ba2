"""The process of an adapter class: loading it, serving requests, ending with its parent."""

import os
import socket
import subprocess
import sys
import threading

import numpy as np
import pytest

from vggt3_ros.adapters import host, wire
from vggt3_ros.adapters.contract import Answer, Seen, View
from vggt3_ros.system.wire import receive, send


class Echo:
    """Answers each view with its own pose."""

    name, weights, licence, device, dtype, takes, patch = "echo", "", "", "cpu", "", ("poses",), 2

    def __call__(self, views, progress):
        progress(0.5)
        if any(view.T_world_cam is None for view in views):
            raise LookupError("no pose")
        return Answer([Seen(view.T_world_cam) for view in views], "world_from_camera", True)


@pytest.fixture
def served():
    """The back end's end of a served Echo, past its first frame."""
    ours, theirs = socket.socketpair()
    ended = []

    def serve():
        with theirs:
            try:
                host.serve(theirs, Echo())
            except (EOFError, ConnectionError) as error:
                ended.append(error)

    thread = threading.Thread(target=serve)
    thread.start()
    ours.settimeout(60)
    assert wire.about(receive(ours)[0]).name == "echo"
    yield ours
    ours.close()
    thread.join(60)
    assert ended  # it ends when nobody is there any more


def ask(connection, number, poses):
    send(connection, {"begin": number, "views": len(poses)})
    for pose in poses:
        view = View(np.zeros((2, 2, 3), np.uint8), None, pose)
        send(connection, *wire.packed_view(number, view))
    send(connection, {"run": number})


def test_a_request_is_answered_view_by_view(served):
    shifted = np.eye(4)
    shifted[0, 3] = 2.0
    ask(served, 4, [np.eye(4), shifted])
    headers = [receive(served)[0] for _ in range(4)]
    assert headers[0] == {"progress": 4, "fraction": 0.5}
    assert [wire.unpacked_seen(header, b"")[0] for header in headers[1:3]] == [0, 1]
    np.testing.assert_array_equal(wire.unpacked_seen(headers[2], b"")[1].pose, shifted)
    assert headers[3] == {"done": 4, "poses": "world_from_camera", "metric": True}


def test_a_failed_request_is_reported_and_the_next_one_answered(served):
    ask(served, 1, [None])
    assert receive(served)[0]["progress"] == 1
    assert receive(served)[0] == {"failed": "LookupError: no pose", "request": 1}
    ask(served, 2, [np.eye(4)])
    assert [receive(served)[0] for _ in range(3)][-1]["done"] == 2


def test_frames_of_a_request_that_was_never_begun_mean_nothing(served):
    send(served, {"run": 9})
    send(served, *wire.packed_view(9, View(np.zeros((2, 2, 3), np.uint8))))
    ask(served, 3, [np.eye(4)])
    assert receive(served)[0]["progress"] == 3
    assert receive(served)[0]["index"] == 0


def test_a_class_is_loaded_from_a_module_or_a_file(tmp_path):
    assert host.load_class("collections:OrderedDict").__name__ == "OrderedDict"
    (tmp_path / "mine.py").write_text("class Mine:\n    pass\n")
    assert host.load_class(f"{tmp_path / 'mine.py'}:Mine").__name__ == "Mine"
    with pytest.raises(ValueError, match="has no class Other"):
        host.load_class(f"{tmp_path / 'mine.py'}:Other")
    with pytest.raises(ModuleNotFoundError):
        host.load_class("no_such_module:Mine")


def test_it_runs_by_its_path_without_this_interpreter_s_packages(tmp_path):
    """A plain interpreter with numpy alone imports what the host needs."""
    packages = os.path.dirname(os.path.dirname(np.__file__))
    code = (
        "import runpy, sys\n"
        f"sys.path.append({packages!r})\n"
        f"module = runpy.run_path({host.__file__!r})\n"
        "module['_reachable']()\n"
        "import vggt3_ros.adapters.wire, vggt3_ros.system.wire\n"
        "assert 'torch' not in sys.modules and 'cv2' not in sys.modules\n"
        "print(vggt3_ros.adapters.wire.VERSION)\n"
    )
    result = subprocess.run(
        [sys.executable, "-S", "-E", "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert result.stdout.strip() == "1", result.stderr
