"""docs/parameters.md: made from the configuration, and true of a node that runs, to the last of
its parameters.
"""

import re
from pathlib import Path

import pytest
from rcl_interfaces.msg import ParameterType
from rcl_interfaces.srv import DescribeParameters, GetParameters, ListParameters

from vggt3_ros.ros import parameter_table

TYPES = {
    ParameterType.PARAMETER_BOOL: "bool",
    ParameterType.PARAMETER_INTEGER: "integer",
    ParameterType.PARAMETER_DOUBLE: "double",
    ParameterType.PARAMETER_STRING: "string",
}
OVERRIDE = re.compile(r"qos_overrides\./.+\.(publisher|subscription)\.(\w+)")
BY_RCLPY = ("use_sim_time", "start_type_description_service")


@pytest.fixture(scope="module")
def rows():
    """{parameter or policy: its cells} of the file."""
    text = (Path(__file__).parents[2] / "docs" / "parameters.md").read_text()
    assert text == parameter_table.render(), (
        "run: scripts/run python -m vggt3_ros.ros.parameter_table > docs/parameters.md"
    )
    lines = [
        re.split(r"(?<!\\)\|", line)[1:-1] for line in text.splitlines() if line.startswith("| `")
    ]
    assert len(lines) > 110 and {len(cells) for cells in lines} == {7}
    rows = {cells[0].strip().strip("`"): [cell.strip() for cell in cells[1:]] for cells in lines}
    assert len(rows) == len(lines), "a parameter is there twice"
    return rows


def test_no_cell_is_empty_and_each_meaning_stands_alone(rows):
    for name, cells in rows.items():
        assert all(cells), name
        assert len(cells[-1]) > 8 and not cells[-1].lower().startswith(
            ("and ", "plus ", "the same ", "likewise")
        ), name
    assert len({cells[-1] for cells in rows.values()}) == len(rows), (
        "two parameters have the same meaning"
    )


@pytest.mark.parametrize("source", ["keyframes", "odometry"])
def test_it_says_of_every_parameter_what_the_running_node_says(graph, rows, source):
    backend = graph.backend(wait=False, input__source=source)
    names = graph.call(
        ListParameters, "/vggt3_ros/list_parameters", ListParameters.Request()
    ).result.names
    described = graph.call(
        DescribeParameters,
        "/vggt3_ros/describe_parameters",
        DescribeParameters.Request(names=names),
    ).descriptors
    values = graph.call(
        GetParameters, "/vggt3_ros/get_parameters", GetParameters.Request(names=names)
    ).values
    defaults = {
        name: default
        for config in (backend.parameters.node, backend.parameters.backend)
        for name, (default, _) in type(config)().flat().items()
    }
    documented = set()
    for descriptor, value in zip(described, values, strict=True):
        override = OVERRIDE.fullmatch(descriptor.name)
        name = override[2] if override else descriptor.name
        kind, default, unit, bounds, live, meaning = rows[name]
        documented.add(name)
        assert kind == TYPES[value.type] and (live == "restart") == descriptor.read_only, (
            descriptor.name
        )
        if override or name in BY_RCLPY:
            continue
        assert meaning in descriptor.description and (
            unit == "-" or f"({unit})" in descriptor.description
        ), name
        assert (
            default.strip("`") == str(defaults[name]).lower()
            if kind == "bool"
            else (
                default.strip('`"') == defaults[name]
                if kind == "string"
                else float(default.strip("`")) == defaults[name]
            )
        ), name
        for numbers in (*descriptor.integer_range, *descriptor.floating_point_range):
            low, high = (
                float(word.replace("pi", "3.141592653589793")) for word in bounds.split(" to ")
            )
            assert (low, high) == pytest.approx(
                (numbers.from_value, numbers.to_value), rel=1e-9
            ), name
        assert descriptor.additional_constraints in ("", f"one of {bounds}"), name
    assert documented == set(rows)
