"""config/backend.yaml says of each parameter what the configuration says, and a file names a store."""

from itertools import pairwise

import pytest
import yaml
from folders import ROOT

from vggt3_ros.config import BackendConfig
from vggt3_ros.ros import parameter_file
from vggt3_ros.ros.node_config import NodeConfig
from vggt3_ros.ros.parameter_file import named_store, render

FIELDS = {**NodeConfig().flat(), **BackendConfig().flat()}


def flat(tree, prefix=""):
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def test_the_file_is_up_to_date():
    assert (ROOT / "config" / "backend.yaml").read_text() == parameter_file.render()


def test_every_parameter_has_its_default_with_its_type():
    parameters = yaml.safe_load(parameter_file.render())["/**"]["vggt3_ros"]["ros__parameters"]
    read = dict(flat(parameters))
    assert read == {name: value for name, (value, _) in FIELDS.items()}
    # ROS refuses 1 for a double
    assert all(type(read[name]) is type(value) for name, (value, _) in FIELDS.items())


def test_the_comment_above_each_says_meaning_unit_range_and_restart():
    lines = parameter_file.render().splitlines()
    component = ""
    seen = 0
    for above, line in pairwise(lines):
        name = line.strip().split(":")[0]
        if line.endswith(":") and line.startswith("      ") and not line.startswith("        "):
            component = name + "."
        if not above.strip().startswith("# ") or f"{component}{name}" not in FIELDS:
            continue
        seen += 1
        _, metadata = FIELDS[component + name]
        assert metadata["doc"] in above
        assert not metadata["unit"] or f"({metadata['unit']}" in above
        assert metadata["high"] is None or f"to {metadata['high']}" in above
        assert all(choice in above for choice in metadata["choices"])
        assert ("restart)" in above) == (not metadata["live"])
    assert seen == len(FIELDS)


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
