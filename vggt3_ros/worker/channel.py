"""Messages from the worker to the node, from any thread: answers and unrequested events."""

import logging
import os
import socket
import threading
from collections.abc import Callable
from typing import Any

from vggt3_ros.system import wire
from vggt3_ros.system.stages import Cancelled

log = logging.getLogger(__name__)


class Channel:
    """Send on a connected socket. Thread-safe. The process exits if the other side is gone."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection, self._sending = connection, threading.Lock()

    def send(self, number: int | None, event: str, payload: bytes = b"", **values: object) -> None:
        """Send an answer to request `number`; None: an unrequested event."""
        try:
            with self._sending:
                wire.send(self._connection, {"request": number, "event": event, **values}, payload)
        except OSError:
            os._exit(0)  # the node is gone; the store is safe without being closed

    def error(self, number: int | None, code: str, message: str) -> None:
        """Answer a request with an error."""
        self.send(number, "error", code=code, message=message)

    def answer(
        self, number: int | None, function: Callable[..., dict[str, Any]], *arguments: object
    ) -> bool:
        """Call `function` and send what it returns as the result, or its exception as an error.
        Return whether it succeeded.
        """
        try:
            self.send(number, "result", **function(*arguments))
            return True
        except Exception as error:
            self.error(number, *code_and_text(error))
            return False


def code_and_text(error: Exception) -> tuple[str, str]:
    """Return the error code and text for the node. Unexpected errors are also logged with their
    traceback. Call it while the exception is handled.
    """
    if isinstance(error, Cancelled):
        return "cancelled", str(error) or "cancelled"
    if isinstance(error, ValueError):
        return "invalid", str(error)
    log.exception("request failed")
    return "failed", f"{type(error).__name__}: {error}"
