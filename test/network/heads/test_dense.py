"""The dense head: activations, resolution, position code, and images that do not see each other."""

import math

import pytest
import torch
from tiny_network import one_thread, relative, tiny_network  # noqa: F401

from vggt3_ros.network.heads.dense import (
    Fusion,
    ResidualUnit,
    _add_uv_embedding,
    depth_and_confidence,
    points_and_confidence,
)
from vggt3_ros.network.progress import Progress

GRID = (3, 4)


def projections(images, seed=0):
    head, generator = tiny_network().depth_head, torch.Generator().manual_seed(seed)
    tokens = torch.randn(4, images, 12, 768, generator=generator)
    return [head.project(level, part, GRID) for level, part in enumerate(tokens)]


def test_output_has_the_size_of_the_image():
    head = tiny_network().depth_head
    raw = head.decode(projections(2), GRID, Progress())
    assert raw.shape == (2, 2, 42, 56) and raw.dtype == torch.float32


def test_images_do_not_see_each_other():
    head, whole = tiny_network().depth_head, projections(3)
    together = head.decode([part.clone() for part in whole], GRID, Progress())
    alone = head.decode([part[1:2].clone() for part in whole], GRID, Progress())
    assert relative(together[1:2], alone) < 1e-5


def test_decoding_can_be_stopped_between_its_levels():
    checks = []
    progress = Progress(cancelled=lambda: checks.append(1) and False)
    tiny_network().depth_head.decode(projections(1), GRID, progress)
    assert len(checks) == 9  # four levels, four fusions, the last upsampling


def test_depth_is_an_exponential_and_confidence_begins_at_one():
    raw = torch.tensor([[0.0, math.log(2)], [-50.0, 0.0]]).view(1, 2, 1, 2)
    depth, confidence = depth_and_confidence(raw)
    torch.testing.assert_close(depth, torch.tensor([[[1.0, 2.0]]]))
    torch.testing.assert_close(confidence, torch.tensor([[[1.0, 2.0]]]))


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_points_are_an_odd_function_of_the_raw_values(sign):
    raw = torch.zeros(1, 4, 2, 2)
    raw[:, 2] = sign * math.log(3)
    points, confidence = points_and_confidence(raw)
    torch.testing.assert_close(points[..., 2], torch.full((1, 2, 2), sign * 2.0))
    assert points[..., :2].abs().max() == 0 and (confidence == 2).all()


def test_the_first_relu_of_a_unit_also_changes_what_is_added():
    unit = ResidualUnit(4).requires_grad_(False)
    for parameter in unit.parameters():
        parameter.zero_()
    x = torch.randn(1, 4, 3, 3)
    torch.testing.assert_close(unit(x.clone()), x.relu())


def test_a_1x1_convolution_before_the_upsampling_equals_one_after_it():
    fusion = Fusion(4, deepest=True).requires_grad_(False)
    path = torch.randn(1, 4, 3, 5)
    refined = fusion.resConfUnit2(path.clone())
    upsampled = torch.nn.functional.interpolate(
        refined, size=(6, 10), mode="bilinear", align_corners=True
    )
    torch.testing.assert_close(fusion(path, None, (6, 10)), fusion.out_conv(upsampled))


def test_the_position_code_tells_columns_from_rows_and_is_symmetric():
    cells = torch.zeros(1, 3, 4, 16, dtype=torch.float64)
    _add_uv_embedding(cells, 4 / 3)
    across, down = cells[0, ..., :8], cells[0, ..., 8:]
    assert torch.equal(across, across[:1].expand_as(across))
    assert torch.equal(down, down[:, :1].expand_as(down))
    sine, cosine = across[0, :, :4], across[0, :, 4:]
    torch.testing.assert_close(sine, -sine.flip(0))  # left and right of the centre
    torch.testing.assert_close(cosine, cosine.flip(0))
    # the outermost column centre, of a rectangle whose half diagonal is 1
    edge = 4 / 5 * 3 / 4
    assert float(sine[-1, 0]) == pytest.approx(0.1 * math.sin(edge), rel=1e-6)
