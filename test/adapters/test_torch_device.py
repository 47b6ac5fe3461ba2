"""Devices, dtypes and image tensors of adapters of torch networks."""

import numpy as np
import pytest
import torch

from vggt3_ros.adapters import torch_device
from vggt3_ros.adapters.contract import View


@pytest.mark.parametrize(
    "gpu, half, device, dtype, expected",
    [
        (False, False, "auto", "auto", ("cpu", torch.float32)),
        (True, True, "auto", "auto", ("cuda", torch.bfloat16)),
        (True, False, "auto", "auto", ("cuda", torch.float32)),
        (True, True, "cpu", "auto", ("cpu", torch.float32)),
        (True, True, "cuda:1", "float16", ("cuda:1", torch.float16)),
        (False, False, "auto", "bfloat16", ("cpu", torch.bfloat16)),
    ],
)
def test_auto_means_the_gpu_and_the_narrowest_type_that_it_serves(
    monkeypatch, gpu, half, device, dtype, expected
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: half)
    assert torch_device.pick(device, dtype) == (torch.device(expected[0]), expected[1])


def test_people_read_the_model_of_the_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"Model of {device}")
    described = torch_device.describe(torch.device("cuda:0"), torch.bfloat16)
    assert described == ("cuda:0 (Model of cuda:0)", "bfloat16")
    assert torch_device.describe(torch.device("cpu"), torch.float32) == ("cpu", "float32")


def test_images_are_stacked_in_0_to_1_and_the_view_is_not_shared():
    image = np.array([[[0, 51, 255], [255, 0, 102]]], np.uint8)
    image.setflags(write=False)  # as it comes over the wire
    stacked = torch_device.stacked([View(image), View(image)])
    assert stacked.shape == (2, 3, 1, 2) and stacked.dtype == torch.float32
    np.testing.assert_allclose(stacked[0, :, 0, 0], [0, 0.2, 1])


def test_normalised_images_have_imagenet_s_mean_at_zero():
    mean = torch.tensor(torch_device.IMAGENET_MEAN).view(1, 3, 1, 1).expand(2, 3, 4, 5)
    normalised = torch_device.normalised(mean)
    assert normalised.shape == (2, 3, 4, 5) and normalised.abs().max() < 1e-6
    white = torch_device.normalised(torch.ones(1, 3, 1, 1)).flatten()
    np.testing.assert_allclose(white, [2.249, 2.429, 2.640], atol=1e-3)


def test_tensors_of_any_kind_become_float32_arrays():
    tensor = torch.tensor([1.5], dtype=torch.bfloat16, requires_grad=True)
    array = torch_device.array(tensor)
    assert array.dtype == np.float32 and array.tolist() == [1.5]
    same = np.zeros(2)
    assert torch_device.array(same) is same
