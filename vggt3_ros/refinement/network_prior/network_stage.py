"""One stage of a refinement: the network's predictions about the keyframes, checked against odometry
and depth sensors before they are used.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import torch

from vggt3_ros.adapters.client import AdapterError, adapter_process
from vggt3_ros.adapters.viewer import AdapterViewer
from vggt3_ros.config import BackendConfig, NetworkConfig
from vggt3_ros.features.frame import Frame, FrameSource
from vggt3_ros.geometry.alignment import Alignment, DegenerateMotion, align
from vggt3_ros.geometry.camera import Camera
from vggt3_ros.network.keyframe_view import KeyframeViewer, load_network
from vggt3_ros.network.memory_plan import NotEnoughMemory
from vggt3_ros.network.vggt3 import Vggt3
from vggt3_ros.refinement.network_prior.network_scene import NetworkScene, Seen
from vggt3_ros.refinement.network_prior.pose_convention import (
    TURN_TOLERANCE,
    contradiction,
    disagreement,
)
from vggt3_ros.refinement.network_prior.prior import (
    Prior,
    covisible,
    make_prior,
    metric_depth,
    place_query,
    scale_from_depth,
)
from vggt3_ros.refinement.pose_graph import Edge
from vggt3_ros.store.keyframes import KeyframeStore
from vggt3_ros.store.snapshot import Snapshot
from vggt3_ros.store.stored_poses import StoredPoses

# smallest relative difference between the scales of the network's depth and of its poses
LEAST_SCALE_SIGMA = 0.005
# relative changes of scale beyond which depth is written again, and loops are measured again
SAME_SCALE, CHANGED_SCALE = 0.005, 0.03
LEAST_GAP = 10  # keyframes between the ends of a candidate loop; nearer pairs are tried anyway
GRID = (12, 16)  # rows, columns of depth used to tell whether two keyframes see the same surface
_log = logging.getLogger(__name__)


class Refused(ValueError):
    """The network's view contradicts the odometry; the message says how."""


@dataclass(frozen=True, eq=False)
class Advice:
    """What the network contributes to a refinement.

    edges: motions for the pose graph. candidates: (i, j) indices i > j of keyframes that see the
    same surface, largest overlap first. fresh: ids of keyframes whose depth is new or has another
    scale than before. report: figures with a summary, or why the network is not used.
    """

    edges: tuple[Edge, ...] = ()
    candidates: tuple[tuple[int, int], ...] = ()
    fresh: frozenset[int] = frozenset()
    report: dict[str, Any] = field(default_factory=dict)

    @property
    def used(self) -> bool:
        """Whether the network's view is used."""
        return bool(self.report.get("used", True))


