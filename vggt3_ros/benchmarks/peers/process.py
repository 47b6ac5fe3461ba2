"""The process of one contender: `python -m vggt3_ros.benchmarks.peers.process module:function
GIVEN FOLDER`.
"""

import argparse
import importlib
import json
import logging
import sys
from pathlib import Path

from vggt3_ros.benchmarks.peers.given import Given
from vggt3_ros.system.environment import end_with_parent


def main() -> int:
    end_with_parent()
    parser = argparse.ArgumentParser()
    parser.add_argument("function")
    parser.add_argument("given", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--settings", type=json.loads, default={})
    parser.add_argument("--poses", type=Path)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    module, _, name = arguments.function.partition(":")
    try:
        contend = getattr(importlib.import_module(module), name)
        given = Given.load(arguments.given, arguments.poses)
        contend(given, arguments.folder, **arguments.settings).save(arguments.folder)
    except ModuleNotFoundError as error:
        print(f"{error.name} is not installed: pip install {error.name}", file=sys.stderr)
        return 1
    except (ValueError, OSError) as error:  # its text is for people
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
