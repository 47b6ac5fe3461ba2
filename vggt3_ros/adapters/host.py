"""The process an adapter class runs in, in any interpreter: `python host.py --adapter module:Class
--socket PATH`. See __init__.py.

Run by its path, it makes vggt3_ros importable without its environment: neither the folder it is
installed in nor the package's own __init__ is used, so that nothing of another interpreter's
packages comes into this one's.
"""

import argparse
import importlib
import importlib.util
import os
import socket
import sys
import threading
import time
import types
from pathlib import Path

ORPHAN_SECONDS = 1.0
MAX_VIEW = 1 << 28  # bytes of an image with depth


def _reachable():
    """Let vggt3_ros.adapters and what it needs be imported; this file's own folder is no place to
    import from.
    """
    here = Path(__file__).resolve().parent
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != here]
    if "vggt3_ros" not in sys.modules:
        package = types.ModuleType("vggt3_ros")
        package.__path__ = [str(here.parent)]
        sys.modules["vggt3_ros"] = package


def load_class(spec):
    """`module:Class`, `file.py:Class` -> the class. ValueError when there is none."""
    place, _, name = spec.rpartition(":")
    if place.endswith(".py"):
        found = importlib.util.spec_from_file_location("vggt3_adapter", Path(place).expanduser())
        module = importlib.util.module_from_spec(found)
        sys.modules["vggt3_adapter"] = module
        found.loader.exec_module(module)
    else:
        module = importlib.import_module(place)
    if not hasattr(module, name):
        raise ValueError(f"{place} has no {name}")
    return getattr(module, name)


def serve(connection, adapter):
    """Answer requests until the other side closes the connection (EOFError, ConnectionError)."""
    from vggt3_ros.adapters import wire
    from vggt3_ros.system.wire import receive, send

    send(connection, wire.hello(adapter))
    number, views = None, []
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


def _answer(connection, adapter, number, views):
    from vggt3_ros.adapters import wire
    from vggt3_ros.system.wire import send

    def progress(fraction):
        send(connection, {"progress": number, "fraction": float(fraction)})

    answer = adapter(views, progress)
    wire.check(answer, views)
    for index, seen in enumerate(answer.seen):
        send(connection, *wire.packed_seen(number, index, seen, views[index].dense))
    send(connection, {"done": number, "poses": answer.poses, "metric": bool(answer.metric)})


def _end_with(parent):
    """End when the process that started this one has: a network on a GPU would hold its memory for
    nobody.
    """
    while os.getppid() == parent:
        time.sleep(ORPHAN_SECONDS)
    os._exit(0)


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--adapter", required=True, help="module:Class or file.py:Class")
    parser.add_argument("--socket", required=True, help="path of the Unix socket of the back end")
    parser.add_argument("--weights", default="", help="handed to the class")
    parser.add_argument("--device", default="auto", help="handed to the class")
    parser.add_argument("--dtype", default="auto", help="handed to the class")
    parser.add_argument("--parent", type=int, help="process id this process ends with")
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
        return 0  # nobody waits for it any more
    except BaseException as error:
        send(connection, {"failed": f"{type(error).__name__}: {error}"})
        raise


if __name__ == "__main__":
    sys.exit(main())
