"""Fusion in a process of its own: Open3D holds the interpreter for as long as a call takes,
seconds with many keyframes, and an image to localize would have to wait for it. `python -m
vggt3_ros.surface.fusion_process --channel FD` keeps one surface for whoever is at the other end,
until that closes the channel.

Frames (system/wire.py) to it, each answered:
    {"begin": MapConfig values, "origin"}       an empty surface, and the old one forgotten
    -> {"begun": true} {"keyframe": id, "camera", "pose", "was"}   image and depth as payload:
    taken out at `was` (if given), fused at `pose` -> {"fused": id} {"cloud": true}
    -> {"points": count} with points (from the origin on), colors, confidence
or by {"failed": text, "memory": whether it ran out}, after which it ends.
"""

import argparse
import logging
import os
import select
import signal
import socket
import time
from collections import deque
from dataclasses import asdict

import numpy as np

from vggt3_ros.config import MapConfig
from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import Camera
from vggt3_ros.geometry.local_frame import origin_near, too_far
from vggt3_ros.store.keyframe import Keyframe
from vggt3_ros.store.snapshot import PointMap
from vggt3_ros.system import memory_limits, wire
from vggt3_ros.system.child_process import ChildProcess

NICENESS = 10  # a localization goes first
WAITING = 4  # keyframes on their way: decoded here while fused there
POLL_SECONDS = 0.1
SILENT_SECONDS = 120.0
# of map.max_depth, where surfaces usually are: a turn moves them by so much a radian
USUALLY = 0.5
DEAR = 3  # keyframes fused anew in the time that one takes to be taken out and fused again

_log = logging.getLogger(__name__)


class FusionError(RuntimeError):
    """The process failed, ended or hangs. keyframe: id of the one that it was at, None: of
    none.
    """

    def __init__(self, message, keyframe=None):
        super().__init__(message)
        self.keyframe = keyframe


