"""The result of one refinement: immutable, numbered, readable without torch."""

import json
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from vggt3_ros.geometry import se3
from vggt3_ros.geometry.se3 import Floats
from vggt3_ros.store import durable
from vggt3_ros.store.arrays import disk_errors, load_arrays, save_arrays
from vggt3_ros.store.keyframes import KeyframeStore
from vggt3_ros.store.npz import load_npz

FORMAT = 4
# 1: one session, one memory of all keyframes; 2: several; 3: as 2, but the points are relative to
# an origin; 4: as 3, with the arrays in a safetensors file
READABLE = 1, 2, 3, 4
MAX_TEXT_BYTES = 2**28  # of snapshot.json
SHAPES = {
    "keyframe_ids": ("i8", ("N",)),
    "stamps_ns": ("i8", ("N",)),
    "T_map_cam": ("f8", ("N", 4, 4)),
    "T_odom_cam": ("f8", ("N", 4, 4)),
    "covariances": ("f8", ("N", 6, 6)),
    "loop_motions": ("f8", ("L", 4, 4)),
    "loop_information": ("f8", ("L", 6, 6)),
    "points": ("f4", ("M", 3)),
    "colors": ("u1", ("M", 3)),
    "confidence": ("f4", ("M",)),
    "sessions": ("i8", ("N",)),
    "origin": ("f8", (3,)),
}
ARRAYS_FILE = "arrays.safetensors"
OLD_ARRAYS_FILE = "arrays.npz"  # of formats 1 to 3
PLACES_FILE = "places.safetensors"
MEMORY_FILE = "slots.safetensors"
# MLPs written by older versions; the memory is rebuilt from the keyframes
OLD_MEMORIES = "memory.safetensors", "submaps"


@dataclass(frozen=True, eq=False)
class PointMap:
    """A point cloud: points (M, 3), metres in the map frame, colors (M, 3) uint8 RGB, confidence
    (M,) float32 in [0, 1].

    origin (3,) float64, metres in the map frame. If it is zero, the points are float32. In
    coordinates that float32 cannot represent (UTM) they are float64; :attr:`around_origin` then
    returns the float32 points as fused.
    """

    points: np.ndarray
    colors: np.ndarray
    confidence: np.ndarray
    origin: np.ndarray = field(default_factory=lambda: np.zeros(3))

    def __len__(self) -> int:
        return len(self.points)

    @classmethod
    def around(
        cls, origin: np.ndarray, points: np.ndarray, colors: np.ndarray, confidence: np.ndarray
    ) -> "PointMap":
        """Build a map from points (M, 3) float32 relative to `origin` (3,)."""
        return cls(
            points + origin if np.any(origin) else points,
            colors,
            confidence,
            np.array(origin, float),
        )

    @property
    def around_origin(self) -> np.ndarray:
        """The points relative to `origin` as fused, (M, 3) float32."""
        return (
            (self.points - self.origin).astype(np.float32)
            if self.origin.any()
            else np.asarray(self.points, np.float32)
        )

    def thinned(self, most: int) -> "PointMap":
        """Return a uniform random sample of `most` points; the map itself if it has no more."""
        if len(self) <= most:
            return self
        keep = np.sort(np.random.default_rng(0).choice(len(self), most, replace=False))
        return PointMap(self.points[keep], self.colors[keep], self.confidence[keep], self.origin)


NO_CLOUD = PointMap(
    np.zeros((0, 3), np.float32), np.zeros((0, 3), np.uint8), np.zeros(0, np.float32)
)


@dataclass(frozen=True, eq=False)
class Loop:
    """One loop candidate and its verification. source_id, target_id: keyframe ids.

    T_source_target: measured motion (4, 4), from the target camera to the source camera, None if
    the matches agree on none. A rejected loop may have one, which the next refinement tests again.
    information: (6, 6) inverse covariance of the motion. reason: why it was rejected, empty if
    accepted. origin: what proposed it (memory, network, proximity, place, sequence). inliers:
    matches that agree with the motion. residual_m, residual_rad: its difference from the solved
    graph.
    """

    source_id: int
    target_id: int
    accepted: bool
    reason: str
    origin: str
    inliers: int
    T_source_target: np.ndarray | None = None
    information: np.ndarray | None = None
    residual_m: float = float("nan")
    residual_rad: float = float("nan")