class NetworkStage:
    """Turn the network's view of the keyframes into Advice: stage(poses, step).

    frames: FrameSource, which is given the depth. The other arguments are those of NetworkScene.
    """

    def __init__(
        self,
        viewer: KeyframeViewer | AdapterViewer,
        store: KeyframeStore,
        frames: FrameSource,
        config: NetworkConfig,
    ) -> None:
        self.scene, self.frames, self.config = NetworkScene(viewer, store, config), frames, config
        # why the network is of no use until network.pose_convention is corrected
        self._wrong_reading = ""
        # (ids, their poses in the network's frame, Alignment); place() reads it in other threads
        self._placing: tuple[tuple[int, ...], np.ndarray, Alignment] | None = None
        if self.scene.last is not None:
            self._resume(store.poses())

    def __call__(self, poses: StoredPoses, step: Callable[[float], None]) -> Advice:
        """Look at all keyframes. step(fraction) may raise to stop.

        A network that is of no use is not an error: the report says why.
        """
        try:
            if len(poses) < 3:
                raise Refused(f"{len(poses)} keyframes are too few to align it with the odometry")
            if self._wrong_reading:
                raise Refused(self._wrong_reading)
            ids = [int(i) for i in poses.ids]
            without_depth = (
                {i for i in ids if not _measured(self.frames(i))}
                if self.config.estimate_depth
                else set()
            )
            last = self.scene.last
            seen, mapped = self.scene.look(ids, without_depth, step, poses.T_odom_cam)
            if mapped:
                self._check_reading(seen, poses.T_odom_cam)
                self.scene.sensor_scale = self._scale_by_sensors(seen)
            prior = make_prior(
                poses.T_odom_cam,
                seen.view.T_network_cam,
                seen.view.confidence,
                self.scene.sensor_scale,
            )
            self._check(prior.alignment, seen.view.confidence > 0, poses.T_odom_cam)
        except (DegenerateMotion, Refused, NotEnoughMemory, AdapterError) as error:
            _log.warning("the network is not used in this refinement: %s", error)
            self.scene.last = self._placing = None
            return Advice(report={"used": False, "summary": f"not used: {error}"})
        fresh = self._hand_out_depth(seen, mapped, prior)
        self._placing = seen.ids, seen.view.T_network_cam, prior.alignment
        if mapped or last is None or last.ids != seen.ids:
            self.scene.save()
        # A network that was given the odometry is not evidence for it.
        edges = () if seen.view.given_poses else prior.edges
        report = _report(seen, prior, self.scene.sensor_scale)
        if mapped:
            _log.info("the network: %s", report["summary"])
        return Advice(edges, tuple(self._covisible(poses, prior)), frozenset(fresh), report)

    def _resume(self, poses: StoredPoses) -> None:
        """Make place() work from the start, if the view of the last refinement still matches the
        store.
        """
        last = self.scene.last
        assert last is not None
        row = {int(keyframe_id): k for k, keyframe_id in enumerate(poses.ids)}
        try:
            T_odom_cam = poses.T_odom_cam[[row[keyframe_id] for keyframe_id in last.ids]]
            alignment = align(
                T_odom_cam,
                last.view.T_network_cam,
                last.view.confidence,
                known_scale=self.scene.sensor_scale,
            )
            self._placing = last.ids, last.view.T_network_cam, alignment
        except (KeyError, DegenerateMotion) as error:
            _log.warning(
                "the network maps all keyframes again, since its last view of them does not match the store: %s",
                error,
            )
            self.scene.last = None

    def place(self, image: np.ndarray, camera: Camera, snapshot: Snapshot) -> np.ndarray | None:
        """Return T_map_cam (4, 4), the pose in the snapshot's map where the network sees an image
        (height, width, 3) uint8 RGB; None when it does not know.
        """
        placing, T_map_cam = (
            self._placing,
            dict(zip(map(int, snapshot.keyframe_ids), snapshot.T_map_cam)),
        )
        if placing is None or not set(placing[0]) <= set(T_map_cam):
            return None
        ids, T_network_cam, alignment = placing
        query = self.scene.place(image, camera)
        return (
            None
            if query is None
            else place_query(
                query, T_network_cam, np.array([T_map_cam[i] for i in ids]), alignment
            )
        )

    def _scale_by_sensors(self, seen: Seen) -> tuple[float, float] | None:
        """Return (metres per unit, relative standard deviation) of the network's depth, from
        measured depth; None without enough of it.
        """
        scales = []
        for index, maps in seen.view.depth.items():
            frame = self.frames(seen.ids[index])
            if _measured(frame):
                rows, columns = frame.cell_depth.shape
                depth, confidence = (
                    cv2.resize(a, (columns, rows), interpolation=cv2.INTER_AREA) for a in maps
                )
                scales.append(scale_from_depth(frame.cell_depth, depth, confidence))
        logarithms = np.log([scale for scale in scales if np.isfinite(scale)])
        if len(logarithms) < 3:
            return None
        spread = 1.5 * float(np.median(np.abs(logarithms - np.median(logarithms))))
        return float(np.exp(np.median(logarithms))), max(
            LEAST_SCALE_SIGMA, spread / np.sqrt(len(logarithms))
        )

    def _check_reading(self, seen: Seen, T_odom_cam: np.ndarray) -> None:
        """Raise Refused when the poses were read by the wrong convention."""
        view = seen.view
        wrong = contradiction(
            T_odom_cam,
            view.T_network_cam,
            view.confidence,
            view.pose_convention,
            self.config.max_disagreement,
        )
        if wrong:
            self._wrong_reading = f"{wrong}: correct network.pose_convention, or the convention that the adapter reports, and restart"
            raise Refused(self._wrong_reading)

    def _check(self, alignment: Alignment, seen: np.ndarray, T_odom_cam: np.ndarray) -> None:
        """Raise Refused when the aligned poses disagree with the odometry. seen (N,): mask of the
        poses that count.
        """
        metres, radians, extent = disagreement(alignment, seen, T_odom_cam)
        if metres > self.config.max_disagreement * extent or radians > TURN_TOLERANCE:
            raise Refused(
                f"half of the keyframes disagree with the odometry by more than {metres:.2f} m and "
                f"{np.degrees(radians):.1f} deg; the path's extent is {extent:.2f} m (network.max_disagreement)"
            )

    def _hand_out_depth(self, seen: Seen, mapped: bool, prior: Prior) -> set[int]:
        """Give metric depth to frames without measured depth; return the ids of those for which it
        is new or has changed much.
        """
        if not self.config.estimate_depth:
            return set()
        scale, known = prior.metres_per_unit, self.frames.estimated
        fresh: set[int] = set()
        change = (
            1.0 if mapped or self.scene.depth_scale is None else scale / self.scene.depth_scale
        )
        for index, maps in seen.view.depth.items():
            keyframe_id = seen.ids[index]
            if prior.trusted[index] and not _measured(self.frames(keyframe_id)):
                depth, confidence = maps
                before = known.get(keyframe_id)
                after = metric_depth(depth, confidence, scale, self.config.depth_confidence)
                fresh |= {keyframe_id} if _changed(before, after) else set()
                self.frames.estimate(keyframe_id, after)
        # Depth from earlier refinements follows the new alignment.
        if abs(change - 1) > SAME_SCALE:
            for keyframe_id in set(seen.ids) - {seen.ids[index] for index in seen.view.depth}:
                before = known.get(keyframe_id)
                if before is not None:
                    self.frames.estimate(keyframe_id, before * change)
                    fresh |= {keyframe_id} if abs(change - 1) > CHANGED_SCALE else set()
        if mapped or self.scene.depth_scale is None or abs(change - 1) > SAME_SCALE:
            self.scene.depth_scale = scale
        return fresh

    def _covisible(self, poses: StoredPoses, prior: Prior) -> list[tuple[int, int]]:
        """Return pairs of trusted keyframes, by the overlap of what they see."""
        trusted = np.flatnonzero(prior.trusted)
        frames = [self.frames(int(poses.ids[k])) for k in trusted]
        width, height = frames[0].camera.width, frames[0].camera.height
        depth = np.stack([_at_grid(frame.cell_depth) for frame in frames])
        matrices = np.stack([frame.camera.scaled(width, height).matrix for frame in frames])
        pairs = covisible(
            prior.T_odom_cam[trusted], matrices, depth, (height, width), least_gap=LEAST_GAP
        )
        return [(int(trusted[i]), int(trusted[j])) for i, j, _ in pairs]


