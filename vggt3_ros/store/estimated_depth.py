"""Depth that a network estimated for keyframes that came without, kept beside them in the
store.
"""

from dataclasses import replace

import cv2
import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from vggt3_ros.geometry.camera import undistort

NAME, VERSION = "estimated_depth", "1"


class EstimatedDepth:
    """Of the undistorted images, at the estimator's own resolution, metres along z, 0 =
    unknown.
    """

    def __init__(self, store):
        self.store = store

    def put(self, keyframe_id, depth, sure=None):
        """depth (h, w) metres; replaces what was there. sure: mask (h, w) of what may be mapped,
        all by default. Half precision keeps 0.05 %; where it is not sure, the sign is negative.
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
            safetensors.numpy.save({"depth": np.ascontiguousarray(depth)}),
        )

    def get(self, keyframe_id, sure=False):
        """(h, w) float32, or None; only what may be mapped, and 0 elsewhere, where `sure` says
        so.
        """
        blob = self.store.get_cache(keyframe_id, NAME, VERSION)
        try:
            depth = (
                None if blob is None else safetensors.numpy.load(blob)["depth"].astype(np.float32)
            )
            if depth is not None and (
                depth.ndim != 2 or not depth.size or not np.all(np.isfinite(depth))
            ):
                raise ValueError(f"its shape is {depth.shape}, or it holds NaN or infinity")
            return depth if depth is None else np.maximum(depth, 0) if sure else np.abs(depth)
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"estimated depth of keyframe {keyframe_id} is damaged: {error}"
            ) from error

    def at_size(self, keyframe_id, width, height, sure=False):
        """(height, width) float32 for an undistorted image of that size, or None."""
        depth = self.get(keyframe_id, sure)
        return (
            None
            if depth is None
            else cv2.resize(depth, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
        )

    def completed(self, keyframe):
        """The Keyframe itself where its depth was measured or none was estimated; else
        undistorted, with the estimated depth that may be mapped.
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
