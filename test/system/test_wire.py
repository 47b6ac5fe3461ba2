"""Frames on a socket: received as sent however they are split; invalid ones are refused before
memory is allocated.
"""

import json
import socket
import struct
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vggt3_ros.system import wire

scalars = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False)
values = st.recursive(
    scalars | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
)


@given(st.lists(st.tuples(st.dictionaries(st.text(), values), st.binary()), max_size=4))
def test_frames_arrive_as_they_were_sent(frames):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for header, payload in frames:
            wire.send(ours, header, payload)
            assert wire.receive(theirs) == (header, payload)


def test_a_frame_in_single_bytes_is_the_same_frame():
    ours, theirs = socket.socketpair()
    text, payload = json.dumps({"a": "ü"}).encode(), bytes(range(256))
    data = wire.LENGTHS.pack(len(text), len(payload)) + text + payload

    def drip():
        for k in range(len(data)):
            ours.sendall(data[k : k + 1])

    with ours, theirs:
        sender = threading.Thread(target=drip)
        sender.start()
        assert wire.receive(theirs) == ({"a": "ü"}, payload)
        sender.join()


@pytest.mark.parametrize(
    "data, message",
    [
        (struct.pack(">IQ", 2**31, 0), "announces"),
        (struct.pack(">IQ", 2, 2**60) + b"{}", "announces"),
        (struct.pack(">IQ", 2, 0) + b"[]", "object"),
        (struct.pack(">IQ", 3, 0) + b"\xff{}", "JSON"),
    ],
)
def test_nonsense_is_refused_before_memory_is_allocated(data, message):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(data)
        with pytest.raises(wire.FrameError, match=message):
            wire.receive(theirs)


def test_the_caller_may_accept_less():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        wire.send(ours, {}, bytes(100))
        with pytest.raises(wire.FrameError, match="at most .* 99 are accepted"):
            wire.receive(theirs, max_payload=99)


def test_a_truncated_frame_is_an_end_of_file_not_a_hang():
    ours, theirs = socket.socketpair()
    with theirs:
        with ours:
            ours.sendall(struct.pack(">IQ", 2, 100) + b"{}half")
        with pytest.raises(EOFError):
            wire.receive(theirs)
