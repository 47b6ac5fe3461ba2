"""Depth Anything 3 (arXiv 2511.10647): takes poses with intrinsics. Needs the package
`depth_anything_3`.

Interface: github.com/ByteDance-Seed/Depth-Anything-3, DepthAnything3.inference: a list of images,
camera-from-world extrinsics and intrinsics in pixels of those; answers with the same, z depth and
confidence 1 + exp(x). Its scale is its own but for the nested models.
"""

import numpy as np

from vggt3_ros.adapters.contract import Answer, Seen
from vggt3_ros.adapters.torch_device import array, pick, told
from vggt3_ros.network.licences import licence_of

# as DA3-SMALL under Apache-2.0; the larger ones are not for commercial use
DEFAULT = "depth-anything/DA3-BASE"


class DepthAnything3:
    """weights: a hub id or a folder, by default DEFAULT."""

    name, takes, patch = "Depth Anything 3", ("intrinsics", "poses"), 14

    def __init__(self, weights="", device="auto", dtype="auto"):
        from depth_anything_3.api import DepthAnything3 as Network

        self.weights = weights or DEFAULT
        self.licence = licence_of(self.weights)
        self._device, chosen = pick(device, dtype)
        self.device, _ = told(self._device, chosen)
        self.dtype = "half precision by autocast"  # it decides by itself
        self._network = Network.from_pretrained(self.weights).to(device=self._device)

    def __call__(self, views, progress):
        progress(0.0)
        given = {}
        if all(view.T_world_cam is not None and view.intrinsics is not None for view in views):
            given = {"extrinsics": np.linalg.inv([view.T_world_cam for view in views]).astype(np.float32),
                     "intrinsics": np.array([view.intrinsics for view in views], np.float32)}  # fmt: skip
        prediction = self._network.inference([view.image for view in views], process_res=max(views[0].image.shape[:2]),
                                             process_res_method="upper_bound_resize", **given)  # fmt: skip
        return Answer(
            [self._seen(prediction, i, view) for i, view in enumerate(views)],
            "camera_from_world",
            bool(prediction.is_metric),
        )

    @staticmethod
    def _seen(prediction, index, view):
        pose = np.eye(4)
        pose[:3] = array(prediction.extrinsics)[index][:3]
        depth = array(prediction.depth)[index]
        intrinsics = None
        if prediction.intrinsics is not None:  # in pixels of the image it was resized to
            (height, width), (rows, columns) = view.image.shape[:2], depth.shape
            intrinsics = (
                np.diag([width / columns, height / rows, 1.0])
                @ array(prediction.intrinsics)[index]
            )
        if not view.dense:
            return Seen(pose, intrinsics)
        confidence = (
            np.full(depth.shape, 2.0) if prediction.conf is None else array(prediction.conf)[index]
        )
        if prediction.sky is not None:
            depth = np.where(array(prediction.sky)[index], 0, depth)
        return Seen(pose, intrinsics, depth, confidence)