class FusionProcess:
    """fusion(ids, T_map_cam, keyframe, config, ...) -> PointMap of all keyframes, the same as
    fusion.fuse() gives where none had moved.

    The surface stays between calls: new keyframes are fused into it, those that moved are taken
    out where they were and fused where they are. One thread at a time. The process starts with
    start() or the first call and ends with close(), or when this is collected or its process ends.
    silent_seconds: when it gives no answer, or takes nothing, for so long it is taken to hang, and
    ended.
    """

    def __init__(self, silent_seconds=SILENT_SECONDS):
        self.silent_seconds = silent_seconds
        self._child = self._ours = self._config = self._origin = None
        self._held = {}  # keyframe id -> pose (4, 4) it is fused at, None: it has no depth
        self._owed = 0  # answers on their way that nobody waits for any more
        self._asked = deque()  # what they answer: a keyframe's id or None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *exception):
        self.close()

    @property
    def pid(self):
        """Of the process, None while there is none."""
        return None if self._child is None else self._child.pid

    def start(self):
        """Start the process where none runs: it has loaded Open3D when it is needed."""
        if self.pid is not None:
            return
        if self._child is not None:
            _log.warning(
                "the fusion process ended (%s): the map is fused from its beginning",
                self._child.end,
            )
            self.close()
        self._child = ChildProcess("vggt3_ros.surface.fusion_process")
        self._ours = self._child.connection

    def close(self):
        """End the process, and with it the surface."""
        if self._child is not None:
            self._child.close()
        self._child = self._ours = self._config = None
        self._held, self._owed = {}, 0
        self._asked.clear()

    def __call__(self, ids, T_map_cam, keyframe, config, renewed=(), progress=None):
        """ids of all keyframes that there are; T_map_cam (N, 4, 4); keyframe(id) -> Keyframe,
        asked for those to be fused; config: MapConfig; renewed: ids whose depth is not what it
        was. progress(fraction) is called now and then; what it raises passes, and the next call
        goes on from there. FusionError when the process fails or hangs, MemoryError when memory
        ran out in it.
        """
        self.start()
        try:
            while self._owed:
                self._answer(lambda: progress and progress(0.0))
            origin = self._origin_for(
                np.asarray(T_map_cam, float).reshape(-1, 4, 4)[:, :3, 3], config
            )
            if (
                config != self._config
                or origin is not self._origin
                or self._doubtful(ids, T_map_cam, renewed, config)
            ):
                self._config, self._origin, self._held = config, origin, {}
                self._ask({"begin": asdict(config), "origin": origin.tolist()})
                self._answer(lambda: progress and progress(0.0))
            self._bring_up_to_date(
                ids, T_map_cam, keyframe, renewed, config, progress or (lambda fraction: None)
            )
            self._ask({"cloud": True})
            header, payload = self._answer(lambda: progress and progress(1.0))
        except (EOFError, ConnectionError) as error:
            self._fail(error)
        except TimeoutError as error:  # in the middle of a frame
            keyframe = self._asked[0] if self._asked else None
            self.close()
            raise FusionError(
                f"the fusion process took or sent nothing for {self.silent_seconds:g} s", keyframe
            ) from error
        except FusionError:
            self.close()
            raise
        return _unpacked(header["points"], payload, self._origin)

    def _origin_for(self, positions, config):
        """(3,) that the surface is kept from: near the first of the keyframes at `positions` (N,
        3), the same as long as that will do.
        """
        origin = origin_near(positions[0] if len(positions) else np.zeros(3), self._origin)
        far = too_far(positions, origin, config.voxel_size)
        if far.any():
            _log.warning(
                "%d of %d keyframes lie too far from the first for one map (%.0f km and more): no surface of theirs is in it",
                far.sum(),
                len(far),
                np.abs(positions[far] - origin).max(axis=1).min() / 1000,
            )
        return origin

    def _fail(self, error):
        """Raise why the process ended: what it said last, or how."""
        keyframe = self._asked[0] if self._asked else None
        try:
            while "failed" not in (header := wire.receive(self._ours)[0]):
                pass
            text, memory = header["failed"], header["memory"]
        except (EOFError, OSError):
            self._child.wait()
            text, memory = (
                f"the fusion process ended ({self._child.end}): {error}",
                self._child.killed_for_memory,
            )
        self.close()
        raise (MemoryError(text) if memory else FusionError(text, keyframe)) from error

    def _doubtful(self, ids, T_map_cam, renewed, config):
        """Whether the surface has to be fused from its beginning, or that is faster."""
        if not self._held.keys() <= set(ids) or any(
            self._held.get(i) is not None for i in renewed
        ):
            return True
        return DEAR * len(moved(self._held, ids, T_map_cam, config)) > len(ids)

    def _bring_up_to_date(self, ids, T_map_cam, keyframe, renewed, config, progress):
        pose_of = dict(zip(ids, T_map_cam))
        todo = [i for i in ids if i not in self._held or i in renewed] + moved(
            self._held, ids, T_map_cam, config
        )
        for sent, i in enumerate(todo, 1):
            seen = keyframe(i)
            if seen.depth is None:
                self._held[i] = None
            else:
                self._send(seen, i, pose_of[i])
            while self._owed > WAITING:
                self._answer(lambda sent=sent: progress(max(0, sent - self._owed) / len(todo)))
        while self._owed:
            self._answer(lambda: progress(max(0, len(todo) - self._owed) / len(todo)))

    def _send(self, keyframe, keyframe_id, pose):
        header = {
            "keyframe": keyframe_id,
            "camera": asdict(keyframe.camera),
            "pose": np.ravel(pose).tolist(),
        }
        if self._held.get(keyframe_id) is not None:
            header["was"] = self._held[keyframe_id].ravel().tolist()
        self._ask(
            header,
            np.ascontiguousarray(keyframe.image, np.uint8).tobytes()
            + np.ascontiguousarray(keyframe.depth, "<f4").tobytes(),
        )
        self._held[keyframe_id] = np.array(pose)

    def _ask(self, header, payload=b""):
        try:
            self._ours.settimeout(self.silent_seconds)
            wire.send(self._ours, header, payload)
        except (EOFError, ConnectionError, TimeoutError):
            raise
        except BaseException:
            self.close()  # half a frame is on its way: what follows would not be understood
            raise
        self._owed += 1
        self._asked.append(header.get("keyframe"))

    def _answer(self, waiting):
        """The next frame from it; waiting() is called now and then until it is there."""
        waiting()
        silent_since = time.monotonic()
        while not select.select([self._ours], [], [], POLL_SECONDS)[0]:
            waiting()
            if time.monotonic() - silent_since > self.silent_seconds:
                raise FusionError(
                    f"the fusion process gave no answer for {self.silent_seconds:g} s",
                    self._asked[0],
                )
        self._ours.settimeout(self.silent_seconds)
        answer = wire.receive(self._ours)
        if "failed" in answer[0]:
            raise (
                MemoryError(answer[0]["failed"])
                if answer[0]["memory"]
                else FusionError(answer[0]["failed"], self._asked[0])
            )
        self._owed -= 1
        self._asked.popleft()
        return answer


