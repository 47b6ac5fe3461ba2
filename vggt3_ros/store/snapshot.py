"""What one refinement produced: immutable, numbered, readable without torch."""

import json
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from vggt3_ros.geometry import se3
from vggt3_ros.store import durable
from vggt3_ros.store.arrays import load_arrays

FORMAT, FAR_FORMAT = 2, 3
# 1: one session, one memory of all keyframes; 3: as 2, but the points lie around an origin of
# their own
READABLE = 1, 2, 3
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
PLACES_FILE = "places.safetensors"
MEMORY_FILE = "slots.safetensors"
# what older versions wrote: MLPs, made anew from the keyframes
OLD_MEMORIES = "memory.safetensors", "submaps"


@dataclass(frozen=True, eq=False)
class PointMap:
    """points (M, 3) metres in map, colors (M, 3) uint8 RGB, confidence (M,) float32 in [0, 1].

    origin (3,) float64, metres in map: points are float32 where it is zero; in coordinates that
    float32 cannot carry (UTM) they are float64, and `around_origin` gives float32 ones as they
    were fused.
    """

    points: np.ndarray
    colors: np.ndarray
    confidence: np.ndarray
    origin: np.ndarray = field(default_factory=lambda: np.zeros(3))

    def __len__(self):
        return len(self.points)

    @classmethod
    def around(cls, origin, points, colors, confidence):
        """Of points (M, 3) float32 from `origin` (3,) on."""
        return cls(
            points + origin if np.any(origin) else points,
            colors,
            confidence,
            np.array(origin, float),
        )

    @property
    def around_origin(self):
        """(M, 3) float32: the points from `origin` on, as they were fused."""
        return (
            (self.points - self.origin).astype(np.float32)
            if self.origin.any()
            else np.asarray(self.points, np.float32)
        )

    def thinned(self, most):
        """At most `most` of the points, drawn evenly: itself when there are no more."""
        if len(self) <= most:
            return self
        keep = np.sort(np.random.default_rng(0).choice(len(self), most, replace=False))
        return PointMap(self.points[keep], self.colors[keep], self.confidence[keep], self.origin)


