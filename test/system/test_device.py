"""The device of the back end: names that torch knows, and the line that describes it."""

import pytest
import torch

from vggt3_ros.system.device import device_name, device_named, running_on


def test_the_cpu_is_there_and_auto_takes_what_is():
    assert device_named("cpu") == torch.device("cpu") and device_name(device_named("cpu")) == "cpu"
    assert device_named("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("name", ["gpu", "", "cpu:x", "/dev/nvidia0"])
def test_an_unknown_device_is_an_error_that_lists_the_choices(name):
    with pytest.raises(ValueError, match=f"'{name}': use auto, cpu"):
        device_named(name)


def test_a_gpu_that_is_not_there_is_an_error_that_says_what_to_do(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="'cuda:0'.*use auto or cpu"):
        device_named("cuda:0")
    assert device_named("auto") == torch.device("cpu")


def test_the_line_names_device_networks_and_prior():
    assert running_on("cpu", None).startswith("cpu, float32, embedded networks")
    assert running_on("cpu", None).endswith("; no prior")
    assert running_on("cpu", "VGG-T3, CC BY-NC").endswith("; prior VGG-T3, CC BY-NC")
