"""config/backend.yaml, made from the configuration: `python -m vggt3_ros.ros.parameter_file >
config/backend.yaml`. Needs no ROS.
"""

import json

from vggt3_ros.config import BackendConfig
from vggt3_ros.ros.node_config import NodeConfig
from vggt3_ros.system.checked import ValueInfo

HEAD = """\
# Every parameter of the back end at its default. Those marked (restart) are read once, at the start; the rest may be set
# while it runs. Made by `python -m vggt3_ros.ros.parameter_file`.
/**:
  vggt3_ros:
    ros__parameters:
"""


def render() -> str:
    """Return the text of config/backend.yaml."""
    lines, component = [], ""
    values = {**NodeConfig().flat(), **BackendConfig().flat()}
    # those of no component first
    for name, (value, metadata) in sorted(values.items(), key=lambda item: "." in item[0]):
        prefix, _, leaf = name.rpartition(".")
        if prefix != component:
            lines.append(f"\n      {prefix}:\n")
            component = prefix
        indent = " " * (8 if prefix else 6)
        lines.append(f"{indent}# {_comment(metadata)}\n{indent}{leaf}: {json.dumps(value)}\n")
    return HEAD + "".join(lines)


def named_store(content, node="vggt3_ros"):
    """The folder that parameter `store` has in what a parameter file holds, "" where the file does
    not say: the last that is meant for a node of this name.
    """
    found = ""
    for key, inner in content.items() if isinstance(content, dict) else ():
        if key == "ros__parameters" and isinstance(inner, dict):
            found = str(inner.get("store") or "") or found
        elif str(key).rpartition("/")[2] in (node, "**", "*") or (
            isinstance(inner, dict) and "ros__parameters" not in inner
        ):
            found = named_store(inner, node) or found
    return found


def _comment(metadata: ValueInfo) -> str:
    details = [metadata["unit"]] if metadata["unit"] else []
    if metadata["low"] is not None or metadata["high"] is not None:
        details.append(f"{metadata['low']} to {metadata['high']}")
    if metadata["choices"]:
        details.append("one of " + ", ".join(metadata["choices"]))
    if not metadata["live"]:
        details.append("restart")
    return metadata["doc"] + (f" ({'; '.join(details)})" if details else "")


if __name__ == "__main__":
    print(render(), end="")