class Saved(Protocol):
    """What is saved beside a snapshot: its SceneMemory and PlaceIndex."""

    def save(self, path: Path) -> object:
        """Write one file."""


_ONE_SESSION = np.empty(0, np.int64)  # default of `sessions`, replaced by `session`


@dataclass(frozen=True, eq=False)
class Snapshot:
    """The refined state at one moment. A snapshot is never modified after it is published.

    keyframe_ids, stamps_ns (N,) int64; T_map_cam, T_odom_cam (N, 4, 4); covariances (N, 6, 6) of
    T_map_cam in the map frame, x y z rotX rotY rotZ (ROS convention). seconds: duration by stage
    name. report: figures for users (counts, residuals, peak memory). sessions (N,) int64: the
    session of each keyframe; default: all `session`. session: the current session, which
    may have no keyframe here yet.
    """

    generation: int
    keyframe_ids: np.ndarray
    stamps_ns: np.ndarray
    T_map_cam: np.ndarray
    T_odom_cam: np.ndarray
    covariances: np.ndarray
    loops: tuple[Loop, ...]
    cloud: PointMap
    seconds: dict[str, float] = field(default_factory=dict)
    report: dict[str, Any] = field(default_factory=dict)
    sessions: np.ndarray = field(default_factory=lambda: _ONE_SESSION)
    session: int = 0

    def __post_init__(self) -> None:
        if self.sessions is _ONE_SESSION:
            object.__setattr__(
                self, "sessions", np.full(len(self.keyframe_ids), self.session, np.int64)
            )

    def __len__(self) -> int:
        return len(self.keyframe_ids)

    @property
    def newest(self) -> int:
        """The index of the newest keyframe of the last session."""
        return int(np.lexsort((self.stamps_ns, self.sessions))[-1])

    @property
    def places_odometry(self) -> bool:
        """Whether the map has keyframes of the current session, so that T_map_odom applies to its
        odometry.
        """
        return bool((self.sessions == self.session).any())

    @property
    def T_map_odom(self) -> Floats:
        """The transform map->odom (REP 105), (4, 4): T_map_cam @ T_odom_cam^-1 of the newest
        keyframe.
        """
        newest = self.newest
        return se3.orthonormalize(self.T_map_cam[newest] @ se3.inverse(self.T_odom_cam[newest]))

    def save(
        self, folder: str | Path, memory: Saved | None = None, places: Saved | None = None
    ) -> None:
        """Write the snapshot into `folder`, which must not exist, with its SceneMemory and
        PlaceIndex if given. The folder appears complete or not at all, even if the process is
        killed or the power is cut.
        """
        folder = Path(folder)
        partial = folder.with_name(folder.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        try:
            durable.make_folder(folder.parent)
            partial.mkdir()
            self._write(partial)
            with disk_errors(partial):
                if memory is not None:
                    memory.save(partial / MEMORY_FILE)
                if places is not None:
                    places.save(partial / PLACES_FILE)
            durable.rename(partial, folder)
        except BaseException:
            # on a full disk, the next keyframe needs the space
            shutil.rmtree(partial, ignore_errors=True)
            raise

    def _write(self, folder: Path) -> None:
        """Write the arrays and the text, without memory and places."""
        measured = [loop for loop in self.loops if loop.T_source_target is not None]
        arrays = {
            "keyframe_ids": self.keyframe_ids,
            "stamps_ns": self.stamps_ns,
            "T_map_cam": self.T_map_cam,
            "T_odom_cam": self.T_odom_cam,
            "covariances": self.covariances,
            "sessions": self.sessions,
            "loop_motions": np.array([loop.T_source_target for loop in measured]).reshape(
                -1, 4, 4
            ),
            "loop_information": np.array([loop.information for loop in measured]).reshape(
                -1, 6, 6
            ),
            "points": self.cloud.around_origin,
            "colors": self.cloud.colors,
            "confidence": self.cloud.confidence,
            "origin": self.cloud.origin,
        }
        save_arrays(folder / ARRAYS_FILE, arrays)
        loops = [
            {
                "source": loop.source_id,
                "target": loop.target_id,
                "accepted": loop.accepted,
                "reason": loop.reason,
                "measured": loop.T_source_target is not None,
                "origin": loop.origin,
                "inliers": loop.inliers,
                "residual_m": loop.residual_m,
                "residual_rad": loop.residual_rad,
            }
            for loop in self.loops
        ]
        text = {
            "format": FORMAT,
            "generation": self.generation,
            "session": self.session,
            "loops": loops,
            "seconds": self.seconds,
            "report": self.report,
        }
        # json.dump would not use the C encoder
        (folder / "snapshot.json").write_text(json.dumps(text))

    @classmethod
    def of(cls, store: KeyframeStore, folder: str | Path) -> "Snapshot":
        """Load a snapshot of a store and set its current session. Raises ValueError as :meth:`load`
        does, or if the store lacks keyframes of the snapshot: it is of another map, or older than
        a reset.
        """
        snapshot = cls.load(folder)
        lacking = store.lacks(snapshot.keyframe_ids, snapshot.stamps_ns)
        if lacking:
            raise ValueError(
                f"{folder} does not belong to this store: {lacking} of its {len(snapshot)} keyframes are missing there"
            )
        return replace(snapshot, session=store.session)

    @staticmethod
    def renumber(folder: str | Path, generation: int) -> None:
        """Change the generation of a saved snapshot that nobody reads yet."""
        path = Path(folder) / "snapshot.json"
        path.write_text(
            json.dumps({**json.loads(path.read_text()), "generation": int(generation)})
        )

    @classmethod
    def forget_cloud(cls, folder: str | Path) -> None:
        """Empty the cloud of a saved snapshot that nobody reads yet; its other files stay as they
        are.
        """
        snapshot = cls.load(folder)
        (Path(folder) / OLD_ARRAYS_FILE).unlink(missing_ok=True)
        empty = replace(NO_CLOUD, origin=snapshot.cloud.origin)
        replace(snapshot, cloud=empty)._write(Path(folder))

    @staticmethod
    def remove(folder: str | Path) -> None:
        """Delete a saved snapshot. A reader that has loaded it is not affected."""
        shutil.rmtree(folder, ignore_errors=True)

    @classmethod
    def load(cls, folder: str | Path) -> "Snapshot":
        """Read what :meth:`save` wrote. Raises ValueError if it is damaged, incomplete or of another
        format.
        """
        folder = Path(folder)
        try:
            text = _read_text(folder / "snapshot.json")
            old = text["format"] == 1
            arrays, session = (
                _checked(_read_arrays(folder, text["format"])),
                0 if old else _count(text["session"]),
            )
            for row in text["loops"]:
                row.setdefault(
                    "measured", row["accepted"]
                )  # older versions kept no motion of rejected loops
            if sum(bool(row["measured"]) for row in text["loops"]) != len(arrays["loop_motions"]):
                raise ValueError("some of its loops are missing")
            if any(row["accepted"] and not row["measured"] for row in text["loops"]):
                raise ValueError("it accepts loops without a measured motion")
            measured = iter(zip(arrays["loop_motions"], arrays["loop_information"]))
            loops = []
            for row in text["loops"]:
                motion, information = next(measured) if row["measured"] else (None, None)
                loops.append(
                    Loop(
                        _count(row["source"], 2**63),
                        _count(row["target"], 2**63),
                        bool(row["accepted"]),
                        str(row["reason"]),
                        str(row["origin"]),
                        _count(row["inliers"]),
                        motion,
                        information,
                        float(row["residual_m"]),
                        float(row["residual_rad"]),
                    )
                )
            return cls(
                generation=_count(text["generation"]),
                keyframe_ids=arrays["keyframe_ids"],
                stamps_ns=arrays["stamps_ns"],
                T_map_cam=arrays["T_map_cam"],
                T_odom_cam=arrays["T_odom_cam"],
                covariances=arrays["covariances"],
                loops=tuple(loops),
                cloud=PointMap.around(
                    arrays["origin"], arrays["points"], arrays["colors"], arrays["confidence"]
                ),
                seconds=text["seconds"],
                report=text["report"],
                sessions=arrays["sessions"],
                session=session,
            )
        except (
            OSError,
            KeyError,
            StopIteration,
            TypeError,
            ValueError,
            OverflowError,
            RecursionError,
            MemoryError,
        ) as error:
            raise ValueError(f"{folder} is not a readable snapshot: {error}") from error


def _read_text(path: Path) -> dict[str, Any]:
    """Read snapshot.json. Raises ValueError if it is too long or of another format."""
    if path.stat().st_size > MAX_TEXT_BYTES:
        raise ValueError(f"{path.name} has more than {MAX_TEXT_BYTES} bytes")
    text = json.loads(path.read_text())
    if not isinstance(text, dict):
        raise ValueError(f"{path.name} must hold an object, got {type(text).__name__}")
    if text["format"] not in READABLE:
        raise ValueError(
            f"format {text['format']}; this version reads {', '.join(map(str, READABLE))}"
        )
    if not (
        isinstance(text["loops"], list)
        and isinstance(text["seconds"], dict)
        and isinstance(text["report"], dict)
    ):
        raise ValueError(f"{path.name} does not describe a snapshot")
    return text


def _read_arrays(folder: Path, version: int) -> dict[str, np.ndarray]:
    """Return {name: array} of SHAPES from the file of that format."""
    if version == FORMAT:
        return load_arrays(folder / ARRAYS_FILE, SHAPES)[0]
    lacking = {1: ("sessions", "origin"), 2: ("origin",)}.get(version, ())
    arrays = load_npz(folder / OLD_ARRAYS_FILE, [name for name in SHAPES if name not in lacking])
    arrays.setdefault("sessions", np.zeros(arrays["keyframe_ids"].shape, np.int64))
    arrays.setdefault("origin", np.zeros(3))
    return arrays


def _checked(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the arrays of a snapshot after checking that types and shapes agree and that poses
    are rigid. Raises ValueError otherwise.
    """
    sizes: dict[str, int] = {}
    for name, (dtype, shape) in SHAPES.items():
        array = arrays[name]
        fits = array.ndim == len(shape) and all(
            sizes.setdefault(want, have) == have if isinstance(want, str) else want == have
            for want, have in zip(shape, array.shape)
        )
        if array.dtype != np.dtype(dtype) or not fits:
            raise ValueError(f"{name} must be {dtype} {shape}, got {array.dtype} {array.shape}")
    for name in ("T_map_cam", "T_odom_cam", "loop_motions"):
        rotation = arrays[name][:, :3, :3]
        off = np.abs(rotation @ rotation.transpose(0, 2, 1) - np.eye(3)).max(initial=0)
        if not (  # "not off < limit" also catches NaN
            off < 1e-3
            and np.all(np.isfinite(arrays[name]))
            and np.all(np.linalg.det(rotation) > 0)
            and np.all(arrays[name][:, 3] == (0, 0, 0, 1))
        ):
            raise ValueError(f"{name} holds matrices that are no rigid transforms")
    if not all(
        np.all(np.isfinite(arrays[name]))
        for name in ("covariances", "loop_information", "points", "confidence", "origin")
    ):
        raise ValueError("covariances or points hold NaN or infinity")
    if (
        len(np.unique(arrays["keyframe_ids"])) != sizes["N"]
        or min(arrays["keyframe_ids"].min(initial=0), arrays["stamps_ns"].min(initial=0)) < 0
    ):
        raise ValueError("keyframe_ids are not unique, or ids or stamps_ns are negative")
    return arrays


def _count(value: object, limit: int = 2**32) -> int:
    if not isinstance(value, int) or not 0 <= value < limit:
        raise ValueError(f"{value!r:.80} is not a number from 0 to {limit - 1}")
    return value
