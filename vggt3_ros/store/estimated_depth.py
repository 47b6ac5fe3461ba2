"""Depth estimated for keyframes without a depth sensor, cached beside them in the store."""

from dataclasses import replace

import cv2
import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from vggt3_ros.geometry.camera import undistort
from vggt3_ros.store.arrays import to_bytes
from vggt3_ros.store.keyframe import Keyframe
from vggt3_ros.store.keyframes import KeyframeStore

NAME, VERSION = "estimated_depth", "1"


class EstimatedDepth:
    """Estimated depth of undistorted images at the estimator's resolution, metres along z, 0 where
    unknown.
    """

    def __init__(self, store: KeyframeStore) -> None:
        self.store = store

    def put(self, keyframe_id: int, depth: np.ndarray, sure: np.ndarray | None = None) -> None:
        """Store depth (h, w), metres, replacing an earlier one. sure: mask (h, w) of the pixels
        reliable enough to be mapped; None: all.

        Half precision keeps the values to 0.05 %. Unreliable ones are stored with negative sign.
        """
        depth = (
            np.asarray(depth, np.float16)
            if sure is None
            else np.where(sure, depth, -depth).astype(np.float16)
        )
        self.store.put_cache(
            keyframe_id,
            NAME,
            VERSION,
            to_bytes({"depth": depth}),
        )

    def get(self, keyframe_id: int, sure: bool = False) -> np.ndarray | None:
        """Return depth (h, w) float32, metres; None if there is none. sure: only reliable pixels,
        0 elsewhere. Raises ValueError if what is stored is damaged.
        """
        blob = self.store.get_cache(keyframe_id, NAME, VERSION)
        try:
            if blob is None:
                return None
            depth: np.ndarray = safetensors.numpy.load(blob)["depth"].astype(np.float32)
            if depth.ndim != 2 or not depth.size or not np.all(np.isfinite(depth)):
                raise ValueError(f"its shape is {depth.shape}, or it holds NaN or infinity")
            kept: np.ndarray = np.maximum(depth, 0) if sure else np.abs(depth)
            return kept
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"the estimated depth of keyframe {keyframe_id} is damaged: {error}"
            ) from error

    def at_size(
        self, keyframe_id: int, width: int, height: int, sure: bool = False
    ) -> np.ndarray | None:
        """Return :meth:`get` resampled to (height, width)."""
        depth = self.get(keyframe_id, sure)
        return (
            None
            if depth is None
            else cv2.resize(depth, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
        )

    def completed(self, keyframe: Keyframe) -> Keyframe:
        """Return a keyframe with depth: undistorted, with the reliable estimated depth. A keyframe
        with measured depth, or without an estimate, is returned unchanged.
        """
        if keyframe.depth is not None and (keyframe.depth > 0).any():
            return keyframe
        depth = self.at_size(keyframe.id, keyframe.camera.width, keyframe.camera.height, sure=True)
        if depth is None:
            return keyframe
        return replace(
            keyframe,
            image=undistort(keyframe.image, keyframe.camera),
            camera=keyframe.camera.undistorted(),
            depth=depth,
        )
