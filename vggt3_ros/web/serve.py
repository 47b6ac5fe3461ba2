"""Serve the page of a store until interrupted: what `vggt3 view --web` does."""

import logging
import os
import threading
from pathlib import Path

from vggt3_ros.config import BackendConfig
from vggt3_ros.geometry.camera import Camera
from vggt3_ros.web.finder import Finder
from vggt3_ros.web.page import Page
from vggt3_ros.web.server import Server, check_address
from vggt3_ros.web.watching import Watch

_log = logging.getLogger(__name__)
LOOK_SECONDS = 1.0  # between two looks at the store: the names in a folder, and a count
NICENESS = 10  # the node and its worker go first


def serve(
    folder: Path,
    host: str,
    port: int,
    most_points: int,
    config: BackendConfig,
    camera: Camera | None = None,
    stop: threading.Event | None = None,
) -> None:
    """Show the store in `folder` on http://host:port until `stop` is set, or a KeyboardInterrupt
    comes; the process gives way to others from then on. ValueError where nothing can be served
    there.
    """
    stop = stop or threading.Event()
    check_address(host, port)
    os.nice(NICENESS)  # before there are threads, which inherit it
    server = Server(host, port, f"vggt3_ros: {folder.name}")
    try:
        _log.info("%s", where(host, server.get_port(), server.loopback))
        if not server.loopback:
            _log.warning("%s", exposed(host))
        page, watch = (
            Page(server, folder, Finder(folder, config, camera), most_points),
            Watch(folder),
        )
        while not stop.is_set():
            seen = watch.look()
            if seen is not None:
                page.show(seen)
            stop.wait(LOOK_SECONDS)
    except KeyboardInterrupt:
        pass
    finally:
        server.stop()


def where(host: str, port: int, loopback: bool) -> str:
    """How the page is opened."""
    if not loopback:
        name = "THIS_MACHINE" if host in ("0.0.0.0", "::", "") else host
        return f"the map is at http://{name}:{port}"
    return (
        f"the map is at http://{'localhost' if host == '127.0.0.1' else host}:{port}; from another "
        f"machine: ssh -L {port}:localhost:{port} USER@THIS_MACHINE, then the same address there"
    )


def exposed(host: str) -> str:
    return (
        f"anybody who reaches {host} sees this map and the images it was made of, without a password and not "
        "encrypted: leave --host out and use ssh -L, unless all who share this network may see them"
    )
