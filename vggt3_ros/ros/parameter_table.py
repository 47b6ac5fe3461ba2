"""config/PARAMETERS.md, made from the configuration: `python -m vggt3_ros.ros.parameter_table > config/PARAMETERS.md`. Needs no ROS."""

import dataclasses
import json
import math

from vggt3_ros.config import BackendConfig
from vggt3_ros.ros.node_config import NodeConfig

HEAD = """\
# Parameters

Every parameter of the node `vggt3_ros`. Made by `python -m vggt3_ros.ros.parameter_table`; the same as a file to start from:
[backend.yaml](backend.yaml).

- **Default** is written as in YAML; `""` is the empty text.
- **Unit**: `-` where there is none: counts, shares and other ratios, texts, switches.
- **Range**: both ends are allowed. A value outside is refused with the reason, at the start and while running.
- **While running**: *yes*: `ros2 param set /vggt3_ros NAME VALUE` takes effect at once, or with the next refinement for what a refinement
  uses; *restart*: read once, and a set is refused as read-only.
"""
COLUMNS = "| parameter | type | default | unit | range | while running | meaning |\n|---|---|---|---|---|---|---|\n"
TYPES = {bool: "bool", int: "integer", float: "double", str: "string"}  # as ROS 2 names them
OWN = "What the node adds to the library: frames, rates, when to refine, where to write."
SHARED = "These and the ones below are taken by the command line too: `vggt3 evaluate FOLDER --set map.voxel_size=0.03`."

# What rclpy declares: (name, type, default, unit, range, while running, meaning).
OF_EVERY_NODE = (
    ("use_sim_time", "bool", "`false`", "-", "true, false", "yes", "Time comes from the topic /clock"),
    ("start_type_description_service", "bool", "`true`", "-", "true, false", "restart", "Offer the service ~/get_type_description"))
OF_EVERY_TOPIC = (
    ("depth", "integer", "that of the topic", "messages", "1 and more", "restart", "Length of the queue"),
    ("history", "string", "`keep_last`", "-", "keep_last, keep_all", "restart", "Whether the queue is bounded by `depth`"),
    ("reliability", "string", "that of the topic", "-", "reliable, best_effort; of an input also best_available", "restart",
     "best_available: reliable when all publishers are"),
    ("durability", "string", "that of the topic", "-", "volatile, transient_local", "restart", "transient_local: latched; of inputs alone"))
QOS_HEAD = """\
## Quality of service

`qos_overrides.TOPIC.publisher.POLICY` for the topics out and `qos_overrides.TOPIC.subscription.POLICY` for those in, TOPIC with its
namespace and a leading `/`, as remapped: `qos_overrides./robot/keyframes.subscription.depth`. Defaults are in the README's tables of topics.

"""


def render():
    """The text of config/PARAMETERS.md."""
    parts = [HEAD]
    for config, title, intro in ((NodeConfig, "Node", OWN), (BackendConfig, "Back end", SHARED)):
        own = {f.name: f for f in dataclasses.fields(config) if "doc" in f.metadata}
        parts.append(_section(title, intro, own, ""))
        for f in dataclasses.fields(config):
            if f.name not in own:
                part = f.default_factory
                parts.append(_section(f"`{f.name}.*`", part.__doc__, {g.name: g for g in dataclasses.fields(part)}, f.name + "."))
    parts.append("## Of every ROS 2 node\n\n" + COLUMNS + "".join(_row(*row) for row in OF_EVERY_NODE))
    parts.append(QOS_HEAD + COLUMNS.replace("parameter", "POLICY", 1) + "".join(_row(*row) for row in OF_EVERY_TOPIC))
    return "\n".join(parts)


def _section(title, intro, fields, prefix):
    rows = (_row(prefix + name, TYPES[type(f.default)], f"`{json.dumps(f.default)}`", f.metadata["unit"] or "-", _range(f),
                 "yes" if f.metadata["live"] else "restart", f.metadata["doc"]) for name, f in fields.items())
    return f"## {title}\n\n{' '.join(intro.split())}\n\n{COLUMNS}{''.join(rows)}"


def _row(name, kind, default, unit, bounds, live, meaning):
    cells = (f"`{name}`", kind, default, unit, bounds, live, meaning)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def _range(f):
    low, high, choices = (f.metadata[key] for key in ("low", "high", "choices"))
    if isinstance(f.default, bool):
        return "true, false"
    if choices:
        return ", ".join(choices)
    return "text" if isinstance(f.default, str) else f"{_number(low)} to {_number(high)}"


def _number(value):
    return "pi" if value == math.pi else f"{value:.10g}"


if __name__ == "__main__":
    print(render(), end="")
