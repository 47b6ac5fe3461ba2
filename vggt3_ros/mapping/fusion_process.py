"""Fusion in a process of its own: Open3D holds the interpreter for as long as a call takes, seconds with many keyframes, and an image
to localize would have to wait for it. `python -m vggt3_ros.mapping.fusion_process --channel FD` serves one fusion.

Frames (frames.py) from it: {"fused": 0} when it has loaded; to it: {"config", "keyframes"}, then for each {"camera", "pose"} with image
and depth as payload, or {} without depth; from it: {"fused": count} after each, at last {"points": count} with points, colors, confidence.
"""

import argparse
import os
import select
import signal
import socket
import subprocess
import sys
from dataclasses import asdict
from types import SimpleNamespace

import numpy as np

from vggt3_ros import frames
from vggt3_ros.config import MapConfig
from vggt3_ros.environment import worker_environment
from vggt3_ros.geometry.camera import Camera
from vggt3_ros.mapping.keyframe import Keyframe
from vggt3_ros.mapping.snapshot import PointMap

NICENESS = 10  # a localization goes first
WAITING = 4  # keyframes on their way: decoded here while fused there
POLL_SECONDS = 0.1


class FusionProcess:
    """with FusionProcess() as fusion: fusion(keyframes, T_map_cam, config, progress), the same as fusion.fuse(). Started early, it has
    loaded Open3D when it is needed; leaving ends it, also in the middle of a fusion. Once only."""

    def __enter__(self):
        self._ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-P", "-m", "vggt3_ros.mapping.fusion_process", "--channel", str(theirs.fileno())]
            self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=worker_environment(), stdin=subprocess.DEVNULL)
        return self

    def __exit__(self, *exception):
        self._ours.close()
        self._process.kill()
        self._process.wait()

    def __call__(self, keyframes, T_map_cam, config, progress=None):
        """RuntimeError when the process ended, as it does when memory runs out; what progress raises passes."""
        total = len(T_map_cam)
        try:
            self._answer(lambda: progress and progress(0.0))  # it has loaded
            frames.send(self._ours, {"config": asdict(config), "keyframes": total})
            fused = 0
            for sent, (keyframe, pose) in enumerate(zip(keyframes, T_map_cam), 1):
                self._send(keyframe, pose)
                while sent - fused > WAITING:
                    fused = self._fused(fused, total, progress)
            while fused < total:
                fused = self._fused(fused, total, progress)
            header, payload = self._answer(lambda: progress and progress(1.0))
        except (EOFError, ConnectionError) as error:
            raise RuntimeError(f"the fusion process ended (exit status {self._process.wait()}): {error}") from error
        return _unpacked(header["points"], payload)

    def _send(self, keyframe, pose):
        if keyframe.depth is None:
            frames.send(self._ours, {})
        else:
            header = {"camera": asdict(keyframe.camera), "pose": np.ravel(pose).tolist()}
            frames.send(self._ours, header, np.ascontiguousarray(keyframe.image, np.uint8).tobytes()
                        + np.ascontiguousarray(keyframe.depth, "<f4").tobytes())

    def _fused(self, so_far, total, progress):
        header, _ = self._answer(lambda: progress and progress(so_far / total))
        return header["fused"]

    def _answer(self, waiting):
        """The next frame from it; waiting() is called now and then until it is there."""
        waiting()
        while not select.select([self._ours], [], [], POLL_SECONDS)[0]:
            waiting()
        return frames.receive(self._ours)


def serve(connection):
    """One fusion for whoever is at the other end of `connection`."""
    from vggt3_ros.mapping.fusion import fuse

    frames.send(connection, {"fused": 0})
    header, _ = frames.receive(connection)
    poses = _Poses(header["keyframes"])

    def progress(fraction):
        frames.send(connection, {"fused": round(fraction * len(poses))})

    cloud = fuse((_receive(connection, poses) for _ in range(len(poses))), poses, MapConfig(**header["config"]), progress=progress)
    frames.send(connection, {"points": len(cloud)}, _packed(cloud))


class _Poses:
    """As many poses as keyframes will arrive; each is known when its keyframe is."""

    def __init__(self, count):
        self._count, self.newest = count, np.eye(4)

    def __len__(self):
        return self._count

    def __iter__(self):
        while True:
            yield self.newest


def _receive(connection, poses):
    header, payload = frames.receive(connection)
    if "camera" not in header:
        return SimpleNamespace(depth=None)
    camera, poses.newest = Camera(**header["camera"]), np.array(header["pose"]).reshape(4, 4)
    size = camera.height * camera.width
    image = np.frombuffer(payload, np.uint8, 3 * size).reshape(camera.height, camera.width, 3)
    depth = np.frombuffer(payload, "<f4", size, 3 * size).reshape(camera.height, camera.width)
    return Keyframe(0, 0, image, camera, poses.newest, depth)


def _packed(cloud):
    return cloud.points.astype("<f4").tobytes() + cloud.colors.tobytes() + cloud.confidence.astype("<f4").tobytes()


def _unpacked(count, payload):
    points = np.frombuffer(payload, "<f4", 3 * count).reshape(-1, 3)
    colors = np.frombuffer(payload, np.uint8, 3 * count, 12 * count).reshape(-1, 3)
    return PointMap(points, colors, np.frombuffer(payload, "<f4", count, 15 * count))


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--channel", required=True, type=int, help="file descriptor of the connected socket")
    arguments = parser.parse_args(argv)
    os.nice(NICENESS)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for the process that waits for this one
    try:
        serve(socket.socket(fileno=arguments.channel))
    except (EOFError, ConnectionError):
        sys.exit(1)  # nobody waits for it any more


if __name__ == "__main__":
    main()
