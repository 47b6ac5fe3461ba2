"""An adapter's network applied to keyframes, with the interface of KeyframeViewer: images of one
size in, poses and depth out.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import cv2
import numpy as np

from vggt3_ros.adapters import wire
from vggt3_ros.adapters.client import AdapterProcess
from vggt3_ros.adapters.contract import View
from vggt3_ros.geometry.camera import Camera
from vggt3_ros.geometry.local_frame import origin_near, shifted
from vggt3_ros.network.keyframe_view import NetworkView, field_of_view_agreement
from vggt3_ros.network.preprocess import network_size

INPUTS = {
    "images": (),
    "intrinsics": ("intrinsics",),
    "depth": ("intrinsics", "depth"),
    "poses": ("intrinsics", "depth", "poses"),
}


class KeyframeLoader(Protocol):
    """Access to keyframes by index."""

    def __call__(self, index: int) -> np.ndarray:
        """Return the undistorted image (H, W, 3) uint8 RGB."""

    def known(self, index: int) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
        """Return the image, its depth (H, W) in metres or None, and T_odom_cam (4, 4)."""


class AdapterViewer:
    """Map images through ``process``. It has no scene state: new keyframes are mapped together
    with all others.

    inputs: a key of INPUTS, what the network is given as far as it accepts it.
    """

    pose_convention = ""  # every answer states its own

    def __init__(self, process: AdapterProcess, image_side: int = 518, inputs: str = "depth"):
        self.process = process
        self._side, self._inputs = image_side, INPUTS[inputs]

    def fingerprint(self) -> str:
        """Return a constant: there are no scene states to tell apart."""
        return "adapter"

    def prior(self) -> str:
        """Describe the network in one line: name, weights, device, dtype, licence; known once its
        process has answered.
        """
        about = self.process.about
        if about is None:
            return f"adapter {self.process.adapter}, not yet connected"
        return f"{about.name} ({about.weights}) on {about.device}, {about.dtype}; {about.licence}"

    def map(
        self,
        load: KeyframeLoader,
        cameras: Sequence[Camera],
        depth_of: Sequence[int],
        step: Callable[[float], None],
    ) -> NetworkView:
        """Map all images at once. ``step(fraction)`` may raise to stop. Raise client.AdapterError.

        ``cameras`` holds the vggt3_ros.Camera of each image; ``depth_of`` lists the images whose
        depth is requested. Images whose network size differs from that of the first are left out.
        """
        about = self.process.ready(step)
        given = [name for name in self._inputs if name in about.takes]
        size = self._size(cameras[0], about.patch)
        rows = [i for i, camera in enumerate(cameras) if self._size(camera, about.patch) == size]
        # The network computes in float32: send poses relative to an origin near the images.
        origin = origin_near(load.known(rows[0])[2][:3, 3]) if "poses" in given else np.zeros(3)
        answered = self.process(
            self._views(load, cameras, rows, set(depth_of), size, given, origin), len(rows), step
        )

        T_network_cam = np.full((len(cameras), 4, 4), np.nan)
        confidence = np.zeros(len(cameras))
        depth: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        for i, seen in zip(rows, answered.seen, strict=True):
            if seen.pose is None:
                continue
            T_network_cam[i] = shifted(
                np.linalg.inv(seen.pose) if answered.poses == "camera_from_world" else seen.pose,
                origin,
            )
            confidence[i] = (
                1.0 if seen.intrinsics is None else _agreement(seen.intrinsics, size, cameras[i])
            )
            values = wire.along_z(seen, answered.poses)
            if values is not None and seen.confidence is not None and i in set(depth_of):
                depth[i] = values, np.where(values > 0, seen.confidence, 0).astype(np.float32)
        return NetworkView(
            T_network_cam,
            confidence,
            depth,
            None,
            answered.poses,
            answered.metric,
            "poses" in given,
        )

    def _size(self, camera: Camera, patch: int) -> tuple[int, int]:
        return network_size(
            camera.height, camera.width, max(patch, self._side - self._side % patch), patch
        )

    @staticmethod
    def _views(
        load: KeyframeLoader,
        cameras: Sequence[Camera],
        rows: Sequence[int],
        depth_of: set[int],
        size: tuple[int, int],
        given: Sequence[str],
        origin: np.ndarray,
    ) -> Iterator[View]:
        for i in rows:
            image, depth, T_odom_cam = (
                load.known(i) if {"depth", "poses"} & set(given) else (load(i), None, None)
            )
            height, width = size
            smaller = height < image.shape[0]
            image = cv2.resize(
                image,
                (width, height),
                interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC,
            )
            if depth is not None:
                depth = cv2.resize(depth, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
            yield View(image, cameras[i].scaled(width, height).matrix if "intrinsics" in given else None,
                       shifted(T_odom_cam, -origin) if "poses" in given else None, depth if "depth" in given else None, i in depth_of)  # fmt: skip


def _agreement(intrinsics: np.ndarray, size: tuple[int, int], camera: Camera) -> float:
    """Return the agreement in 0..1 of the network's camera matrix with the known camera."""
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.array([[size[0] / intrinsics[1, 1], size[1] / intrinsics[0, 0]]]) / 2
    return float(field_of_view_agreement(found, [camera])[0])
