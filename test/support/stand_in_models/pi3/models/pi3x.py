"""Shapes and types of Pi3X.forward."""

import scene_of_stand_ins as scene
import torch


class Pi3X(torch.nn.Module):
    @classmethod
    def from_pretrained(cls, name):
        scene.given["weights"] = name
        return cls()

    def forward(self, imgs, with_prior=True, depths=None, intrinsics=None, rays=None, poses=None, mask_add_depth=None, mask_add_ray=None,
                mask_add_pose=None):  # fmt: skip
        scene.given.update(
            depths=depths,
            intrinsics=intrinsics,
            poses=poses,
            masks=(mask_add_ray, mask_add_depth, mask_add_pose),
        )
        batch, count, _, height, width = imgs.shape
        assert (
            batch == 1 and imgs.min() >= 0 and imgs.max() <= 1 and height % 14 == width % 14 == 0
        )
        assert depths is None or depths.shape == (1, count, height, width)
        assert intrinsics is None or intrinsics.shape == (1, count, 3, 3)
        assert poses is None or (poses.shape == (1, count, 4, 4) and intrinsics is not None)
        for mask in (mask_add_depth, mask_add_ray, mask_add_pose):
            assert mask is None or (mask.shape == (1, count) and mask.dtype == torch.bool)
        found = scene.poses(count)
        local = torch.stack([scene.points(pose, height, width) for pose in found])[None]
        conf = torch.full((1, count, height, width, 1), scene.DEPTH_CONFIDENCE - 1).log()
        return {
            "local_points": local,
            "points": local,
            "conf": conf,
            "camera_poses": found[None],
            "metric": torch.ones(1),
        }
