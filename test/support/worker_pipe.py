"""The worker's end of its connection in this process, and what it sent to the node."""

import socket

from vggt3_ros.system import wire
from vggt3_ros.worker.channel import Channel


class Pipe:
    """channel: for the part under test; receive() -> (header, payload) as the node gets it."""

    def __init__(self):
        self._node, worker = socket.socketpair()
        self._node.settimeout(60.0)
        self._worker = worker
        self.channel = Channel(worker)

    def receive(self):
        return wire.receive(self._node)

    def answer(self, number):
        """The result or error of a request, and the headers that came before it."""
        before = []
        while True:
            header, _ = self.receive()
            if header["request"] == number and header["event"] in ("result", "error"):
                return header, before
            before.append(header)

    def hang_up(self):
        self._node.close()

    def close(self):
        self._node.close()
        self._worker.close()
