"""Depth that a network estimated for keyframes that came without, kept beside them in the store."""

from dataclasses import replace

import cv2
import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from vggt3_ros.geometry.camera import undistort

NAME, VERSION = "estimated_depth", "1"


class EstimatedDepth:
    """Of the undistorted images, at the estimator's own resolution, metres along z, 0 = unknown."""

    def __init__(self, store):
        self.store = store

    def put(self, keyframe_id, depth):
        """depth (h, w) metres; replaces what was there. Half precision keeps 0.05 %."""
        self.store.put_cache(keyframe_id, NAME, VERSION, safetensors.numpy.save({"depth": np.ascontiguousarray(depth, np.float16)}))

    def get(self, keyframe_id):
        """(h, w) float32, or None."""
        blob = self.store.get_cache(keyframe_id, NAME, VERSION)
        try:
            return None if blob is None else safetensors.numpy.load(blob)["depth"].astype(np.float32)
        except (SafetensorError, KeyError) as error:
            raise ValueError(f"estimated depth of keyframe {keyframe_id} is damaged: {error}") from error

    def at_size(self, keyframe_id, width, height):
        """(height, width) float32 for an undistorted image of that size, or None."""
        depth = self.get(keyframe_id)
        return None if depth is None else cv2.resize(depth, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)

    def completed(self, keyframe):
        """The Keyframe itself where its depth was measured or none was estimated; else undistorted, with the estimated depth."""
        if keyframe.depth is not None and (keyframe.depth > 0).any():
            return keyframe
        depth = self.at_size(keyframe.id, keyframe.camera.width, keyframe.camera.height)
        if depth is None:
            return keyframe
        return replace(keyframe, image=undistort(keyframe.image, keyframe.camera), camera=keyframe.camera.undistorted(), depth=depth)
