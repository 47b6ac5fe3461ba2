"""The process that runs an adapter class, in any interpreter: `python host.py --adapter
module:Class --socket PATH`. See __init__.py.

It is run by path and makes vggt3_ros importable without vggt3_ros's environment. Neither the
installation folder nor the package's own __init__ is used, so that packages of the back end's
interpreter cannot enter this one.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import socket
import sys
import threading
import time
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from vggt3_ros.adapters.contract import Adapter, View

ORPHAN_SECONDS = 1.0  # interval of the check that the parent process is alive
MAX_VIEW = 1 << 28  # bytes of an image with depth


def _reachable() -> None:
    """Make vggt3_ros.adapters and its dependencies importable, and remove this file's own folder
    from the import path.
    """
    here = Path(__file__).resolve().parent
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != here]
    if "vggt3_ros" not in sys.modules:
        package = types.ModuleType("vggt3_ros")
        package.__path__ = [str(here.parent)]
        sys.modules["vggt3_ros"] = package


def load_class(spec: str) -> Callable[[str, str, str], Adapter]:
    """Return the class named `module:Class` or `file.py:Class`. Raise ValueError if there is none."""
    place, _, name = spec.rpartition(":")
    if place.endswith(".py"):
        found = importlib.util.spec_from_file_location("vggt3_adapter", Path(place).expanduser())
        if found is None or found.loader is None:
            raise ValueError(f"{place} cannot be imported")
        module = importlib.util.module_from_spec(found)
        sys.modules["vggt3_adapter"] = module
        found.loader.exec_module(module)
    else:
        module = importlib.import_module(place)
    if not hasattr(module, name):
        raise ValueError(f"{place} has no class {name}")
    loaded: Callable[[str, str, str], Adapter] = getattr(module, name)
    return loaded


def serve(connection: socket.socket, adapter: Adapter) -> NoReturn:
    """Answer requests until the peer closes the connection (EOFError, ConnectionError)."""
    from vggt3_ros.adapters import wire
    from vggt3_ros.system.wire import receive, send

    send(connection, wire.hello(adapter))
    number: int | None = None
    views: list[View] = []
    while True:
        header, payload = receive(connection, MAX_VIEW)
        if "begin" in header:
            number, views = header["begin"], []
        elif header.get("view") == number and number is not None:
            views.append(wire.unpacked_view(header, payload))
        elif header.get("run") == number and number is not None:
            try:
                _answer(connection, adapter, number, views)
            except (EOFError, ConnectionError):
                raise
            except Exception as error:
                send(connection, {"failed": f"{type(error).__name__}: {error}", "request": number})
            number, views = None, []


def _answer(
    connection: socket.socket, adapter: Adapter, number: int, views: Sequence[View]
) -> None:
    from vggt3_ros.adapters import wire
    from vggt3_ros.system.wire import send

    def progress(fraction: float) -> None:
        send(connection, {"progress": number, "fraction": float(fraction)})

    answer = adapter(views, progress)
    wire.check(answer, views)
    for index, seen in enumerate(answer.seen):
        send(connection, *wire.packed_seen(number, index, seen, views[index].dense))
    send(connection, {"done": number, "poses": answer.poses, "metric": bool(answer.metric)})


def _end_with(parent: int) -> None:
    """Exit when the parent process has ended. An orphaned network would keep its GPU memory."""
    while os.getppid() == parent:
        time.sleep(ORPHAN_SECONDS)
    os._exit(0)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--adapter", required=True, help="module:Class or file.py:Class")
    parser.add_argument("--socket", required=True, help="path of the Unix socket of the back end")
    parser.add_argument("--weights", default="", help="passed to the class")
    parser.add_argument("--device", default="auto", help="passed to the class")
    parser.add_argument("--dtype", default="auto", help="passed to the class")
    parser.add_argument("--parent", type=int, help="exit when this process id ends")
    arguments = parser.parse_args(argv)
    _reachable()
    from vggt3_ros.system.wire import send

    connection = socket.socket(socket.AF_UNIX)
    connection.connect(arguments.socket)
    if arguments.parent is not None:
        threading.Thread(target=_end_with, args=(arguments.parent,), daemon=True).start()
    try:
        serve(
            connection,
            load_class(arguments.adapter)(arguments.weights, arguments.device, arguments.dtype),
        )
    except (EOFError, ConnectionError):
        return 0  # the back end no longer waits
    except BaseException as error:
        send(connection, {"failed": f"{type(error).__name__}: {error}"})
        raise


if __name__ == "__main__":
    sys.exit(main())
