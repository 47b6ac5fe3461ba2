"""Shapes and types of DepthAnything3.inference."""

from types import SimpleNamespace

import numpy as np
import scene_of_stand_ins as scene
import torch


class DepthAnything3(torch.nn.Module):
    @classmethod
    def from_pretrained(cls, name):
        scene.given["weights"] = name
        return cls()

    def inference(
        self,
        image,
        extrinsics=None,
        intrinsics=None,
        process_res=504,
        process_res_method="upper_bound_resize",
    ):
        scene.given.update(extrinsics=extrinsics, intrinsics=intrinsics)
        assert all(
            isinstance(one, np.ndarray) and one.dtype == np.uint8 and one.shape[2] == 3
            for one in image
        )
        height, width = (
            side * process_res // max(image[0].shape[:2]) for side in image[0].shape[:2]
        )
        poses = scene.poses(len(image))
        depth = torch.stack([scene.points(pose, height, width)[..., 2] for pose in poses]).numpy()
        return SimpleNamespace(depth=depth, conf=np.full_like(depth, scene.DEPTH_CONFIDENCE), sky=None, is_metric=0,
                               extrinsics=torch.linalg.inv(poses)[:, :3].numpy(),
                               intrinsics=np.stack([scene.intrinsics(height, width).numpy()] * len(image)))  # fmt: skip
