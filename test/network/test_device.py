"""The trunk's dtype follows what the device is fast at."""

import torch

from vggt3_ros.network import device


def test_the_faster_of_the_two_is_picked(monkeypatch):
    for seconds, expected in (
        ({torch.bfloat16: 1, torch.float32: 2}, torch.bfloat16),
        ({torch.bfloat16: 3, torch.float32: 2}, torch.float32),
    ):
        monkeypatch.setattr(
            device, "_seconds", lambda where, dtype, seconds=seconds: seconds[dtype]
        )
        assert device.pick_dtype("cpu") is expected


def test_a_real_device_gets_one_of_them():
    assert device.pick_dtype("cpu") in (torch.bfloat16, torch.float32)
