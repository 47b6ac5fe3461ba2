"""Camera head: pose and field of view of every image from its camera token, refined over a few iterations (VGGT sec. 3.3)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..blocks import Block, Mlp
from ..config import NetworkConfig
from ..progress import Progress
from ..scratch import Scratch

POSE_VALUES = 9  # translation xyz, quaternion xyzw, vertical and horizontal field of view in radians


class CameraHead(nn.Module):
    """Softmax blocks over the camera tokens of a scene, conditioned on the previous estimate (adaptive LayerNorm)."""

    def __init__(self, config: NetworkConfig):
        super().__init__()
        dim = config.token_dim
        self.iterations = config.camera_iterations
        self.token_norm = nn.LayerNorm(dim)
        self.trunk = nn.ModuleList(Block(dim, config.camera_heads, 4.0) for _ in range(config.camera_depth))
        self.trunk_norm = nn.LayerNorm(dim)
        self.empty_pose_tokens = nn.Parameter(torch.zeros(1, 1, POSE_VALUES))
        self.embed_pose = nn.Linear(POSE_VALUES, dim)
        self.poseLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(dim, 3 * dim))
        self.pose_branch = Mlp(dim, dim // 2, POSE_VALUES)

    def forward(self, tokens: Tensor, scratch: Scratch, progress: Progress) -> Tensor:
        """Camera tokens [scenes, images, channels] -> pose encodings [scenes, images, 9], float32, field of view >= 0."""
        tokens = self.token_norm(tokens.to(self.embed_pose.weight.dtype))
        plain = F.layer_norm(tokens, tokens.shape[-1:], eps=1e-6)
        estimate = None
        for _ in range(self.iterations):
            previous = self.empty_pose_tokens.expand(*tokens.shape[:2], -1) if estimate is None else estimate
            shift, scale, gate = self.poseLN_modulation(self.embed_pose(previous)).chunk(3, dim=-1)
            x = torch.addcmul(tokens, gate, torch.addcmul(shift, plain, 1 + scale))
            for block in self.trunk:
                block(x, None, scratch)
                progress.check()
            delta = self.pose_branch(self.trunk_norm(x), scratch)
            estimate = delta.clone() if estimate is None else estimate + delta
        encoding = estimate.float()
        encoding[..., 7:].relu_()
        return encoding
