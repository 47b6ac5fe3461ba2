"""Contenders for tests of what runs and scores them: one that knows, others that fail in their
ways.
"""

import hashlib
import os
import subprocess
import sys
import time

import numpy as np

from vggt3_ros.benchmarks.peers.outcome import Outcome


def knows(given, folder, metres=0.0):
    """The given poses, off by noise of so many metres; the note tells what was seen."""
    rng = np.random.default_rng(0)
    poses = given.poses.copy()
    poses[:, :3, 3] += rng.normal(0, metres, (len(poses), 3)) if metres else 0
    return Outcome(poses, np.zeros(len(given), int), True, 1.0, 0.5, note=seen(given))


def seen(given):
    """A digest of everything that a contender can read."""
    digest = hashlib.sha256(repr((given.camera, given.keyframes)).encode())
    for shot in (*given.frames, *given.queries):
        digest.update(str(shot.stamp_ns).encode() + given.image(shot).tobytes())
        depth = given.depth(shot)
        digest.update(b"" if depth is None else depth.tobytes())
    return digest.hexdigest()


def fails(given, folder):
    raise ValueError("no feature was found in any image")


def breaks(given, folder):
    return given.nothing_of_the_kind


def dies(given, folder):
    os.abort()


def answers_nonsense(given, folder):
    return Outcome(np.zeros((1, 2)), np.zeros(1, int), True, 1.0, 1.0)


def hangs(given, folder, told):
    """With a child, whose id goes to the file `told`."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    with open(told, "w") as file:
        file.write(str(child.pid))
    time.sleep(600)


def fills_memory_in_a_child(given, folder, megabytes):
    code = f"import time; held = b'1' * ({megabytes} * 2**20); time.sleep(2)"
    subprocess.run([sys.executable, "-c", code], check=True)
    return knows(given, folder)
