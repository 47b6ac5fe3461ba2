"""Work buffers: reused by name, grown when needed, never shared."""

import torch

from vggt3_ros.network.scratch import Scratch


def scratch():
    return Scratch(torch.device("cpu"), torch.float32)


def test_a_name_keeps_its_memory_and_another_name_has_its_own():
    buffers = scratch()
    large = buffers.take("a", 4, 5)
    small = buffers.take("a", 2, 3)
    assert small.shape == (2, 3) and small.is_contiguous()
    assert small.data_ptr() == large.data_ptr() != buffers.take("b", 2, 3).data_ptr()
    assert buffers.bytes == 4 * (20 + 6)


def test_a_larger_request_replaces_the_buffer():
    buffers = scratch()
    buffers.take("a", 10)
    assert buffers.take("a", 3, 10).shape == (3, 10) and buffers.bytes == 4 * 30
    assert buffers.take("a", 0).numel() == 0 and buffers.bytes == 4 * 30


def test_buffers_have_the_dtype_of_their_scratch():
    assert Scratch(torch.device("cpu"), torch.bfloat16).take("a", 8).nbytes == 16