@dataclass(frozen=True, eq=False)
class Loop:
    """One attempt to close a loop. T_source_target is the measured motion (target camera -> source
    camera), None where matches agree on none; a rejected loop may have one too: the next
    refinement looks at it again.

    reason is empty for an accepted loop. source_id, target_id: keyframe ids. origin: what proposed
    it (memory, network, proximity, place, sequence). inliers: matches that agree with the motion.
    residual_m, residual_rad: what the solved graph disagrees with it.
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


@dataclass(frozen=True, eq=False)
class Snapshot:
    """The refined state at one moment; a snapshot is never modified once published.

    keyframe_ids, stamps_ns (N,) int64; T_map_cam, T_odom_cam (N, 4, 4); covariances (N, 6, 6) of
    T_map_cam in the map frame, x y z rotX rotY rotZ (as ROS has it). loops: tuple of Loop. cloud:
    PointMap. seconds: stage name -> seconds. report: numbers for people (counts, residuals, peak
    memory). sessions (N,) int64: the run of a front end that a keyframe comes from (one run by
    default); session: the one that is running, of which there may be no keyframe here yet.
    """

    generation: int
    keyframe_ids: np.ndarray
    stamps_ns: np.ndarray
    T_map_cam: np.ndarray
    T_odom_cam: np.ndarray
    covariances: np.ndarray
    loops: tuple
    cloud: PointMap
    seconds: dict = field(default_factory=dict)
    report: dict = field(default_factory=dict)
    sessions: np.ndarray | None = None
    session: int = 0

    def __post_init__(self):
        if self.sessions is None:
            object.__setattr__(
                self, "sessions", np.full(len(self.keyframe_ids), self.session, np.int64)
            )

    def __len__(self):
        return len(self.keyframe_ids)

    @property
    def newest(self):
        """Index of the newest keyframe of the last session."""
        return int(np.lexsort((self.stamps_ns, self.sessions))[-1])

    @property
    def places_odometry(self):
        """Whether the running session is in the map, so that T_map_odom is of its odometry."""
        return bool((self.sessions == self.session).any())

    @property
    def T_map_odom(self):
        """(4, 4) from the newest keyframe: T_map_cam @ T_odom_cam^-1, both at its stamp (REP 105
        map->odom).
        """
        newest = self.newest
        return se3.orthonormalize(self.T_map_cam[newest] @ se3.inverse(self.T_odom_cam[newest]))

    def save(self, folder, memory=None, places=None):
        """Write into `folder` (which must not exist), with its SceneMemory and PlaceIndex if
        given; it appears whole or not at all, whether the process is killed or the power cut.
        """
        folder = Path(folder)
        partial = folder.with_name(folder.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        try:
            durable.make_folder(folder.parent)
            partial.mkdir()
            self._write(partial, memory, places)
            durable.rename(partial, folder)
        except BaseException:
            # on a full disk the next keyframe needs the room
            shutil.rmtree(partial, ignore_errors=True)
            raise

    def _write(self, partial, memory, places):
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
        }
        far = bool(self.cloud.origin.any())
        if far:
            arrays["origin"] = self.cloud.origin
        with open(partial / "arrays.npz", "wb") as file:
            np.savez(file, **arrays)
        if memory is not None:
            memory.save(partial / MEMORY_FILE)
        if places is not None:
            places.save(partial / PLACES_FILE)
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
            "format": FAR_FORMAT if far else FORMAT,
            "generation": self.generation,
            "session": self.session,
            "loops": loops,
            "seconds": self.seconds,
            "report": self.report,
        }
        with open(partial / "snapshot.json", "w") as file:
            file.write(json.dumps(text))  # json.dump writes without the C encoder

    @classmethod
    def of(cls, store, folder):
        """The saved snapshot of a KeyframeStore, as it is in the session that runs. ValueError as
        :meth:`load`, and when it is of keyframes that the store does not hold: those of another
        map, or of before it was cleared.
        """
        snapshot = cls.load(folder)
        lacking = store.lacks(snapshot.keyframe_ids, snapshot.stamps_ns)
        if lacking:
            raise ValueError(
                f"{folder} is not of this store: {lacking} of its {len(snapshot)} keyframes are not held"
            )
        return replace(snapshot, session=store.session)

    @staticmethod
    def renumber(folder, generation):
        """Give a saved snapshot that nobody reads yet another number."""
        path = Path(folder) / "snapshot.json"
        path.write_text(
            json.dumps({**json.loads(path.read_text()), "generation": int(generation)})
        )

    @staticmethod
    def remove(folder):
        """Delete a saved snapshot; a reader that has it open keeps what it read."""
        shutil.rmtree(folder, ignore_errors=True)

    @classmethod
    def load(cls, folder):
        """Read what :meth:`save` wrote; ValueError when it is of another format or incomplete."""
        folder = Path(folder)
        try:
            text = _read_text(folder / "snapshot.json")
            old = text["format"] == 1
            lacking = {1: ("sessions", "origin"), 2: ("origin",)}.get(text["format"], ())
            arrays = load_arrays(
                folder / "arrays.npz", [name for name in SHAPES if name not in lacking]
            )
            arrays.setdefault("sessions", np.zeros(arrays["keyframe_ids"].shape, np.int64))
            arrays.setdefault("origin", np.zeros(3))
            arrays, session = _checked(arrays), 0 if old else _count(text["session"])
            for row in text["loops"]:
                row.setdefault("measured", row["accepted"])  # until rejected loops kept theirs
            if sum(bool(row["measured"]) for row in text["loops"]) != len(arrays["loop_motions"]):
                raise ValueError("its loops are not all there")
            if any(row["accepted"] and not row["measured"] for row in text["loops"]):
                raise ValueError("it accepts loops that nothing measured")
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
                _count(text["generation"]),
                *(
                    arrays[k]
                    for k in (
                        "keyframe_ids",
                        "stamps_ns",
                        "T_map_cam",
                        "T_odom_cam",
                        "covariances",
                    )
                ),
                tuple(loops),
                PointMap.around(
                    *(arrays[k] for k in ("origin", "points", "colors", "confidence"))
                ),
                text["seconds"],
                text["report"],
                arrays["sessions"],
                session,
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


def _read_text(path):
    """snapshot.json; ValueError when it is too long, or another format's."""
    if path.stat().st_size > MAX_TEXT_BYTES:
        raise ValueError(f"{path.name} has more than {MAX_TEXT_BYTES} bytes")
    text = json.loads(path.read_text())
    if not isinstance(text, dict):
        raise ValueError(f"{path.name} holds a {type(text).__name__}")
    if text["format"] not in READABLE:
        raise ValueError(
            f"format {text['format']}, this version reads {', '.join(map(str, READABLE))}"
        )
    if not (
        isinstance(text["loops"], list)
        and isinstance(text["seconds"], dict)
        and isinstance(text["report"], dict)
    ):
        raise ValueError(f"{path.name} holds other things than a snapshot")
    return text


def _checked(arrays):
    """The arrays of a snapshot, their shapes found to agree and their poses to be poses;
    ValueError.
    """
    sizes = {}
    for name, (dtype, shape) in SHAPES.items():
        array = arrays[name]
        fits = array.ndim == len(shape) and all(
            sizes.setdefault(want, have) == have if isinstance(want, str) else want == have
            for want, have in zip(shape, array.shape)
        )
        if array.dtype != np.dtype(dtype) or not fits:
            raise ValueError(f"{name} is {array.dtype} {array.shape}, not {dtype} {shape}")
    for name in ("T_map_cam", "T_odom_cam", "loop_motions"):
        rotation = arrays[name][:, :3, :3]
        # NaN is not below
        off = np.abs(rotation @ rotation.transpose(0, 2, 1) - np.eye(3)).max(initial=0)
        if not (
            off < 1e-3
            and np.all(np.isfinite(arrays[name]))
            and np.all(np.linalg.det(rotation) > 0)
            and np.all(arrays[name][:, 3] == (0, 0, 0, 1))
        ):
            raise ValueError(f"{name} are not all rigid transforms")
    if not all(
        np.all(np.isfinite(arrays[name]))
        for name in ("covariances", "loop_information", "points", "confidence", "origin")
    ):
        raise ValueError("covariances or points hold NaN or infinity")
    if (
        len(np.unique(arrays["keyframe_ids"])) != sizes["N"]
        or min(arrays["keyframe_ids"].min(initial=0), arrays["stamps_ns"].min(initial=0)) < 0
    ):
        raise ValueError("keyframe_ids are not unique, or stamps_ns negative")
    return arrays


def _count(value, limit=2**32):
    if not isinstance(value, int) or not 0 <= value < limit:
        raise ValueError(f"{value!r:.80} is not a number from 0 to {limit - 1}")
    return value
