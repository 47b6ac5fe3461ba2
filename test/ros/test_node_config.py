"""The node's own parameters: bounds, and where the store lies."""

import re
from pathlib import Path

import pytest

from vggt3_ros.ros.node_config import GridConfig, NodeConfig


def test_a_named_store_is_used_and_home_is_expanded(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert NodeConfig(store="/data/office").store_folder() == Path("/data/office")
    assert NodeConfig(store="~/office").store_folder() == tmp_path / "office"


def test_without_a_name_each_start_has_a_folder_of_its_own_in_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = NodeConfig().store_folder()
    assert folder.parent == tmp_path / ".ros" / "vggt3_ros" and not folder.exists()
    assert re.fullmatch(r"\d{8}-\d{6}", folder.name)


@pytest.mark.parametrize("low, high", [(1.0, 1.0), (1.8, 0.1)])
def test_heights_must_leave_something_between_them(low, high):
    with pytest.raises(ValueError, match=f"min_height must be below max_height, got {low}"):
        GridConfig(min_height=low, max_height=high)
    assert GridConfig(min_height=-5.0, max_height=-4.9).max_height == -4.9


@pytest.mark.parametrize(
    "values",
    [
        {"mode": "both"},
        {"tf_rate": 0.0},
        {"gate.inlier_ratio": 1.5},
        {"grid.up": "w"},
        {"refine_every_keyframes": -1},
        {"status_period": float("nan")},
    ],
)
def test_what_is_out_of_bounds_is_refused_by_its_name(values):
    (name,) = values
    with pytest.raises(ValueError, match=name.split(".")[-1]):
        NodeConfig.from_flat(values)


def test_flat_values_are_the_same_config_again():
    config = NodeConfig.from_flat(
        {"gate.translation": 2.5, "grid.up": "-y", "mode": "localization"}
    )
    flat = {name: value for name, (value, _) in config.flat().items()}
    assert NodeConfig.from_flat(flat) == config and flat["gate.translation"] == 2.5
