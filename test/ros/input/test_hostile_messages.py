"""Any field of any message the node takes set to what it must not be: refused by name and counted,
or taken; the next good one always.
"""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import psutil
import pytest
from folders import python_path
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_keyframes import make_keyframe

pytest.importorskip("rclpy", reason="ROS 2 is not installed: scripts/setup brings it")

from sensor_msgs.msg import CompressedImage, Image

from vggt3_ros.geometry import se3
from vggt3_ros.messages import images
from vggt3_ros.messages.compressed_depth import decompress_depth
from vggt3_ros.messages.reading import to_keyframe
from vggt3_ros.ros.conversions import from_keyframe, from_nanoseconds
from vggt3_ros.ros.input.intake import SHOWN, Intake
from vggt3_ros.ros.load.malformed import jpeg_bomb, png_bomb, spoil
from vggt3_ros.store.keyframes import KeyframeStore

QUIET = SimpleNamespace(warning=lambda *a, **k: None, error=lambda *a, **k: None)
JPEG = cv2.imencode(".jpg", make_keyframe(0).image)[1].tobytes()
NOW_NS = 1_800_000_000_000_000_000


@pytest.fixture(scope="module")
def intake(tmp_path_factory):
    with KeyframeStore(tmp_path_factory.mktemp("hostile") / "store") as store:
        yield Intake(store, "odom", lambda: None, QUIET, "map", lambda: NOW_NS), store


def good(id, stamp_ns, encoded=None):
    return from_keyframe(make_keyframe(id % 1000, stamp_ns=stamp_ns), encoded=encoded)


@given(
    seed=st.integers(0, 2**32), changes=st.integers(1, 4), encoded=st.sampled_from([None, JPEG])
)
@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_spoiled_keyframe_is_refused_by_name_or_taken_and_the_next_good_one_is_taken(
    intake, seed, changes, encoded
):
    intake, store = intake
    rng = random.Random(seed)
    message = good(seed, max(NOW_NS, intake.newest_stamp_ns) + 1, encoded)
    message.id = max(store.ids(), default=0) % 2**62 + 1
    for _ in range(changes):
        spoil(message, rng)
    received, refused = intake.received, intake.refused
    intake.last_refusal = ""
    taken = intake.take(message)
    assert intake.received == received + 1 and intake.refused == refused + (not taken)
    assert taken or (
        intake.last_refusal.isprintable() and 10 < len(intake.last_refusal) < SHOWN + 20
    )
    if taken:
        kept = store.get(message.id)  # what was taken can be used
        assert np.all(np.isfinite(kept.T_odom_cam))
        from_nanoseconds(kept.stamp_ns)
    after = good(seed + 1, max(NOW_NS, intake.newest_stamp_ns) + 1)
    after.id = 2**62 + intake.received
    assert intake.take(after), intake.last_refusal
    assert after.id in store


@given(
    st.lists(
        st.tuples(st.integers(0, 6), st.integers(-5, 5), st.integers(0, 2)),
        min_size=1,
        max_size=12,
    )
)
@settings(max_examples=60, deadline=None)
def test_ids_and_stamps_in_any_order(tmp_path_factory, steps):
    """Duplicates, reordered stamps, a clock that jumps, ids used again for another image: an id
    names one image for ever.
    """
    images_of, base = {}, NOW_NS
    with KeyframeStore(tmp_path_factory.mktemp("order") / "store") as store:
        intake = Intake(store, "odom", lambda: None, QUIET, now_ns=lambda: NOW_NS)
        for id, offset, picture in steps:
            stamp_ns = base + offset * 10**9
            message = from_keyframe(make_keyframe(picture, stamp_ns=stamp_ns))
            message.id = id
            newest, before = intake.newest_stamp_ns, images_of.get(id)
            allowed = before == (stamp_ns, picture) if before else stamp_ns >= newest
            assert (intake.take(message) is not None) == allowed, intake.last_refusal
            if allowed:
                images_of[id] = (stamp_ns, picture)
        assert {id: (store.get(id).stamp_ns) for id in store.ids()} == {
            id: stamp for id, (stamp, _) in images_of.items()
        }
        for id, (_, picture) in images_of.items():
            np.testing.assert_array_equal(store.get(id).image, make_keyframe(picture).image)
        assert intake.refused + len(images_of) + intake.updated == intake.received == len(steps)


def test_one_stamp_far_in_the_future_does_not_make_all_others_too_old(intake):
    intake, _ = intake
    ahead = good(1, NOW_NS)
    ahead.id, ahead.header.stamp.sec = 77_777, 2**31 - 1
    assert not intake.take(ahead) and "ahead of this node's clock" in intake.last_refusal


def test_a_jump_noted_in_the_store_that_is_no_transform_does_not_lock_the_store(tmp_path):
    with KeyframeStore(tmp_path / "store") as store:
        store.note("T_kept_frontend", json.dumps(np.full((4, 4), np.inf).tolist()))
        np.testing.assert_array_equal(
            Intake(store, "", lambda: None, QUIET).T_kept_frontend, np.eye(4)
        )


