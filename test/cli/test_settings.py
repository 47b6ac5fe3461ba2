"""NAME=VALUE becomes a value of the config's type, or an error that names the pair."""

import pytest

from vggt3_ros.cli.settings import parse_settings
from vggt3_ros.config import BackendConfig


def test_values_get_the_types_of_their_defaults():
    settings = parse_settings(
        [
            "memory.steps=300",
            "map.voxel_size=0.03",
            "fixed_poses=TRUE",
            "device=cuda:1",
            "network.checkpoint=a=b",
        ]
    )
    assert settings == {
        "memory.steps": 300,
        "map.voxel_size": 0.03,
        "fixed_poses": True,
        "device": "cuda:1",
        "network.checkpoint": "a=b",
    }
    assert [type(value) for value in settings.values()] == [int, float, bool, str, str]
    config = BackendConfig.from_flat(settings)
    assert config.memory.steps == 300 and config.fixed_poses


def test_the_last_of_two_holds_and_none_is_none():
    assert parse_settings(["memory.steps=1", "memory.steps=2"]) == {"memory.steps": 2}
    assert parse_settings([]) == {}


@pytest.mark.parametrize(
    "pair, words",
    [
        ("memory.steps", "give NAME=VALUE"),
        ("memory.stepz=3", "memory.steps"),
        ("=3", "give NAME=VALUE"),
        ("memory.steps=many", "memory.steps takes a int"),
        ("memory.steps=1.5", "memory.steps takes a int"),
        ("map.voxel_size=", "map.voxel_size takes a float"),
        ("fixed_poses=yes", "fixed_poses takes a bool"),
    ],
)
def test_what_makes_no_sense_is_named(pair, words):
    with pytest.raises(ValueError) as refused:
        parse_settings(["device=cpu", pair])
    assert f"--set {pair}" in str(refused.value) and words in str(refused.value)
