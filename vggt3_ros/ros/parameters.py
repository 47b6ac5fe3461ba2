"""Declare ROS parameters from the fields of NodeConfig and BackendConfig: name, description,
range, read-only.
"""

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)

from vggt3_ros.config import BackendConfig
from vggt3_ros.ros.node_config import NodeConfig

LARGEST = 2**62


class Parameters:
    """Declares the parameters on `node`. `.node` and `.backend` are the current configs (frozen).

    on_change(node_config, backend_config) is called after a live change. Raises ValueError if an
    override is out of range.
    """

    def __init__(self, node, on_change):
        self._on_change = on_change
        for name, (default, metadata) in {**NodeConfig().flat(), **BackendConfig().flat()}.items():
            node.declare_parameter(name, default, descriptor(name, default, metadata))
        self.node = NodeConfig.from_flat(
            {name: node.get_parameter(name).value for name in NodeConfig().flat()}
        )
        self.backend = BackendConfig.from_flat(
            {name: node.get_parameter(name).value for name in BackendConfig().flat()}
        )
        self._callback = node.add_on_set_parameters_callback(self._set)

    def _set(self, parameters):
        changed = {parameter.name: parameter.value for parameter in parameters}
        mine = {name: given for name, given in changed.items() if name in self.node.flat()}
        backends = {name: given for name, given in changed.items() if name in self.backend.flat()}
        try:
            node = NodeConfig.from_flat(
                {**{name: given for name, (given, _) in self.node.flat().items()}, **mine}
            )
            backend = BackendConfig.from_flat(
                {**{name: given for name, (given, _) in self.backend.flat().items()}, **backends}
            )
        except ValueError as error:
            return SetParametersResult(successful=False, reason=str(error))
        if (node, backend) != (self.node, self.backend):
            self.node, self.backend = node, backend
            self._on_change(node, backend)
        return SetParametersResult(successful=True)


def descriptor(name, default, metadata):
    """Return the ParameterDescriptor of a config field."""
    text = metadata["doc"] + (f" ({metadata['unit']})" if metadata["unit"] else "")
    out = ParameterDescriptor(
        name=name,
        description=text,
        read_only=not metadata["live"],
        additional_constraints=f"one of {', '.join(metadata['choices'])}"
        if metadata["choices"]
        else "",
    )
    low, high = metadata["low"], metadata["high"]
    if isinstance(default, int) and not isinstance(default, bool) and (low, high) != (None, None):
        out.integer_range = [
            IntegerRange(
                from_value=-LARGEST if low is None else int(low),
                to_value=LARGEST if high is None else int(high),
                step=1,
            )
        ]
    if isinstance(default, float) and (low, high) != (None, None):
        out.floating_point_range = [
            FloatingPointRange(
                from_value=-1e300 if low is None else float(low),
                to_value=1e300 if high is None else float(high),
                step=0.0,
            )
        ]
    return out
