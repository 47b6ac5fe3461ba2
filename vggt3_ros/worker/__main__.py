"""Entry point of the worker process."""

import argparse
import importlib
import logging
import os
import socket
import sys
from collections.abc import Sequence

from vggt3_ros import worker
from vggt3_ros.config import BackendConfig
from vggt3_ros.store.keyframes import KeyframeStore
from vggt3_ros.store.sessions import drop_arrivals
from vggt3_ros.system.environment import shorten_switch_interval
from vggt3_ros.worker.held import WorkersBackend
from vggt3_ros.worker.serving import serve


def main(argv: Sequence[str] | None = None) -> None:
    """Serve requests until the node closes the connection."""
    parser = argparse.ArgumentParser(
        description=worker.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--store", required=True, help="folder of the keyframe store")
    parser.add_argument(
        "--channel", required=True, type=int, help="file descriptor of the connected socket"
    )
    parser.add_argument(
        "--backend",
        default="vggt3_ros.backend:Backend",
        help="module:class that refines and localizes",
    )
    arguments = parser.parse_args(argv)
    logging.basicConfig(
        level=logging.INFO, format="[worker] %(levelname)s %(message)s", stream=sys.stderr
    )
    module, _, name = arguments.backend.partition(":")

    def make_backend(store: KeyframeStore, config: BackendConfig) -> WorkersBackend:
        backend: WorkersBackend = getattr(importlib.import_module(module), name)(store, config)
        return backend

    shorten_switch_interval()
    with KeyframeStore(arguments.store) as store:
        drop_arrivals(store)  # left by a worker that was killed while merging
        serve(socket.socket(fileno=arguments.channel), store, make_backend)
        os._exit(0)  # without waiting for a running refinement


if __name__ == "__main__":
    main()
