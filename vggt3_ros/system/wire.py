"""Messages between processes, as the node and its worker: a JSON header and raw bytes,
length-prefixed, on a local socket. Never pickle.
"""

import json
import struct

LENGTHS = struct.Struct(">IQ")
MAX_HEADER = 16 << 20
MAX_PAYLOAD = 1 << 30


class FrameError(ValueError):
    """What arrived is no frame."""


def send(connection, header, payload=b""):
    """Write one frame: `header` as JSON (a dict), `payload` as it is."""
    text = json.dumps(header).encode()
    connection.sendall(LENGTHS.pack(len(text), len(payload)) + text)
    if len(payload):
        connection.sendall(payload)


def receive(connection, max_payload=MAX_PAYLOAD):
    """(header, payload) of the next frame. EOFError when the other side is gone, FrameError when
    lengths or JSON make no sense, or more than max_payload bytes are announced: they are checked
    before memory is taken.
    """
    header_size, payload_size = LENGTHS.unpack(_exactly(connection, LENGTHS.size))
    if header_size > MAX_HEADER or payload_size > max_payload:
        raise FrameError(f"a frame announces {header_size} + {payload_size} bytes")
    text, payload = _exactly(connection, header_size), _exactly(connection, payload_size)
    try:
        header = json.loads(text.decode())
    except ValueError as error:
        raise FrameError(f"frame header is no JSON: {error}") from error
    if not isinstance(header, dict):
        raise FrameError(f"frame header must be an object, got {type(header).__name__}")
    return header, payload


def _exactly(connection, size):
    data = bytearray(size)
    view, filled = memoryview(data), 0
    while filled < size:
        count = connection.recv_into(view[filled:])
        if count == 0:
            raise EOFError("the other side closed the connection")
        filled += count
    return data
