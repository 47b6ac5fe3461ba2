"""What one refinement produced: immutable, numbered, readable without torch."""

import json
import os
import shutil
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

FORMAT = 1
MEMORY_FILE = "memory.safetensors"
PLACES_FILE = "places.safetensors"


@dataclass(frozen=True, eq=False)
class PointMap:
    """points (M, 3) float32 metres in map, colors (M, 3) uint8 RGB, confidence (M,) float32 in [0, 1]."""

    points: np.ndarray
    colors: np.ndarray
    confidence: np.ndarray

    def __len__(self):
        return len(self.points)


@dataclass(frozen=True, eq=False)
class Loop:
    """One attempt to close a loop. T_source_target is the measured motion (target camera -> source camera), None if rejected.

    reason is empty for an accepted loop. source_id, target_id: keyframe ids. origin: what proposed it (memory, network,
    proximity, place, sequence). inliers: matches that agree with the motion. residual_m, residual_rad: what the solved graph
    disagrees with it.
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

    keyframe_ids, stamps_ns (N,) int64; T_map_cam, T_odom_cam (N, 4, 4); covariances (N, 6, 6) of T_map_cam in the map frame,
    x y z rotX rotY rotZ (as ROS has it). loops: tuple of Loop. cloud: PointMap. seconds: stage name -> seconds.
    report: numbers for people (counts, residuals, peak memory).
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

    def __len__(self):
        return len(self.keyframe_ids)

    @property
    def T_map_odom(self):
        """(4, 4) from the newest keyframe: T_map_cam @ T_odom_cam^-1, both at its stamp (REP 105 map->odom)."""
        from vggt3_ros.geometry import se3

        newest = int(np.argmax(self.stamps_ns))
        return se3.orthonormalize(self.T_map_cam[newest] @ se3.inverse(self.T_odom_cam[newest]))

    def save(self, folder, memory=None, places=None):
        """Write into `folder` (which must not exist), with a SceneMemory and PlaceIndex if given; it appears whole or not at all."""
        folder = Path(folder)
        partial = folder.with_name(folder.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        accepted = [loop for loop in self.loops if loop.accepted]
        arrays = {
            "keyframe_ids": self.keyframe_ids, "stamps_ns": self.stamps_ns, "T_map_cam": self.T_map_cam,
            "T_odom_cam": self.T_odom_cam, "covariances": self.covariances,
            "loop_motions": np.array([loop.T_source_target for loop in accepted]).reshape(-1, 4, 4),
            "loop_information": np.array([loop.information for loop in accepted]).reshape(-1, 6, 6),
            "points": self.cloud.points, "colors": self.cloud.colors, "confidence": self.cloud.confidence,
        }
        with open(partial / "arrays.npz", "wb") as file:
            np.savez(file, **arrays)
            file.flush()
            os.fsync(file.fileno())
        if memory is not None:
            memory.save(partial / MEMORY_FILE)
        if places is not None:
            places.save(partial / PLACES_FILE)
        loops = [{"source": loop.source_id, "target": loop.target_id, "accepted": loop.accepted, "reason": loop.reason,
                  "origin": loop.origin, "inliers": loop.inliers, "residual_m": loop.residual_m,
                  "residual_rad": loop.residual_rad} for loop in self.loops]
        text = {"format": FORMAT, "generation": self.generation, "loops": loops, "seconds": self.seconds, "report": self.report}
        with open(partial / "snapshot.json", "w") as file:
            json.dump(text, file)
            file.flush()
            os.fsync(file.fileno())
        os.rename(partial, folder)

    @staticmethod
    def renumber(folder, generation):
        """Give a saved snapshot that nobody reads yet another number."""
        path = Path(folder) / "snapshot.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "generation": int(generation)}))

    @staticmethod
    def remove(folder):
        """Delete a saved snapshot; a reader that has it open keeps what it read."""
        shutil.rmtree(folder, ignore_errors=True)

    @classmethod
    def load(cls, folder):
        """Read what :meth:`save` wrote; ValueError when it is of another format or incomplete."""
        folder = Path(folder)
        try:
            text = json.loads((folder / "snapshot.json").read_text())
            if text["format"] != FORMAT:
                raise ValueError(f"format {text['format']}, this version reads {FORMAT}")
            with np.load(folder / "arrays.npz", allow_pickle=False) as arrays:
                arrays = dict(arrays)
            accepted = iter(zip(arrays["loop_motions"], arrays["loop_information"]))
            loops = []
            for row in text["loops"]:
                motion, information = next(accepted) if row["accepted"] else (None, None)
                loops.append(Loop(row["source"], row["target"], row["accepted"], row["reason"], row["origin"], row["inliers"],
                                  motion, information, row["residual_m"], row["residual_rad"]))
            return cls(text["generation"], *(arrays[k] for k in ("keyframe_ids", "stamps_ns", "T_map_cam", "T_odom_cam",
                       "covariances")), tuple(loops), PointMap(arrays["points"], arrays["colors"], arrays["confidence"]),
                       text["seconds"], text["report"])
        except (OSError, KeyError, StopIteration, TypeError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(f"{folder} is not a readable snapshot: {error}") from error
