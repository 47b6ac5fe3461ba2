"""Fusion in its own process.

Open3D holds the interpreter lock during a call, for seconds with many keyframes, and would delay localization requests.
`python -m vggt3_ros.surface.fusion_process --channel FD` keeps one surface for its peer until the peer closes the
channel.

Requests (frames of system/wire.py) and their replies:
    {"begin": MapConfig values, "origin"}: start an empty surface and discard the old one
        -> {"begun": true}
    {"keyframe": id, "camera", "pose", "was"} with image and depth as payload: remove the keyframe
    at `was` (if given), then fuse it at `pose`
        -> {"fused": id}
    {"cloud": true}
        -> {"points": count} with points (relative to the origin), colors, confidence
On failure the reply is {"failed": text, "memory": whether memory ran out} and the process ends.
"""

import argparse
import logging
import os
import select
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any, NoReturn, Self, TypeAlias

import numpy as np

from vggt3_ros.config import MapConfig
from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import Camera
from vggt3_ros.geometry.local_frame import origin_near, too_far
from vggt3_ros.store.keyframe import Keyframe
from vggt3_ros.store.snapshot import PointMap
from vggt3_ros.system import memory_limits, wire
from vggt3_ros.system.child_process import ChildProcess

NICENESS = 10  # localization has priority
WAITING = 4  # keyframes in flight: decoded here while others are fused there
POLL_SECONDS = 0.1
SILENT_SECONDS = 120.0
# Typical distance of surfaces, as a share of map.max_depth: their motion per radian of rotation.
USUALLY = 0.5
DEAR = 3  # cost of moving a keyframe (remove, fuse) relative to fusing it afresh

_log = logging.getLogger(__name__)
Header: TypeAlias = dict[str, Any]  # of a wire frame: JSON values


class FusionError(RuntimeError):
    """The process failed, ended or hangs. keyframe: id of the keyframe that it was working on,
    None if none.
    """

    def __init__(self, message: str, keyframe: int | None = None) -> None:
        super().__init__(message)
        self.keyframe = keyframe


