"""vggt3 benchmark: speed and memory, measured in one run."""

from vggt3_ros.cli import (benchmark_faults, benchmark_growth, benchmark_memory, benchmark_network, benchmark_node, benchmark_restarts,
                           benchmark_rooms, benchmark_session)


def add_parser(subparsers):
    parser = subparsers.add_parser("benchmark", help="speed and memory of parts of the back end")
    parts = parser.add_subparsers(required=True, metavar="PART")
    for part in (benchmark_faults, benchmark_network, benchmark_node, benchmark_restarts, benchmark_rooms, benchmark_session, benchmark_growth,
                 benchmark_memory):
        part.add_parser(parts)
