"""The worker's way back to the node: answers and what it says unasked, from any thread."""

import logging
import os
import threading

from vggt3_ros.system import wire
from vggt3_ros.system.stages import Cancelled

log = logging.getLogger(__name__)


class Channel:
    """Sends on a connected socket. Thread-safe. The process ends when the other side is gone."""

    def __init__(self, connection):
        self._connection, self._sending = connection, threading.Lock()

    def send(self, number, event, payload=b"", **values):
        """An answer to request `number`, or None for what was not asked for."""
        try:
            with self._sending:
                wire.send(self._connection, {"request": number, "event": event, **values}, payload)
        except OSError:
            os._exit(0)  # the node is gone; the store needs no closing

    def error(self, number, code, message):
        self.send(number, "error", code=code, message=message)

    def answer(self, number, function, *arguments):
        """Send what `function` returns as the result, or its exception as an error. True when it
        returned.
        """
        try:
            self.send(number, "result", **function(*arguments))
            return True
        except Exception as error:
            self.error(number, *code_and_text(error))
            return False


def code_and_text(error):
    """What the node is told; a fault of the program itself goes to the log with its traceback."""
    if isinstance(error, Cancelled):
        return "cancelled", str(error) or "cancelled"
    if isinstance(error, ValueError):
        return "invalid", str(error)
    log.exception("request failed")
    return "failed", f"{type(error).__name__}: {error}"
