"""The network's view of the keyframes, kept from one refinement to the next: new keyframes are
queried in the mapped scene until there are enough of them to map all again.
"""

import logging
import shutil
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
from safetensors import SafetensorError

from vggt3_ros.adapters.viewer import AdapterViewer
from vggt3_ros.config import NetworkConfig
from vggt3_ros.geometry.camera import Camera, undistort
from vggt3_ros.network.keyframe_view import KeyframeViewer, NetworkView
from vggt3_ros.network.values import SceneState
from vggt3_ros.store.arrays import disk_errors, load_arrays, save_arrays
from vggt3_ros.store.keyframes import KeyframeStore
from vggt3_ros.store.npz import load_npz

CHECKED = 8  # keyframes with measured depth whose depth is estimated too, for comparison
FOLDER = "network"  # among the snapshots, so that it is removed with them
KEYFRAMES_FILE, OLD_KEYFRAMES_FILE = "keyframes.safetensors", "keyframes.npz"
ARRAYS = "ids", "T_network_cam", "confidence", "basis", "sensor_scale", "depth_scale"

_log = logging.getLogger(__name__)

Ids = tuple[int, ...]  # of keyframes
Step = Callable[[float], None]


@dataclass(frozen=True, eq=False)
class Seen:
    """The NetworkView of keyframes `ids`, in order. basis: how many keyframes there were when they
    were mapped.
    """

    ids: Ids
    view: NetworkView
    basis: int


class NetworkScene:
    """The network's view of a store's keyframes. :meth:`save` keeps it on disk for the next start.

    viewer: KeyframeViewer, AdapterViewer or an object with the same methods. last: the Seen
    keyframes, or None. sensor_scale: (metres per unit, relative standard deviation) according to
    depth sensors, or None. depth_scale: metres per unit in the depth given to the frames, or None.
    """

    def __init__(
        self,
        viewer: KeyframeViewer | AdapterViewer,
        store: KeyframeStore,
        config: NetworkConfig,
    ) -> None:
        self.viewer, self.store, self.config = viewer, store, config
        self.last: Seen | None = None
        self.sensor_scale: tuple[float, float] | None = None
        self.depth_scale: float | None = None
        self._T_odom_cam: dict[int, np.ndarray] = {}
        try:
            self._load(store.snapshots / FOLDER)
        except FileNotFoundError:
            pass
        except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
            _log.warning(
                "the network maps all keyframes again, since %s cannot be read: %s",
                store.snapshots / FOLDER,
                error,
            )

    def look(
        self,
        ids: Sequence[int],
        without_depth: set[int],
        step: Step,
        T_odom_cam: np.ndarray,
    ) -> tuple[Seen, bool]:
        """Update the view to the keyframes `ids`. Return (Seen, whether all were mapped again).

        without_depth: ids of those that need depth; the view has it for those that were processed
        now. T_odom_cam (N, 4, 4): odometry, for a network that takes poses. step(fraction) may
        raise to stop. Raises NotEnoughMemory.
        """
        ids, last = tuple(ids), self.last
        self._T_odom_cam = dict(zip(ids, T_odom_cam))
        new = tuple(i for i in ids if last is None or i not in set(last.ids))
        mapped = (
            last is None
            or not set(last.ids) <= set(ids)
            or len(ids) > (1 + self.config.growth) * last.basis
            or (bool(new) and last.view.scene is None)
        )
        if last is None or mapped:
            seen = self._map(ids, without_depth, step)
        else:
            seen = self._with(last, new, without_depth, step) if new else last
        seen = _in_order(seen, ids)
        self.last = replace(seen, view=replace(seen.view, depth={}))
        return seen, mapped

    def save(self) -> None:
        """Write the view beside the snapshots, if the network has a scene."""
        last = self.last
        if last is None or last.view.scene is None:
            return
        partial, folder = (self.store.snapshots / name for name in (FOLDER + ".partial", FOLDER))
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        with disk_errors(partial):
            last.view.scene.save(partial / "scene.safetensors")
        arrays = {
            "ids": np.array(last.ids, np.int64),
            "T_network_cam": last.view.T_network_cam,
            "confidence": last.view.confidence,
            "basis": np.array(last.basis),
            "sensor_scale": np.array(self.sensor_scale or (), float),
            "depth_scale": np.array([] if self.depth_scale is None else [self.depth_scale]),
        }
        save_arrays(
            partial / KEYFRAMES_FILE, arrays, {"pose_convention": last.view.pose_convention}
        )
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)

    def _load(self, folder: Path) -> None:
        scene = SceneState.load(folder / "scene.safetensors")
        if scene.network != self.viewer.fingerprint():
            raise ValueError("it was made by another network")
        arrays, pose_convention = _read(folder)
        if pose_convention != self.viewer.pose_convention:
            raise ValueError(
                f"its poses were read as {pose_convention}, network.pose_convention is {self.viewer.pose_convention}"
            )
        ids = tuple(map(int, arrays["ids"]))
        if (
            arrays["T_network_cam"].shape != (len(ids), 4, 4)
            or arrays["confidence"].shape != (len(ids),)
            or len(arrays["sensor_scale"]) not in (0, 2)
        ):
            raise ValueError("the sizes of its arrays do not agree")
        view = NetworkView(
            arrays["T_network_cam"], arrays["confidence"], {}, scene, self.viewer.pose_convention
        )
        sensor_scale = tuple(map(float, arrays["sensor_scale"]))
        self.sensor_scale = (sensor_scale[0], sensor_scale[1]) if sensor_scale else None
        self.depth_scale = next(map(float, arrays["depth_scale"].ravel()), None)
        self.last = Seen(ids, view, int(arrays["basis"]))

    def place(self, image: np.ndarray, camera: Camera) -> np.ndarray | None:
        """Return the pose (4, 4) of an image (height, width, 3) uint8 RGB in the network's frame;
        None when there is no scene or the network gives none.
        """
        last = self.last
        if last is None or last.view.scene is None:
            return None
        view = self._placed(
            lambda _: undistort(image, camera),
            [camera],
            (),
            lambda fraction: None,
            last.view.scene,
        )
        return view.T_network_cam[0] if view.confidence[0] > 0 else None

    def _map(self, ids: Ids, without_depth: set[int], step: Step) -> Seen:
        """Map the keyframes, at most max_keyframes of them at once; query the others."""
        limit = self.config.max_keyframes
        chosen = (
            ids
            if len(ids) <= limit
            else tuple(ids[k] for k in np.linspace(0, len(ids) - 1, limit).astype(int))
        )
        share = len(chosen) / len(ids)
        depth_of = without_depth | set(_spread([i for i in chosen if i not in without_depth]))
        seen = Seen(
            chosen,
            self.viewer.map(
                *self._arguments(chosen, depth_of), lambda fraction: step(share * fraction)
            ),
            len(ids),
        )
        rest = tuple(i for i in ids if i not in set(chosen))
        return (
            self._with(
                seen, rest, without_depth, lambda fraction: step(share + (1 - share) * fraction)
            )
            if rest
            else seen
        )

    def _with(self, seen: Seen, ids: Ids, without_depth: Collection[int], step: Step) -> Seen:
        """Add keyframes to `seen`, with the poses of a query in its scene; without a scene their
        poses are unknown.
        """
        if seen.view.scene is None:
            more = NetworkView(np.full((len(ids), 4, 4), np.nan), np.zeros(len(ids)))
        else:
            more = self._placed(*self._arguments(ids, without_depth), step, seen.view.scene)
        depth = seen.view.depth | {
            len(seen.ids) + index: maps for index, maps in more.depth.items()
        }
        view = replace(
            seen.view,
            T_network_cam=np.concatenate([seen.view.T_network_cam, more.T_network_cam]),
            confidence=np.concatenate([seen.view.confidence, more.confidence]),
            depth=depth,
        )
        return Seen(seen.ids + ids, view, seen.basis)

    def _placed(
        self,
        load: Callable[[int], np.ndarray],
        cameras: Sequence[Camera],
        depth_of: Sequence[int],
        step: Step,
        scene: SceneState,
    ) -> NetworkView:
        viewer = cast(KeyframeViewer, self.viewer)  # an AdapterViewer returns no scene
        return viewer.place(load, cameras, depth_of, step, scene)

    def _arguments(
        self, ids: Ids, depth_of: Collection[int]
    ) -> "tuple[_Loader, list[Camera], list[int]]":
        load = _Loader(self.store, ids, self._T_odom_cam)
        return (
            load,
            [self.store.camera(i) for i in ids],
            [index for index, i in enumerate(ids) if i in depth_of],
        )


