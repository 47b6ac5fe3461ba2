"""The keyframes as the network sees them, kept from one refinement to the next: new ones are
queried until it pays to map all again.
"""

import logging
import shutil
from dataclasses import dataclass, replace

import numpy as np
from safetensors import SafetensorError

from vggt3_ros.geometry.camera import undistort
from vggt3_ros.network.keyframe_view import NetworkView
from vggt3_ros.network.values import SceneState
from vggt3_ros.store.arrays import disk_errors, load_arrays, save_arrays
from vggt3_ros.store.npz import load_npz

CHECKED = 8  # keyframes with measured depth whose depth is estimated too, to compare
FOLDER = "network"  # beside the snapshots, so that who forgets them forgets this
KEYFRAMES_FILE, OLD_KEYFRAMES_FILE = "keyframes.safetensors", "keyframes.npz"
ARRAYS = "ids", "T_network_cam", "confidence", "basis", "sensor_scale", "depth_scale"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Seen:
    """A NetworkView of these keyframe ids, in order. basis: how many there were when they were
    mapped.
    """

    ids: tuple
    view: NetworkView
    basis: int


class NetworkScene:
    """viewer: network.keyframe_view.KeyframeViewer, or what has its map() and pose_convention;
    store: KeyframeStore; config: NetworkConfig.

    Kept on disk with `save`, and there again at the next start: last, the Seen keyframes, or None;
    sensor_scale: (metres per unit, relative standard deviation) by depth sensors, or None;
    depth_scale: metres per unit of the depth handed out, or None.
    """

    def __init__(self, viewer, store, config):
        self.viewer, self.store, self.config = viewer, store, config
        self.last = self.sensor_scale = self.depth_scale = None
        self._T_odom_cam = {}
        try:
            self._load(store.snapshots / FOLDER)
        except FileNotFoundError:
            pass
        except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
            _log.warning(
                "the network maps the keyframes anew: %s cannot be read: %s",
                store.snapshots / FOLDER,
                error,
            )

    def look(self, ids, without_depth, step, T_odom_cam=None):
        """Keyframe ids in order, the set of those that need depth -> (Seen, whether all were
        mapped anew). T_odom_cam (N, 4, 4): by the odometry, for a network that takes poses.

        The view has depth of what was looked at now and needs it. step(fraction) may raise to
        stop. Raises NotEnoughMemory.
        """
        last, self._T_odom_cam = (
            self.last,
            dict(zip(ids, T_odom_cam)) if T_odom_cam is not None else {},
        )
        new = tuple(i for i in ids if last is None or i not in set(last.ids))
        mapped = (
            last is None
            or not set(last.ids) <= set(ids)
            or len(ids) > (1 + self.config.growth) * last.basis
            or (bool(new) and last.view.scene is None)
        )
        if mapped:
            seen = self._map(ids, without_depth, step)
        else:
            seen = self._with(last, new, without_depth, step) if new else last
        seen = _in_order(seen, ids)
        self.last = replace(seen, view=replace(seen.view, depth={}))
        return seen, mapped

    def save(self):
        last = self.last
        if last.view.scene is None:
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

    def _load(self, folder):
        scene = SceneState.load(folder / "scene.safetensors")
        if scene.network != self.viewer.fingerprint():
            raise ValueError("another network made it")
        arrays, pose_convention = _read(folder)
        if pose_convention != self.viewer.pose_convention:
            raise ValueError(
                f"its poses were read as {pose_convention}, network.pose_convention is {self.viewer.pose_convention}"
            )
        ids = tuple(map(int, arrays["ids"]))
        if arrays["T_network_cam"].shape != (len(ids), 4, 4) or arrays["confidence"].shape != (
            len(ids),
        ):
            raise ValueError("its sizes do not agree")
        view = NetworkView(
            arrays["T_network_cam"], arrays["confidence"], {}, scene, self.viewer.pose_convention
        )
        self.sensor_scale = tuple(map(float, arrays["sensor_scale"])) or None
        self.depth_scale = next(map(float, arrays["depth_scale"].ravel()), None)
        self.last = Seen(ids, view, int(arrays["basis"]))

    def place(self, image, camera):
        """Pose (4, 4) of an image (height, width, 3) uint8 RGB in the network's frame; None where
        it says nothing.
        """
        last = self.last
        if last is None or last.view.scene is None:
            return None
        view = self.viewer.place(
            lambda _: undistort(image, camera),
            [camera],
            (),
            lambda fraction: None,
            last.view.scene,
        )
        return view.T_network_cam[0] if view.confidence[0] > 0 else None

    def _map(self, ids, without_depth, step):
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

    def _with(self, seen, ids, without_depth, step):
        """`seen` and more keyframes, where its scene places them; without a scene their poses are
        unknown.
        """
        if seen.view.scene is None:
            more = NetworkView(np.full((len(ids), 4, 4), np.nan), np.zeros(len(ids)))
        else:
            more = self.viewer.place(*self._arguments(ids, without_depth), step, seen.view.scene)
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

    def _arguments(self, ids, depth_of):
        load = _Loader(self.store, ids, self._T_odom_cam)
        return (
            load,
            [self.store.camera(i) for i in ids],
            [index for index, i in enumerate(ids) if i in depth_of],
        )


class _Loader:
    """load(index) -> undistorted image of the keyframe, (height, width, 3) uint8 RGB."""

    def __init__(self, store, ids, T_odom_cam):
        self._store, self._ids, self._T_odom_cam = store, ids, T_odom_cam

    def __call__(self, index):
        keyframe = self._store.get(self._ids[index])
        return undistort(keyframe.image, keyframe.camera)

    def known(self, index):
        """(image, measured depth (height, width) metres, 0 unknown, or None, T_odom_cam (4, 4) or
        None), undistorted.
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
            self._T_odom_cam.get(self._ids[index]),
        )


def _spread(ids):
    """A few of them, all along the way."""
    return [ids[k] for k in np.linspace(0, len(ids) - 1, min(CHECKED, len(ids))).astype(int)]


def _in_order(seen, ids):
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


def _read(folder):
    """({name of ARRAYS: array}, how the poses were read) of a saved scene."""
    old = folder / OLD_KEYFRAMES_FILE
    if not old.exists():
        arrays, metadata = load_arrays(folder / KEYFRAMES_FILE, ARRAYS)
        return arrays, metadata["pose_convention"]
    arrays = load_npz(old, (*ARRAYS, "pose_convention"))
    return arrays, str(arrays.pop("pose_convention"))
