"""Frames exchanged between processes, such as the node and its worker, on a local socket: a JSON
header and raw bytes, both length-prefixed. Never pickle.
"""

from __future__ import annotations  # adapters import this module in older interpreters

import json
import socket
import struct
from typing import Any

LENGTHS = struct.Struct(">IQ")  # bytes of the header, bytes of the payload
MAX_HEADER = 16 << 20  # bytes
MAX_PAYLOAD = 1 << 30  # bytes


class FrameError(ValueError):
    """The received data is not a valid frame."""


def send(
    connection: socket.socket,
    header: dict[str, Any],
    payload: bytes | bytearray | memoryview = b"",
) -> None:
    """Write one frame. header: serializable as JSON; payload: any contiguous bytes."""
    text = json.dumps(header).encode()
    connection.sendall(LENGTHS.pack(len(text), len(payload)) + text)
    if len(payload):
        connection.sendall(payload)


def receive(
    connection: socket.socket, max_payload: int = MAX_PAYLOAD
) -> tuple[dict[str, Any], bytearray]:
    """Read the next frame and return (header, payload).

    The announced lengths are checked before memory is allocated. Raises EOFError if the other side
    has closed the connection, FrameError if a length exceeds MAX_HEADER or max_payload bytes or
    the header is not a JSON object.
    """
    header_size, payload_size = LENGTHS.unpack(_exactly(connection, LENGTHS.size))
    if header_size > MAX_HEADER or payload_size > max_payload:
        raise FrameError(
            f"a frame announces {header_size} + {payload_size} bytes; at most {MAX_HEADER} + {max_payload} are accepted"
        )
    text, payload = _exactly(connection, header_size), _exactly(connection, payload_size)
    try:
        header = json.loads(text.decode())
    except ValueError as error:
        raise FrameError(f"the frame header is not valid JSON: {error}") from error
    if not isinstance(header, dict):
        raise FrameError(f"the frame header must be a JSON object, got {type(header).__name__}")
    return header, payload


def _exactly(connection: socket.socket, size: int) -> bytearray:
    data = bytearray(size)
    view, filled = memoryview(data), 0
    while filled < size:
        count = connection.recv_into(view[filled:])
        if count == 0:
            raise EOFError("the other side closed the connection")
        filled += count
    return data