class _Loader:
    """load(index) -> undistorted image of the keyframe, (height, width, 3) uint8 RGB."""

    def __init__(self, store: KeyframeStore, ids: Ids, T_odom_cam: dict[int, np.ndarray]) -> None:
        self._store, self._ids, self._T_odom_cam = store, ids, T_odom_cam

    def __call__(self, index: int) -> np.ndarray:
        keyframe = self._store.get(self._ids[index])
        image: np.ndarray = undistort(keyframe.image, keyframe.camera)
        return image

    def known(self, index: int) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
        """Return the undistorted image, the measured depth (height, width) in metres with 0 for
        unknown, or None, and T_odom_cam (4, 4).
        """
        keyframe = self._store.get(self._ids[index])
        depth = (
            None
            if keyframe.depth is None
            else undistort(keyframe.depth, keyframe.camera, nearest=True)
        )
        return (
            undistort(keyframe.image, keyframe.camera),
            depth,
            self._T_odom_cam[self._ids[index]],
        )


def _spread(ids: Sequence[int]) -> list[int]:
    """Return up to CHECKED of the ids, evenly spaced."""
    return [ids[k] for k in np.linspace(0, len(ids) - 1, min(CHECKED, len(ids))).astype(int)]


def _in_order(seen: Seen, ids: Ids) -> Seen:
    """Return Seen with its keyframes, all of `ids`, in their order."""
    row = {keyframe_id: k for k, keyframe_id in enumerate(seen.ids)}
    order = [row[keyframe_id] for keyframe_id in ids]
    position = {k: new for new, k in enumerate(order)}
    view = replace(
        seen.view,
        T_network_cam=seen.view.T_network_cam[order],
        confidence=seen.view.confidence[order],
        depth={position[k]: maps for k, maps in seen.view.depth.items()},
    )
    return replace(seen, ids=tuple(ids), view=view)


def _read(folder: Path) -> tuple[dict[str, np.ndarray], str]:
    """({name of ARRAYS: array}, how the poses were read) of a saved scene."""
    old = folder / OLD_KEYFRAMES_FILE
    if not old.exists():
        arrays, metadata = load_arrays(folder / KEYFRAMES_FILE, ARRAYS)
        return arrays, metadata["pose_convention"]
    arrays = load_npz(old, (*ARRAYS, "pose_convention"))
    return arrays, str(arrays.pop("pose_convention"))
