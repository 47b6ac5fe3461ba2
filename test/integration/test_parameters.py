"""Parameters: described, with ranges; a bad set is refused with the reason; live ones act at
once.
"""

import pytest
from rcl_interfaces.srv import DescribeParameters, GetParameters, SetParameters
from rclpy.exceptions import InvalidParameterValueException
from rclpy.parameter import Parameter
from ros_graph import until

from vggt3_ros.config import BackendConfig
from vggt3_ros.ros.node_config import NodeConfig


def test_every_config_value_is_a_described_parameter(graph):
    graph.backend()
    fields = {**NodeConfig().flat(), **BackendConfig().flat()}
    answer = graph.call(
        DescribeParameters,
        "/vggt3_ros/describe_parameters",
        DescribeParameters.Request(names=list(fields)),
    )
    assert len(answer.descriptors) == len(fields) > 20
    for descriptor in answer.descriptors:
        value, metadata = fields[descriptor.name]
        assert metadata["doc"] in descriptor.description and descriptor.read_only == (
            not metadata["live"]
        )
        assert metadata["unit"] in descriptor.description
        assert all(choice in descriptor.additional_constraints for choice in metadata["choices"])
        # every number has a range
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            ranges = list(descriptor.integer_range) + list(descriptor.floating_point_range)
            assert (
                ranges[0].to_value == metadata["high"] and ranges[0].from_value == metadata["low"]
            )


def set_parameter(graph, name, value):
    request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
    return graph.call(SetParameters, "/vggt3_ros/set_parameters", request).results[0]


@pytest.mark.parametrize(
    "name, value, reason",
    [
        ("loops.minimum_inliers", 1, "minimum_inliers"),
        ("map.voxel_size", 50.0, "voxel_size"),
        ("device", "cpu", "read"),
        ("map.voxel_size", "small", "type"),
        ("refine_every_seconds", float("nan"), "refine_every_seconds"),
    ],
)
def test_a_bad_set_is_refused_with_the_reason(graph, name, value, reason):
    backend = graph.backend(wait=False)
    before = backend.parameters.node, backend.parameters.backend
    answer = set_parameter(graph, name, value)
    assert not answer.successful and reason in answer.reason
    assert (backend.parameters.node, backend.parameters.backend) == before


def bad_values(value, metadata):
    """(value that must be refused, what the reason must name) for one parameter."""
    yield ["of", "another", "type"], "type" if metadata["live"] else "read-only"
    if not metadata["live"]:
        yield value, "read-only"
    elif metadata["choices"]:
        yield "jabberwocky", metadata["choices"][0]
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        beyond = (
            metadata["low"] - 1,
            metadata["high"] + 1,
            *([float("nan"), float("inf")] if isinstance(value, float) else []),
        )
        yield from ((type(value)(number), None) for number in beyond)


def test_every_parameter_refuses_what_it_cannot_take_and_says_why(graph):
    backend = graph.backend(wait=False)
    before = backend.parameters.node, backend.parameters.backend
    fields = {**NodeConfig().flat(), **BackendConfig().flat()}
    wrong = [
        (name, bad, text)
        for name, (value, metadata) in fields.items()
        for bad, text in bad_values(value, metadata)
    ]
    assert {name for name, _, _ in wrong} == set(fields)
    request = SetParameters.Request(
        parameters=[Parameter(name, value=bad).to_parameter_msg() for name, bad, _ in wrong]
    )
    results = graph.call(SetParameters, "/vggt3_ros/set_parameters", request, 60).results
    for (name, bad, text), result in zip(wrong, results, strict=True):
        assert not result.successful and (text or name.rpartition(".")[2]) in result.reason, (
            name,
            bad,
            result.reason,
        )
    assert (backend.parameters.node, backend.parameters.backend) == before


def test_a_live_change_reaches_the_worker(graph):
    backend = graph.backend()
    assert set_parameter(graph, "memory.steps", 7).successful
    assert backend.parameters.backend.memory.steps == 7
    # answered after the one that the set caused
    configured = backend._core.worker.configure(backend.parameters.backend)
    assert until(configured.done) and configured.exception() is None
    assert backend._core.worker._config.memory.steps == 7


def test_an_override_out_of_range_stops_the_node_with_the_name(graph):
    with pytest.raises(InvalidParameterValueException, match="tf_rate"):
        graph.backend(activate=False, tf_rate=0.0)


def test_quality_of_service_can_be_overridden(graph):
    graph.backend(wait=False, **{"qos_overrides./keyframes.subscription.depth": 7})
    answer = graph.call(
        GetParameters,
        "/vggt3_ros/get_parameters",
        GetParameters.Request(
            names=[
                "qos_overrides./keyframes.subscription.depth",
                "qos_overrides./map.publisher.depth",
            ]
        ),
    )
    assert [value.integer_value for value in answer.values] == [7, 1]