def network_stage(
    config: BackendConfig,
    device: torch.device | str,
    store: KeyframeStore,
    frames: FrameSource,
    network: Vggt3 | None = None,
) -> NetworkStage | None:
    """Return the NetworkStage of a BackendConfig; None when it names neither checkpoint nor
    adapter and no `network` is given.

    Raises CheckpointError, and ValueError when the adapter's program is missing.
    """
    chosen = config.network
    if network is None and not chosen.checkpoint and not chosen.adapter:
        return None
    if network is None and chosen.adapter:
        process = adapter_process(
            chosen.adapter,
            chosen.adapter_python,
            chosen.checkpoint,
            config.device,
            chosen.dtype,
            chosen.adapter_timeout,
        )
        viewer: KeyframeViewer | AdapterViewer = AdapterViewer(
            process, chosen.image_side, chosen.adapter_inputs
        )
    else:
        network = network or load_network(chosen.checkpoint, str(device), chosen.dtype)
        viewer = KeyframeViewer(
            network,
            chosen.image_side,
            chosen.memory_limit * 2**20 or None,
            chosen.pose_convention,
            chosen.checkpoint,
        )
    return NetworkStage(viewer, store, frames, chosen)


def _measured(frame: Frame) -> bool:
    return frame.has_depth and not frame.estimated


def _changed(before: np.ndarray | None, after: np.ndarray) -> bool:
    if before is None or before.shape != after.shape:
        return True
    known = (before > 0) & (after > 0)
    ratio = float(np.median(after[known] / before[known])) if known.any() else float("inf")
    return abs(ratio - 1) > CHANGED_SCALE


def _at_grid(cell_depth: np.ndarray) -> np.ndarray:
    rows, columns = ((np.arange(n) + 0.5) * size / n for n, size in zip(GRID, cell_depth.shape))
    return cell_depth[np.ix_(rows.astype(int), columns.astype(int))]


def _report(seen: Seen, prior: Prior, sensor_scale: tuple[float, float] | None) -> dict[str, Any]:
    alignment, looked_at = prior.alignment, seen.view.confidence > 0
    trusted, metres = int(prior.trusted.sum()), float(np.median(alignment.residual_m[looked_at]))
    degrees = float(np.degrees(np.median(alignment.residual_rad[looked_at])))
    view, unit = seen.view, f"a unit is {alignment.scale:.4g} m +- {alignment.scale_sigma:.1%}"
    return {
        "used": True,
        "keyframes": len(seen.ids),
        "trusted": trusted,
        "disagreement_m": metres,
        "disagreement_deg": degrees,
        "summary": f"{trusted} of {len(seen.ids)} keyframes agree with the odometry, half of all within {metres:.3f} m and "
        f"{degrees:.1f} deg; {unit}{' where it claims metres' if view.metric else ''}; poses read as {view.pose_convention}"
        f"{', and given to it: its motions are not used' if view.given_poses else ''}",
        "pose_convention": view.pose_convention,
        "metric": view.metric,
        "metres_per_unit": float(alignment.scale),
        "scale_sigma": float(alignment.scale_sigma),
        "segment_scales": [round(float(scale), 4) for scale in prior.segment_scales],
        "scale_by_motion": float(alignment.motion_scale),
        "scale_by_sensor": sensor_scale[0] if sensor_scale else float("nan"),
    }
