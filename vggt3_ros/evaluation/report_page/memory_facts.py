"""What the scene memory knows: its size, what is left of its fit, what of the map it covers, and
how well it places keyframes that it has not learned from.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from vggt3_ros.config import BackendConfig
from vggt3_ros.features.frame import FrameSource
from vggt3_ros.features.retrieval import PlaceIndex
from vggt3_ros.features.xfeat import XFeatEncoder
from vggt3_ros.geometry import se3
from vggt3_ros.memory.localizer import Localizer
from vggt3_ros.memory.scene_memory import SceneMemory
from vggt3_ros.memory.scenes import Scene
from vggt3_ros.store.database import StoreError
from vggt3_ros.store.keyframes import KeyframeStore
from vggt3_ros.store.snapshot import MEMORY_FILE, PLACES_FILE, PointMap, Snapshot
from vggt3_ros.system.device import device_named

# a point of the map counts as known where a slot lies so near; times the scale of the scene
COVERED_M = 0.1
MOST_ASKED = 24  # keyframes held out that are asked


@dataclass(frozen=True)
class HeldOut:
    """Where the memory alone places a keyframe it has not learned from, against where the map has
    it: metres and degrees, infinite where it does not find it; agreeing: keypoints.
    """

    keyframe_id: int
    metres: float
    degrees: float
    agreeing: int


@dataclass(frozen=True, eq=False)
class MemoryFacts:
    """slots, bytes on the disk, keyframes learned from, optimizer steps, validation_error_m: see
    keeper; spread (S,): metres, how far the observations of each slot lie apart, what is left of
    the fit. points (M, 3) of the map, metres, and their distances_m (M,) from the next slot.
    near_m: where that is near. held_out: None where keyframes cannot be asked for want of images.
    """

    slots: int
    bytes: int
    keyframes: int
    steps: int
    validation_error_m: float
    spread: np.ndarray
    points: np.ndarray
    distances_m: np.ndarray
    near_m: float
    held_out: list[HeldOut] | None

    @property
    def known(self) -> np.ndarray:
        """Mask (M,) of the points that a slot lies near."""
        return np.asarray(self.distances_m <= self.near_m)

    @property
    def covered(self) -> float:
        """Share of the map's points that a slot lies near; NaN without points."""
        return float(self.known.mean()) if len(self.distances_m) else float("nan")


def memory_facts(
    store: KeyframeStore,
    folder: Path,
    snapshot: Snapshot,
    cloud: PointMap,
    config: BackendConfig,
    scale: float,
) -> MemoryFacts | None:
    """Return the MemoryFacts of a snapshot's folder, None where there is no memory of slots.
    ValueError where it is damaged. config, scale: see Facts.
    """
    path = folder / MEMORY_FILE
    if not path.exists():
        return None
    poses = dict(zip(snapshot.keyframe_ids.tolist(), snapshot.T_map_cam))
    memory = SceneMemory.load(path)
    if set(memory.keyframe_ids.tolist()) - set(poses):
        raise ValueError(f"{path} is of other keyframes than its snapshot")
    memory = memory.placed(poses)
    points = cloud.points
    slots = memory.map_points
    distances = cKDTree(slots).query(points)[0] if len(slots) and len(points) else np.zeros(0)
    return MemoryFacts(
        slots=len(memory),
        bytes=path.stat().st_size,
        keyframes=int((~memory.held_out).sum()),
        steps=memory.steps,
        validation_error_m=memory.validation_error_m,
        spread=memory.spread,
        points=points,
        distances_m=distances,
        near_m=COVERED_M * scale,
        held_out=_asked(store, folder, snapshot, memory, config),
    )


def _asked(
    store: KeyframeStore,
    folder: Path,
    snapshot: Snapshot,
    memory: SceneMemory,
    config: BackendConfig,
) -> list[HeldOut] | None:
    """Ask the memory, without a hint, where keyframes are that it has not learned from, evenly
    spread over the run.
    """
    if not store.has_images:
        return None
    rows = np.flatnonzero(memory.held_out)
    rows = (
        rows[np.unique(np.linspace(0, len(rows) - 1, MOST_ASKED).astype(int))]
        if len(rows)
        else rows
    )
    encoder = XFeatEncoder(config.features, device_named("cpu"))
    frames = FrameSource(store, encoder, config.resources.frame_cache_mb)
    places = PlaceIndex.load(folder / PLACES_FILE) if (folder / PLACES_FILE).exists() else None
    localizer = Localizer(config.localizer, encoder, None)
    scene = Scene(snapshot, memory, places, frames)
    found = []
    for row in rows.tolist():
        keyframe_id, truth = int(memory.keyframe_ids[row]), memory.T_map_anchor[row]
        try:
            answer = localizer.coarse(scene, frames(keyframe_id))
        except StoreError:
            continue  # damaged; the next refinement sets it aside
        metres = degrees = float("inf")
        if answer.T_map_cam is not None:
            off = se3.inverse(truth) @ answer.T_map_cam
            metres = float(np.linalg.norm(off[:3, 3]))
            degrees = float(np.degrees(se3.rotation_angle(off)))
        found.append(HeldOut(keyframe_id, metres, degrees, answer.inliers))
    return found
