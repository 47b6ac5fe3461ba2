"""What the page tells, gathered from a store, its newest snapshot and, where there is one, an
evaluation.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from vggt3_ros.config import BackendConfig
from vggt3_ros.evaluation.report_page.memory_facts import MemoryFacts, memory_facts
from vggt3_ros.evaluation.report_page.views import spacing_of
from vggt3_ros.evaluation.sequence import Evaluation
from vggt3_ros.geometry import se3
from vggt3_ros.geometry.camera import Camera
from vggt3_ros.refinement.scene_scale import LARGEST, in_scale
from vggt3_ros.refinement.scene_scale import REPORT as SCENE_SCALE
from vggt3_ros.store.keyframes import KeyframeStore
from vggt3_ros.store.snapshot import PointMap, Snapshot
from vggt3_ros.system.machine import describe

MOST_POINTS = 500_000  # of the map, that are drawn


@dataclass(frozen=True, eq=False)
class Facts:
    """title: of the page. camera: of the first keyframe. scale: of the scene, see
    refinement/scene_scale.py; config: the settings with the lengths that followed from it. cloud:
    the points that are drawn; spacing: how far they lie apart, metres. memory: None without one.
    paths: {name: [(N, 3) metres in map, one array for each session]}, with "truth" only where it
    is known. settings: {name: value} that differ from the defaults, None where the snapshot does
    not say; settings_known: whether this version understands them, else config has the defaults.
    running_on, version: what made the snapshot, empty where it does not say. machine: the one
    this runs on.
    """

    title: str
    store: KeyframeStore
    snapshot: Snapshot
    camera: Camera
    scale: float
    config: BackendConfig
    cloud: PointMap
    spacing: float
    memory: MemoryFacts | None
    evaluation: Evaluation | None
    paths: dict[str, list[np.ndarray]]
    settings: dict[str, Any] | None
    settings_known: bool
    running_on: str
    version: str
    machine: dict[str, Any]


def gather(
    title: str, store: KeyframeStore, snapshot: Snapshot, evaluation: Evaluation | None = None
) -> Facts:
    """Return the Facts of a Snapshot in its store. evaluation: what it was scored with. ValueError
    where the snapshot holds no keyframe or its scene memory cannot be read.
    """
    folder = store.snapshots / f"{snapshot.generation:06d}"
    if not len(snapshot):
        raise ValueError(f"{folder} is a map of no keyframes: there is nothing to report")
    made_by = snapshot.report.get("made_by")
    made_by = made_by if isinstance(made_by, dict) else {}
    settings = made_by.get("settings")
    settings = settings if isinstance(settings, dict) else None
    scale = snapshot.report.get(SCENE_SCALE)
    scale = float(scale) if isinstance(scale, (int, float)) and 1 <= scale <= LARGEST else 1.0
    config, known = _config(settings)
    config = in_scale(config, scale)
    cloud = snapshot.cloud.thinned(MOST_POINTS)
    return Facts(
        title=title,
        store=store,
        snapshot=snapshot,
        camera=store.camera(int(snapshot.keyframe_ids[0])),
        scale=scale,
        config=config,
        cloud=cloud,
        spacing=spacing_of(cloud.around_origin),
        memory=memory_facts(store, folder, snapshot, cloud, config, scale),
        evaluation=evaluation,
        paths=_paths(snapshot, evaluation),
        settings=settings,
        settings_known=known,
        running_on=str(made_by.get("device", "")),
        version=str(made_by.get("version", "")),
        machine=describe(),
    )


def _config(settings: dict[str, Any] | None) -> tuple[BackendConfig, bool]:
    """Return the settings that a snapshot was made with, and True; the defaults and False where
    this version does not understand them.
    """
    try:
        config: BackendConfig = BackendConfig.from_flat(settings or {})
    except (ValueError, TypeError):
        return BackendConfig(), False
    return config, True


def _paths(snapshot: Snapshot, evaluation: Evaluation | None) -> dict[str, list[np.ndarray]]:
    """Return positions in the map. Odometry is aligned to the truth where that is known, else each
    session's first keyframe lies where the map has it.
    """
    corrected = snapshot.T_map_cam[:, :3, 3]
    sessions = np.asarray(snapshot.sessions)
    if evaluation is None:
        odometry = np.empty_like(corrected)
        for session in np.unique(sessions):
            rows = np.flatnonzero(sessions == session)
            first = rows[np.argmin(snapshot.stamps_ns[rows])]
            T_map_odom = snapshot.T_map_cam[first] @ se3.inverse(snapshot.T_odom_cam[first])
            odometry[rows] = se3.transform_points(T_map_odom, snapshot.T_odom_cam[rows, :3, 3])
        found = {"odometry": odometry, "corrected": corrected}
    else:
        T_map_truth = se3.inverse(evaluation.corrected.T_truth_estimate)
        truth = se3.transform_points(T_map_truth, evaluation.T_truth_cam[:, :3, 3])
        odometry = se3.transform_points(T_map_truth, evaluation.trajectories["odometry"])
        found = {"odometry": odometry, "corrected": corrected, "truth": truth}
    order = [
        rows[np.argsort(snapshot.stamps_ns[rows], kind="stable")]
        for session in np.unique(sessions)
        for rows in [np.flatnonzero(sessions == session)]
    ]
    return {name: [points[rows] for rows in order] for name, points in found.items()}
