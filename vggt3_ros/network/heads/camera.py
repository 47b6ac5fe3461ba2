"""Camera head: pose and field of view of every image from its camera token, refined over a few
iterations (VGGT sec. 3.3).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..attention import attend
from ..blocks import Block, Mlp, typed
from ..config import NetworkConfig
from ..linear import linear
from ..progress import Progress
from ..scratch import Scratch

_ROWS = {"cpu": 128, "cuda": 512}  # images per chunk where they do not interact
# translation xyz, quaternion xyzw, vertical and horizontal field of view in radians
POSE_VALUES = 9


class CameraHead(nn.Module):
    """Softmax blocks over the camera tokens of a scene, conditioned on the previous estimate by
    adaptive LayerNorm.
    """

    def __init__(self, config: NetworkConfig):
        super().__init__()
        dim = config.token_dim
        self.iterations = config.camera_iterations
        self.token_norm = nn.LayerNorm(dim)
        self.trunk = nn.ModuleList(
            Block(dim, config.camera_heads, 4.0) for _ in range(config.camera_depth)
        )
        self.trunk_norm = nn.LayerNorm(dim)
        self.empty_pose_tokens = nn.Parameter(torch.zeros(1, 1, POSE_VALUES))
        self.embed_pose = nn.Linear(POSE_VALUES, dim)
        self.poseLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(dim, 3 * dim))
        self.pose_branch = Mlp(dim, dim // 2, POSE_VALUES)

    def forward(self, tokens: Tensor, scratch: Scratch, progress: Progress) -> Tensor:
        """Return pose encodings [images, 9] of the camera tokens [images, channels] of one scene:
        float32, fields of view >= 0.

        Everything but keys and values is computed in chunks of images: six buffers of the tokens'
        size grow with the scene.
        """
        tokens = self.token_norm(tokens.to(self.embed_pose.weight.dtype))
        parts = [
            slice(first, first + _ROWS[tokens.device.type])
            for first in range(0, len(tokens), _ROWS[tokens.device.type])
        ]
        estimate = self.empty_pose_tokens[0].repeat(len(tokens), 1)
        delta, x = torch.empty_like(estimate), torch.empty_like(tokens)
        for iteration in range(self.iterations):
            for part in parts:
                shift, scale, gate = self.poseLN_modulation(self.embed_pose(estimate[part])).chunk(
                    3, dim=-1
                )
                plain = F.layer_norm(tokens[part], tokens.shape[-1:], eps=1e-6)
                torch.addcmul(
                    tokens[part], gate, torch.addcmul(shift, plain, 1 + scale), out=x[part]
                )
            for block in typed(self.trunk, Block):
                self._advance(block, x, parts, scratch)
                progress.check()
            for part in parts:
                delta[part] = self.pose_branch(self.trunk_norm(x[part]), scratch)
            estimate = estimate + delta if iteration else delta.clone()
        encoding = estimate.float()
        encoding[:, 7:].relu_()
        return encoding

    @staticmethod
    def _advance(block: Block, x: Tensor, parts: list[slice], scratch: Scratch) -> None:
        """Apply ``block`` to the sequence x [images, channels] in place."""
        attention = block.attn
        qkv = scratch.take("camera_qkv", len(x), 3 * x.shape[-1])
        for part in parts:
            qkv[part] = linear(
                block.norm1(x[part]),
                attention.qkv.weight,
                attention.qkv.bias,
                scratch,
                "camera_part",
            )
        q, k, v = qkv.unflatten(-1, (3, attention.num_heads, -1)).unbind(-3)
        for part in parts:
            attended = attend(q[None, part], k[None], v[None])[0]
            block.add_update(x[part], attention.project(attended, scratch), scratch)
