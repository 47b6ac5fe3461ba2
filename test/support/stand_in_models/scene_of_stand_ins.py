"""What the stand-ins see: a plane z = 4 - x / 4 in the world's frame, by cameras at known poses.
`given` keeps what they were handed.
"""

import torch

given = {}
DEPTH_CONFIDENCE = 5.0


def poses(count):
    """[count, 4, 4] camera to world: a step to the right and a small turn about y a view."""
    out = torch.eye(4).repeat(count, 1, 1)
    angle = 0.1 * torch.arange(count)
    out[:, 0, 0] = out[:, 2, 2] = angle.cos()
    out[:, 0, 2], out[:, 2, 0] = angle.sin(), -angle.sin()
    out[:, 0, 3] = 0.3 * torch.arange(count)
    return out


def intrinsics(height, width):
    return torch.tensor(
        [[1.2 * width, 0, (width - 1) / 2], [0, 1.2 * width, (height - 1) / 2], [0, 0, 1.0]]
    )


def points(pose, height, width):
    """[H, W, 3] in the camera's frame."""
    v, u = torch.meshgrid(
        torch.arange(height, dtype=torch.float32),
        torch.arange(width, dtype=torch.float32),
        indexing="ij",
    )
    rays = (
        torch.stack((u, v, torch.ones_like(u)), -1) @ torch.linalg.inv(intrinsics(height, width)).T
    )
    normal = torch.tensor([0.25, 0.0, 1.0])  # n . p = 4 in the world
    return rays * ((4 - normal @ pose[:3, 3]) / ((rays @ pose[:3, :3].T) @ normal))[..., None]