@given(
    width=st.integers(0, 2**32 - 1),
    height=st.integers(0, 2**32 - 1),
    step=st.integers(0, 2**32 - 1),
    size=st.integers(0, 200),
    encoding=st.sampled_from(
        ["rgb8", "mono16", "32FC1", "16UC1", "nv12", "bayer_rggb8", "yuyv", ""]
    ),
    big=st.sampled_from([0, 1, 255]),
)
def test_raw_images_that_lie(width, height, step, size, encoding, big):
    message = Image(
        width=width,
        height=height,
        step=step,
        encoding=encoding,
        is_bigendian=big,
        data=bytes(size),
    )
    for read in (images.to_rgb, images.to_depth):
        with pytest.raises(ValueError, match="^x[.]? ?"):
            read(message, "x")


@given(
    data=st.binary(max_size=300),
    head=st.sampled_from([b"", JPEG[:200], png_bomb(64, 48), png_bomb(64, 48, 16, 0), bytes(12)]),
    cut=st.integers(0, 400),
    format=st.text(max_size=20),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=300, deadline=None)
def test_compressed_images_that_lie(data, head, cut, format, seed):
    flipped = bytearray(head[:cut] + data + head[cut:])
    for at in random.Random(seed).sample(range(len(flipped)), min(len(flipped), seed % 4)):
        flipped[at] ^= 1 << seed % 8
    message = CompressedImage(format=format.replace("\0", ""), data=bytes(flipped))
    try:
        assert images.decompress(message, 64, 48)[0].shape == (48, 64, 3)
    except ValueError as error:
        assert "data" in str(error)
    try:
        assert decompress_depth(message, size=(64, 48)).shape == (48, 64)
    except ValueError as error:
        assert "depth" in str(error)


BOMBS = {
    "png": lambda: (png_bomb(20_000, 20_000), 64, 48),
    "png that its camera agrees with": lambda: (png_bomb(16_384, 16_384), 16_384, 16_384),
    "jpeg": lambda: (jpeg_bomb(65_000, 65_000, JPEG), 64, 48),
    "jpeg that its camera agrees with": lambda: (jpeg_bomb(16_384, 16_384, JPEG), 16_384, 16_384),
    "jpeg of a million segments": lambda: (
        b"\xff\xd8\xff\xe0\x00\x02" + b"\xff\xe0\x00\x02" * 10**6,
        64,
        48,
    ),
    "png without header chunk": lambda: (
        b"\x89PNG\r\n\x1a\n" + b"\0" * 8 + b"\0\0@\0" * 2 + bytes(50),
        16_384,
        16_384,
    ),
}


def test_no_memory_is_taken_before_sizes_are_checked():
    """In a process of its own that may map 150 MB more than it has: each bomb is refused, and in a
    second.
    """
    code = "import test_hostile_messages as t; t.refuse_bombs()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=Path(__file__).parent,
        env={**os.environ, "PYTHONPATH": python_path()},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split("\n")[:-1] == [*BOMBS, "depth", "raw", "focal", "distortion"]


def refuse_bombs():
    import resource

    size = psutil.Process().memory_info().vms
    made = {name: bomb() for name, bomb in BOMBS.items()}
    resource.setrlimit(resource.RLIMIT_AS, (size + 150 * 2**20, resource.RLIM_INFINITY))
    for name, (data, width, height) in made.items():
        message = good(1, NOW_NS, JPEG)
        message.compressed_image.data = data
        message.camera_info.width, message.camera_info.height = width, height
        message.camera_info.k[:6] = [width, 0, width / 2, 0, width, height / 2]
        _refused(name, lambda: to_keyframe(message))
    depth = CompressedImage(
        format="32FC1; compressedDepth png", data=bytes(12) + png_bomb(16_384, 16_384, 16, 0)
    )
    _refused("depth", lambda: decompress_depth(depth))
    raw = Image(width=16_384, height=4096, step=2**32 - 1, encoding="rgb8", data=bytes(100))
    _refused("raw", lambda: images.to_rgb(raw))
    for name, change in (
        ("focal", lambda info: setattr(info, "k", np.full(9, np.nan))),
        ("distortion", lambda info: setattr(info, "d", [0.0] * 10**5)),
    ):
        message = good(1, NOW_NS)
        change(message.camera_info)
        _refused(name, lambda: to_keyframe(message))


def _refused(name, read):
    begin = time.monotonic()
    with pytest.raises(ValueError) as refusal:
        read()
    assert "decoded" not in str(refusal.value), name  # it was not even tried
    assert time.monotonic() - begin < 1.0, name
    print(name)


def test_positions_that_would_overflow_are_refused():
    message = good(1, NOW_NS)
    message.t_odom_camera.position.x = 1e300
    with pytest.raises(ValueError, match="t_odom_camera.position must be metres within"):
        to_keyframe(message)
    se3.check(to_keyframe(good(1, NOW_NS))[0].T_odom_cam)
