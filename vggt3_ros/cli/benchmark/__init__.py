"""vggt3 benchmark: measure speed, memory and robustness; one module of this package per part, one
for all parts together, and one that compares two runs.
"""

from vggt3_ros.cli import SubParsers
from vggt3_ros.cli.benchmark import (
    compare,
    faults,
    growth,
    memory,
    network,
    node,
    peers,
    refusals,
    restarts,
    rooms,
    session,
    suite,
)


def add_parser(subparsers: SubParsers) -> None:
    """Add the command to `subparsers`."""
    parser = subparsers.add_parser(
        "benchmark", help="measure speed and memory of parts of the back end"
    )
    parts = parser.add_subparsers(required=True, metavar="PART")
    measured = faults, network, node, restarts, rooms, session, growth, memory, refusals, peers
    for part in (*measured, suite, compare):
        part.add_parser(parts)