class FusionProcess:
    """A callable that fuses all keyframes in a child process and returns a PointMap.

    The result equals fusion.fuse() if no keyframe has moved. The surface persists between calls:
    new keyframes are added, keyframes that moved are removed and fused at their new poses. Not
    thread-safe. The process starts with start() or the first call. It ends with close(), when this
    object is collected, or when this process ends. silent_seconds: the process is considered hung
    and is killed if it neither replies nor accepts data for this long.
    """

    def __init__(self, silent_seconds: float = SILENT_SECONDS) -> None:
        self.silent_seconds = silent_seconds
        self._child: ChildProcess | None = None
        self._connection: socket.socket | None = None
        self._config: MapConfig | None = None
        self._origin: np.ndarray | None = None
        # keyframe id -> pose (4, 4) at which it is fused, None if it has no depth
        self._held: dict[int, np.ndarray | None] = {}
        self._owed = 0  # outstanding replies
        # keyframe id (or None) of each outstanding reply
        self._asked: deque[int | None] = deque()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """Process id, None if no process runs."""
        return None if self._child is None else self._child.pid

    def start(self) -> None:
        """Start the process unless it runs, so that Open3D is loaded before it is needed."""
        if self.pid is not None:
            return
        if self._child is not None:
            _log.warning(
                "the fusion process ended (%s): fusing the whole map again",
                self._child.end,
            )
            self.close()
        self._child = ChildProcess("vggt3_ros.surface.fusion_process")
        self._connection = self._child.connection

    def close(self) -> None:
        """End the process; its surface is lost."""
        if self._child is not None:
            self._child.close()
        self._child = self._connection = self._config = None
        self._held, self._owed = {}, 0
        self._asked.clear()

    def __call__(
        self,
        ids: Sequence[int],
        T_map_cam: np.ndarray,
        keyframe: Callable[[int], Keyframe],
        config: MapConfig,
        renewed: Collection[int] = (),
        progress: Callable[[float], object] | None = None,
    ) -> PointMap:
        """Update the surface to the given keyframes and return its PointMap.

        ids: of all keyframes; T_map_cam (N, 4, 4): their poses. keyframe(id): returns a Keyframe,
        called for those to be fused. renewed: ids whose depth has changed. progress(fraction) is
        called from time to time; an exception it raises propagates, and the next call continues
        from there. Raises FusionError if the process fails or hangs, MemoryError if it ran out of
        memory.
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
            stuck = self._asked[0] if self._asked else None
            self.close()
            raise FusionError(
                f"the fusion process neither accepted nor sent data for {self.silent_seconds:g} s",
                stuck,
            ) from error
        except FusionError:
            self.close()
            raise
        return _unpacked(header["points"], payload, origin)

    def _origin_for(self, positions: np.ndarray, config: MapConfig) -> np.ndarray:
        """Return the origin (3,) of the surface: near the first of the keyframe positions (N, 3),
        unchanged as long as the current one is close enough.
        """
        origin = origin_near(positions[0] if len(positions) else np.zeros(3), self._origin)
        far = too_far(positions, origin, config.voxel_size)
        if far.any():
            _log.warning(
                "%d of %d keyframes are too far from the first for one map (%.0f km or more): their surfaces are left out",
                far.sum(),
                len(far),
                np.abs(positions[far] - origin).max(axis=1).min() / 1000,
            )
        return origin

    def _fail(self, error: Exception) -> NoReturn:
        """Close the process and raise why it ended: its last message, or its exit status."""
        keyframe = self._asked[0] if self._asked else None
        assert self._connection is not None and self._child is not None
        try:
            while "failed" not in (header := wire.receive(self._connection)[0]):
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

    def _doubtful(
        self,
        ids: Sequence[int],
        T_map_cam: np.ndarray,
        renewed: Collection[int],
        config: MapConfig,
    ) -> bool:
        """Return whether the surface must be fused from scratch, or whether that is faster."""
        if not self._held.keys() <= set(ids) or any(
            self._held.get(i) is not None for i in renewed
        ):
            return True
        return DEAR * len(moved(self._held, ids, T_map_cam, config)) > len(ids)

    def _bring_up_to_date(
        self,
        ids: Sequence[int],
        T_map_cam: np.ndarray,
        keyframe: Callable[[int], Keyframe],
        renewed: Collection[int],
        config: MapConfig,
        progress: Callable[[float], object],
    ) -> None:
        """Send the keyframes that are new, have new depth, or moved, and wait until all are fused."""
        pose_of = dict(zip(ids, T_map_cam))
        todo = [i for i in ids if i not in self._held or i in renewed] + moved(
            self._held, ids, T_map_cam, config
        )

        def fused(sent: int) -> None:
            progress(max(0, sent - self._owed) / len(todo))

        for sent, i in enumerate(todo, 1):
            seen = keyframe(i)
            if seen.depth is None:
                self._held[i] = None
            else:
                self._send(seen, i, pose_of[i])
            while self._owed > WAITING:
                self._answer(partial(fused, sent))
        while self._owed:
            self._answer(partial(fused, len(todo)))

    def _send(self, keyframe: Keyframe, keyframe_id: int, pose: np.ndarray) -> None:
        """Send a keyframe to be fused at `pose`, and removed where it was."""
        assert keyframe.depth is not None
        header: Header = {
            "keyframe": keyframe_id,
            "camera": asdict(keyframe.camera),
            "pose": np.ravel(pose).tolist(),
        }
        was = self._held.get(keyframe_id)
        if was is not None:
            header["was"] = was.ravel().tolist()
        self._ask(
            header,
            np.ascontiguousarray(keyframe.image, np.uint8).tobytes()
            + np.ascontiguousarray(keyframe.depth, "<f4").tobytes(),
        )
        self._held[keyframe_id] = np.array(pose)

    def _ask(self, header: Header, payload: bytes = b"") -> None:
        """Send a request."""
        assert self._connection is not None  # after start()
        try:
            self._connection.settimeout(self.silent_seconds)
            wire.send(self._connection, header, payload)
        except (EOFError, ConnectionError, TimeoutError):
            raise
        except BaseException:
            self.close()  # a partial frame was sent: the stream is out of sync
            raise
        self._owed += 1
        self._asked.append(header.get("keyframe"))

    def _answer(self, waiting: Callable[[], object]) -> tuple[Header, bytearray]:
        """Return the next reply; waiting() is called periodically until it arrives."""
        assert self._connection is not None  # after start()
        waiting()
        silent_since = time.monotonic()
        while not select.select([self._connection], [], [], POLL_SECONDS)[0]:
            waiting()
            if time.monotonic() - silent_since > self.silent_seconds:
                raise FusionError(
                    f"the fusion process gave no reply for {self.silent_seconds:g} s",
                    self._asked[0],
                )
        self._connection.settimeout(self.silent_seconds)
        answer: tuple[Header, bytearray] = wire.receive(self._connection)
        if "failed" in answer[0]:
            raise (
                MemoryError(answer[0]["failed"])
                if answer[0]["memory"]
                else FusionError(answer[0]["failed"], self._asked[0])
            )
        self._owed -= 1
        self._asked.popleft()
        return answer


def moved(
    held: Mapping[int, np.ndarray | None],
    ids: Sequence[int],
    T_map_cam: np.ndarray,
    config: MapConfig,
) -> list[int]:
    """Return those of the `ids`, held at {id: pose or None}, whose surfaces moved by more than
    MapConfig's `moved` when their poses become T_map_cam (N, 4, 4).
    """
    known = [k for k, i in enumerate(ids) if held.get(i) is not None]
    if not known:
        return []
    motion = se3.inverse(np.array([held[ids[k]] for k in known])) @ np.asarray(T_map_cam)[known]
    turned = USUALLY * config.max_depth * se3.rotation_angle(motion)
    far = np.linalg.norm(motion[:, :3, 3], axis=1) + turned > config.moved
    return [ids[k] for k, is_far in zip(known, far) if is_far]


def serve(connection: socket.socket) -> None:
    """Answer requests from `connection`, with one surface, until it is closed."""
    from vggt3_ros.surface.fusion import Surface

    surface: Surface | None = None
    while True:
        header, payload = wire.receive(connection)
        if "begin" in header:
            surface = None  # free its memory before allocating the next
            surface = Surface(MapConfig(**header["begin"]), np.array(header["origin"]))
            wire.send(connection, {"begun": True})
        elif surface is None:
            raise ValueError("the first request must be begin")
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


def _received(header: Header, payload: bytearray) -> Keyframe:
    """Decode a keyframe request."""
    camera = Camera(**header["camera"])
    size = camera.height * camera.width
    image = np.frombuffer(payload, np.uint8, 3 * size).reshape(camera.height, camera.width, 3)
    depth = np.frombuffer(payload, "<f4", size, 3 * size).reshape(camera.height, camera.width)
    return Keyframe(header["keyframe"], 0, image, camera, np.eye(4), depth)


def _packed(cloud: PointMap) -> bytes:
    """Encode the points relative to the origin, the colors and the confidence of a PointMap."""
    return (
        cloud.around_origin.astype("<f4").tobytes()
        + cloud.colors.tobytes()
        + cloud.confidence.astype("<f4").tobytes()
    )


def _unpacked(count: int, payload: bytes, origin: np.ndarray) -> PointMap:
    """Decode the payload of a cloud reply."""
    points = np.frombuffer(payload, "<f4", 3 * count).reshape(-1, 3)
    colors = np.frombuffer(payload, np.uint8, 3 * count, 12 * count).reshape(-1, 3)
    return PointMap.around(
        origin, points, colors, np.frombuffer(payload, "<f4", count, 15 * count)
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Serve the socket given by --channel."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--channel", required=True, type=int, help="file descriptor of the connected socket"
    )
    arguments = parser.parse_args(argv)
    os.nice(NICENESS)
    # Ctrl-C is handled by the parent process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection = socket.socket(fileno=arguments.channel)
    try:
        serve(connection)
    except (EOFError, ConnectionError):
        pass  # the peer is gone
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
