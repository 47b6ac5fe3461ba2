"""The vggt3 command: one module of this package per subcommand."""

import argparse
import importlib
import signal
import sys
from collections.abc import Sequence

COMMANDS = (
    "evaluate",
    "report",
    "replay",
    "frontend",
    "localize",
    "view",
    "import",
    "merge",
    "export",
    "demo",
    "checkpoint",
    "benchmark",
    "soak",
)
MODULES = {"import": "import_run"}  # a keyword cannot name a module


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="vggt3", description="A SLAM back end that distils a scene into a small network."
    )
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for name in COMMANDS:
        importlib.import_module(f"vggt3_ros.cli.{MODULES.get(name, name)}").add_parser(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit status: 0; 2 with a line of text if the input is invalid; 130 if
    interrupted.
    """
    try:
        if argv is None:
            from vggt3_ros.system.environment import restart_with_settings

            restart_with_settings()
            # scripts/vggt3.in installs its own handler while this is imported.
            signal.signal(signal.SIGINT, signal.default_int_handler)
        arguments = build_parser().parse_args(argv)
        status: int = arguments.run(arguments) or 0
        return status
    except (ValueError, OSError) as error:
        print(f"vggt3: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("vggt3: stopped", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
