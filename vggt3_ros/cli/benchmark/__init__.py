"""vggt3 benchmark: speed and memory, measured in one run; one module of this package per part;
all parts together, and two runs compared.
"""

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


def add_parser(subparsers):
    parser = subparsers.add_parser("benchmark", help="speed and memory of parts of the back end")
    parts = parser.add_subparsers(required=True, metavar="PART")
    measured = faults, network, node, restarts, rooms, session, growth, memory, refusals, peers
    for part in (*measured, suite, compare):
        part.add_parser(parts)
