"""vggt3 benchmark: speed and memory, measured in one run."""

from vggt3_ros.cli import benchmark_network


def add_parser(subparsers):
    parser = subparsers.add_parser("benchmark", help="speed and memory of parts of the back end")
    benchmark_network.add_parser(parser.add_subparsers(required=True, metavar="PART"))
