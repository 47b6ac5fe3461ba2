"""An adapter in its own process: asked, given up, hanging, dying, and answering nonsense, each of
which is told clearly and in time.
"""

import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from adapter_of_truth import AdapterOfTruth, write_truth
from folders import SUPPORT
from scipy.spatial.transform import Rotation

from vggt3_ros.adapters import wire
from vggt3_ros.adapters.client import AdapterError, AdapterProcess
from vggt3_ros.adapters.contract import View
from vggt3_ros.geometry import se3

SPEC = f"{SUPPORT / 'adapter_of_truth.py'}:{AdapterOfTruth.__name__}"
COUNT, SIZE = 4, (42, 56)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 255, (COUNT, *SIZE, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def poses():
    rotation = Rotation.from_rotvec(
        np.random.default_rng(1).normal(0, 0.5, (COUNT, 3))
    ).as_matrix()
    return se3.from_rotation_translation(
        rotation, np.random.default_rng(2).normal(0, 1, (COUNT, 3))
    )


@pytest.fixture
def adapter(tmp_path, images, poses):
    made = []

    def make(silent_seconds=120.0, spec=SPEC, **truth):
        depth = np.ones((COUNT, 6, 8), np.float32)
        made.append(
            AdapterProcess(
                spec,
                weights=write_truth(tmp_path / "truth.npz", images, poses, depth, **truth),
                silent_seconds=silent_seconds,
            )
        )
        return made[-1]

    yield make
    for process in made:
        process.close()


def views(images, dense=(1, 3)):
    return (View(image, np.eye(3), None, None, i in dense) for i, image in enumerate(images))


def ask(process, images, step=lambda fraction: None):
    return process(views(images), len(images), step)


@pytest.mark.parametrize("convention", ["camera_from_world", "world_from_camera"])
def test_what_the_network_says_arrives_with_how_to_read_it(adapter, images, poses, convention):
    process, fractions = adapter(poses=convention, metric=True), []
    answered = ask(process, images, fractions.append)
    expected = se3.inverse(poses) if convention == "camera_from_world" else poses
    np.testing.assert_allclose([seen.pose for seen in answered.seen], expected, atol=1e-9)
    assert answered.poses == convention and answered.metric
    assert [seen.depth is not None for seen in answered.seen] == [False, True, False, True]
    assert answered.seen[1].depth.shape == (6, 8) and (answered.seen[1].confidence == 5).all()
    assert fractions == sorted(fractions) and fractions[-1] > 0.9
    assert (process.about.name, process.about.takes) == (
        "the truth",
        ("intrinsics", "depth", "poses"),
    )
    pid = process.pid
    ask(process, images)
    assert process.pid == pid  # it goes on, its network loaded
    assert not Path(process._folder).exists()


def test_its_process_has_neither_this_one_s_packages_nor_its_allocator(
    adapter, tmp_path, images, monkeypatch
):
    monkeypatch.setenv("PYTHONPATH", "/somewhere/else")
    monkeypatch.setenv("LD_PRELOAD", "/lib/nothing.so")
    process = adapter()
    process._python = sys.executable
    environment = process._environment("socket")
    assert (
        "PYTHONPATH" not in environment
        and "LD_PRELOAD" not in environment
        and environment["VGGT3_ADAPTER_SOCKET"] == "socket"
    )


@pytest.mark.parametrize(
    "mischief, words",
    [
        ("die", "process of the adapter .* ended .exit status 3"),
        ("raise", "failed: RuntimeError: CUDA out of memory.*; lower network.max_keyframes"),
        ("loading", "failed: ImportError: No module named 'mapanything'"),
        ("garbage", "the pose of view 0 is not rigid"),
        ("short", "the adapter answered 3 of 4 views"),
    ],
)
def test_what_goes_wrong_in_it_is_told_by_name(adapter, images, mischief, words):
    with pytest.raises(AdapterError, match=words):
        ask(adapter(mischief=mischief), images)


def test_one_that_hangs_is_ended(adapter, images):
    process = adapter(mischief="hang", silent_seconds=120.0)
    process.ready(lambda fraction: None)
    pid, process.silent_seconds, start = process.pid, 1.0, time.monotonic()
    with pytest.raises(AdapterError, match="neither read nor sent anything for 1 s and was ended"):
        ask(process, images)
    assert time.monotonic() - start < 60 and process.pid is None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_request_that_is_given_up_does_not_spoil_the_next(adapter, images, poses):
    process = adapter()

    class Stopped(Exception):
        pass

    def stop(fraction):
        if fraction > 0.05:
            raise Stopped

    for _ in range(2):
        with pytest.raises(Stopped):
            ask(process, images, stop)
    pid = process.pid
    np.testing.assert_allclose(
        [seen.pose for seen in ask(process, images).seen], se3.inverse(poses), atol=1e-9
    )
    assert process.pid == pid


def test_after_three_failures_in_a_row_it_is_left_alone(adapter, images):
    process = adapter(mischief="loading")
    for _ in range(3):
        with pytest.raises(AdapterError, match="ImportError"):
            ask(process, images)
    start = time.monotonic()
    with pytest.raises(AdapterError, match="failed 3 times in a row and will not be restarted"):
        ask(process, images)
    assert time.monotonic() - start < 5 and process.pid is None


def test_a_killed_one_is_started_again(adapter, images, poses):
    process = adapter()
    ask(process, images)
    os.kill(process.pid, 9)
    while process.pid is not None:
        time.sleep(0.01)
    np.testing.assert_allclose(
        [seen.pose for seen in ask(process, images).seen], se3.inverse(poses), atol=1e-9
    )


@pytest.mark.parametrize("adapter_text", ["no-such-program --socket {socket}", "'unbalanced"])
def test_a_command_that_cannot_be_is_refused_at_once(adapter_text):
    with pytest.raises(ValueError, match="cannot start the adapter|is not a valid command"):
        AdapterProcess(adapter_text)


COMMAND = """
import json, os, socket, struct, sys
import numpy as np
connection = socket.socket(socket.AF_UNIX)
connection.connect(sys.argv[1])
assert os.environ["VGGT3_ADAPTER_SOCKET"] == sys.argv[1]
file = connection.makefile("rwb")
def send(header, payload=b""):
    text = json.dumps(header).encode()
    file.write(struct.pack(">IQ", len(text), len(payload)) + text + payload)
    file.flush()
hello = {"hello": 1, "name": "by hand", "weights": "w", "licence": "l", "device": "d", "dtype": "t", "takes": [], "patch": 14}
send(hello)
count = 0
while True:
    lengths = file.read(12)
    if len(lengths) < 12:
        break
    head, body = struct.unpack(">IQ", lengths)
    header = json.loads(file.read(head)); file.read(body)
    count = 0 if "begin" in header else count + ("view" in header)
    if "run" in header:
        number = header["run"]
        points = np.zeros((2, 3, 3), "<f4"); points[..., 2] = 7
        for index in range(count):
            send({"seen": number, "index": index, "pose": np.eye(4).ravel().tolist(), "intrinsics": None, "dense": [2, 3], "points": "world"},
                 points.tobytes() + np.full((2, 3), 3, "<f4").tobytes())
        send({"done": number, "poses": "world_from_camera", "metric": False})
"""


def test_a_command_speaks_the_protocol_with_nothing_of_this_package(adapter, tmp_path, images):
    (tmp_path / "command.py").write_text(COMMAND)
    process = adapter(spec=f"{sys.executable} {tmp_path / 'command.py'} {{socket}}")
    answered = ask(process, images)
    assert process.about.name == "by hand" and len(answered.seen) == COUNT
    np.testing.assert_allclose(wire.along_z(answered.seen[0], answered.poses), 7)


def test_announced_sizes_are_refused_before_memory_is_taken(adapter, images, tmp_path):
    (tmp_path / "command.py").write_text(
        COMMAND.replace(
            "send(hello)", "file.write(struct.pack('>IQ', 2, 2**40) + b'{}'); file.flush()"
        )
    )
    with pytest.raises(AdapterError, match="announces 2 . 1099511627776 bytes"):
        ask(adapter(spec=f"{sys.executable} {tmp_path / 'command.py'} {{socket}}"), images)