def moved(held, ids, T_map_cam, config):
    """Those of the ids, held at {id: pose or None}, whose surfaces moved by more than MapConfig's
    `moved` to T_map_cam (N, 4, 4).
    """
    known = [k for k, i in enumerate(ids) if held.get(i) is not None]
    if not known:
        return []
    motion = se3.inverse(np.array([held[ids[k]] for k in known])) @ np.asarray(T_map_cam)[known]
    turned = USUALLY * config.max_depth * se3.rotation_angle(motion)
    far = np.linalg.norm(motion[:, :3, 3], axis=1) + turned > config.moved
    return [ids[k] for k, is_far in zip(known, far) if is_far]


def serve(connection):
    """One surface for whoever is at the other end of `connection`."""
    from vggt3_ros.surface.fusion import Surface

    surface = None
    while True:
        header, payload = wire.receive(connection)
        if "begin" in header:
            surface = None  # before there is another
            surface = Surface(MapConfig(**header["begin"]), header["origin"])
            wire.send(connection, {"begun": True})
        elif "keyframe" in header:
            keyframe = _received(header, payload)
            if "was" in header:
                surface.remove(keyframe, np.array(header["was"]).reshape(4, 4))
            surface.add(keyframe, np.array(header["pose"]).reshape(4, 4))
            wire.send(connection, {"fused": header["keyframe"]})
        else:
            cloud = surface.cloud()
            wire.send(connection, {"points": len(cloud)}, _packed(cloud))
            del cloud
            memory_limits.give_back()


def _received(header, payload):
    camera = Camera(**header["camera"])
    size = camera.height * camera.width
    image = np.frombuffer(payload, np.uint8, 3 * size).reshape(camera.height, camera.width, 3)
    depth = np.frombuffer(payload, "<f4", size, 3 * size).reshape(camera.height, camera.width)
    return Keyframe(header["keyframe"], 0, image, camera, np.eye(4), depth)


def _packed(cloud):
    return (
        cloud.around_origin.astype("<f4").tobytes()
        + cloud.colors.tobytes()
        + cloud.confidence.astype("<f4").tobytes()
    )


def _unpacked(count, payload, origin):
    points = np.frombuffer(payload, "<f4", 3 * count).reshape(-1, 3)
    colors = np.frombuffer(payload, np.uint8, 3 * count, 12 * count).reshape(-1, 3)
    return PointMap.around(
        origin, points, colors, np.frombuffer(payload, "<f4", count, 15 * count)
    )


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--channel", required=True, type=int, help="file descriptor of the connected socket"
    )
    arguments = parser.parse_args(argv)
    os.nice(NICENESS)
    # a Ctrl-C is for the process that waits for this one
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection = socket.socket(fileno=arguments.channel)
    try:
        serve(connection)
    except (EOFError, ConnectionError):
        pass  # nobody waits for it any more
    except Exception as error:
        wire.send(
            connection,
            {
                "failed": f"fusion: {type(error).__name__}: {error}",
                "memory": memory_limits.out_of_memory(error),
            },
        )
        raise


if __name__ == "__main__":
    main()
