"""vggt3 benchmark: speed and memory, measured in one run; one module of this package per part."""

from vggt3_ros.cli.benchmark import (
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
)


def add_parser(subparsers):
    parser = subparsers.add_parser("benchmark", help="speed and memory of parts of the back end")
    parts = parser.add_subparsers(required=True, metavar="PART")
    for part in (faults, network, node, restarts, rooms, session, growth, memory, refusals, peers):
        part.add_parser(parts)
