"""The MLP that the scene memory replaced still learns, so that the comparison is fair."""

import numpy as np
import pytest
import torch

from vggt3_ros.benchmarks import mlp
from vggt3_ros.benchmarks.mlp import Mlp, MlpMemory


def test_without_offsets_an_answer_lies_among_the_anchors():
    torch.manual_seed(0)
    anchors = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    network = Mlp(192, anchors)
    torch.nn.init.zeros_(network.leave.weight[:3])
    torch.nn.init.zeros_(network.leave.bias[:3])
    out = network(torch.randn(50, 192)).detach()
    assert out.shape == (50, 4)
    points = out[:, :3]
    assert (points >= 0).all() and (points.sum(1) <= 1 + 1e-6).all()
    # the anchors are of the network: they are saved and moved with it
    assert torch.equal(network.state_dict()["anchors"], anchors)


def test_keys_are_a_cell_and_its_surroundings(frames):
    features = frames[0].features
    keys = mlp._keys(features)
    channels, height, width = features.dense.shape
    assert keys.shape == (height * width, 3 * channels)
    dense = features.dense.astype(np.float32)
    np.testing.assert_array_equal(keys[:, :channels], dense.reshape(channels, -1).T)
    row, column = height // 2, width // 2
    window = dense[:, row - 2 : row + 3, column - 2 : column + 3].mean(axis=(1, 2))
    np.testing.assert_allclose(
        keys[row * width + column, channels : 2 * channels], window, atol=1e-4
    )
    # at the border the mean is over what there is
    np.testing.assert_allclose(
        keys[0, channels : 2 * channels], dense[:, :3, :3].mean(axis=(1, 2)), atol=1e-4
    )


def test_a_few_steps_bring_the_points_nearer(frames, rendered, monkeypatch):
    monkeypatch.setattr(mlp, "WIDTH", 64)
    monkeypatch.setattr(mlp, "ANCHORS", 16)
    known, truth = frames[:4], rendered.T_world_cam[:4]
    told, errors = [], []
    for steps in (2, 120):
        memory = MlpMemory(known, truth, steps, told.append)
        pixels, points = memory.recall(known[1], cells=300)
        cells = known[1].features.cell_centres().reshape(-1, 2)
        depth = known[1].cell_depth.reshape(-1)
        at = np.linalg.norm(cells[None] - pixels[:, None], axis=2).argmin(1)
        seen = depth[at] > 0
        exact = known[1].camera.unproject(cells[at[seen]], depth[at[seen]])
        exact = exact @ truth[1][:3, :3].T + truth[1][:3, 3]
        errors.append(np.median(np.linalg.norm(points[seen] - exact, axis=1)))
        assert memory.nbytes == 4 * sum(p.numel() for p in memory.network.parameters())
    assert errors[1] < 0.7 * errors[0] and errors[1] < 1.0
    assert told[0] == 0 and told[-1] == pytest.approx(119 / 120)
