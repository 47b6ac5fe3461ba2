"""Counts of operations: the published ones, and how they grow."""

import pytest
from tiny_network import SIZE, one_thread, tiny_config  # noqa: F401

from vggt3_ros.network.config import VGG_T3, VGGT_1B
from vggt3_ros.network.flops import dense_head_flops, map_flops


def test_operation_counts_are_the_published_ones():
    one = map_flops(VGG_T3, 1000, 518, 392)
    # three steps
    assert (one.encoder + one.frame_blocks + one.global_blocks) / 1000 == pytest.approx(
        2.40e12, rel=0.02
    )
    two_steps = map_flops(VGG_T3, 1000, 518, 392, inner_steps=2)
    one_step = (one.total - two_steps.total) / 1000
    # two steps and the read-out, which is half a step
    assert 2.5 * one_step == pytest.approx(0.20e12, rel=0.02)
    assert two_steps.total / 1000 == pytest.approx(2.30e12, rel=0.02)
    assert dense_head_flops(VGG_T3, 518, 392, 2) == pytest.approx(0.225e12, rel=0.01)


def test_fast_weights_grow_linearly_and_softmax_quadratically():
    fast, softmax = (
        [map_flops(config, n, 518, 392).total for n in (500, 900)] for config in (VGG_T3, VGGT_1B)
    )
    assert fast[1] / fast[0] == pytest.approx(1.8, rel=0.01)
    assert softmax[1] / softmax[0] > 2.5
