"""Shapes, types and rules of MapAnything.infer and of the factory's models, as mapanything has
them.
"""

import scene_of_stand_ins as scene
import torch
from scipy.spatial.transform import Rotation

ALLOWED = {"img", "data_norm_type", "depth_z", "ray_directions", "intrinsics", "camera_poses", "is_metric_scale", "true_shape", "idx",
           "instance"}  # fmt: skip


class MapAnything(torch.nn.Module):
    @classmethod
    def from_pretrained(cls, name):
        scene.given["weights"] = name
        return cls()

    def infer(self, views, memory_efficient_inference=True, minibatch_size=None, use_amp=True, amp_dtype="bf16", apply_mask=True,
              mask_edges=True):  # fmt: skip
        scene.given.update(views=views, use_amp=use_amp)
        with_poses = [i for i, view in enumerate(views) if "camera_poses" in view]
        assert not with_poses or with_poses[0] == 0
        out = []
        for view, pose in zip(views, scene.poses(len(views))):
            assert (
                set(view) <= ALLOWED
                and {"img", "data_norm_type"} <= set(view)
                and view["data_norm_type"] == ["dinov2"]
            )
            assert (
                view["img"].dtype == torch.float32
                and view["img"].shape[:2] == (1, 3)
                and view["img"].min() < 0
            )
            height, width = view["img"].shape[2:]
            if "depth_z" in view:
                assert "intrinsics" in view and view["depth_z"].shape == (1, height, width)
            assert "intrinsics" not in view or view["intrinsics"].shape == (1, 3, 3)
            assert "camera_poses" not in view or view["camera_poses"].shape == (1, 4, 4)
            mask = torch.ones(1, height, width, 1, dtype=torch.bool)
            mask[:, :2] = False
            depth = scene.points(pose, height, width)[None, ..., 2:] * mask
            out.append({"camera_poses": pose[None], "intrinsics": scene.intrinsics(height, width)[None], "depth_z": depth, "mask": mask,
                        "conf": torch.full((1, height, width), scene.DEPTH_CONFIDENCE), "metric_scaling_factor": torch.ones(1)})  # fmt: skip
        return out


class FromFactory(torch.nn.Module):
    def __init__(self, name):
        super().__init__()
        self.name = name

    def forward(self, views):
        scene.given["views"] = views
        out = []
        for view, pose in zip(views, scene.poses(len(views))):
            height, width = view["img"].shape[2:]
            in_camera = scene.points(pose, height, width)[None]
            logit = "pi3" in self.name
            confidence = torch.full((1, height, width), scene.DEPTH_CONFIDENCE)
            out.append({"pts3d_cam": in_camera, "cam_trans": pose[None, :3, 3], "depth_along_ray": in_camera.norm(dim=-1, keepdim=True),
                        "cam_quats": torch.from_numpy(Rotation.from_matrix(pose[:3, :3].numpy()).as_quat())[None].float(),
                        "ray_directions": in_camera / in_camera.norm(dim=-1, keepdim=True),
                        "conf": (confidence - 1).log()[..., None] if logit else confidence})  # fmt: skip
        return out


def init_model_from_config(model_name, device="cuda", machine="default"):
    scene.given["weights"] = model_name
    return FromFactory(model_name).to(device)
