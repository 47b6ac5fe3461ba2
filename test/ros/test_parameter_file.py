"""What a parameter file says, before a node reads it."""

import pytest
import yaml

from vggt3_ros.ros.parameter_file import named_store, render


@pytest.mark.parametrize(
    ("text", "store"),
    [
        (render(), ""),
        ("", ""),
        ("- a\n", ""),
        ("/**:\n  ros__parameters:\n    store: /data/a\n", "/data/a"),
        ("vggt3_ros:\n  ros__parameters: {store: /data/a, mode: mapping}\n", "/data/a"),
        ("/robot/vggt3_ros:\n  ros__parameters: {store: /data/a}\n", "/data/a"),
        ("robot:\n  vggt3_ros:\n    ros__parameters: {store: /data/a}\n", "/data/a"),
        ("other:\n  ros__parameters: {store: /data/b}\n", ""),
        (
            "/**:\n  ros__parameters: {store: /data/a}\nvggt3_ros:\n  ros__parameters: {store: /data/b}\n",
            "/data/b",
        ),
        ("/**:\n  vggt3_ros:\n    ros__parameters: {store: ''}\n", ""),
        ("vggt3_ros:\n  ros__parameters: 3\n", ""),
    ],
)
def test_the_store_that_it_names(text, store):
    assert named_store(yaml.safe_load(text)) == store
