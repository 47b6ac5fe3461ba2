"""Who may see the page, and what it takes from them."""

import socket
import time

import numpy as np
import pytest

pytest.importorskip("viser", reason="viser is not installed: scripts/setup brings it")

import msgspec
import viser
from viser import _messages
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from vggt3_ros.web import server as module
from vggt3_ros.web.serve import exposed, where
from vggt3_ros.web.server import Server, check_address, is_loopback, own_page

PROTOCOL = f"viser-v{viser.__version__}"


@pytest.fixture
def server():
    server = Server("127.0.0.1", 0, "test")
    yield server
    server.stop()


def visit(server, origin=None, host=None):
    """A web socket as a page of `origin` opens it; what it is told first."""
    headers = {} if host is None else {"Host": host}
    with connect(
        f"ws://127.0.0.1:{server.get_port()}",
        subprotocols=[PROTOCOL],
        origin=origin,
        additional_headers=headers,
        max_size=None,
    ) as link:
        return link.recv(timeout=20)


def test_the_page_itself_is_served_and_another_site_gets_nothing(server, caplog):
    server.scene.add_point_cloud("/secret", np.zeros((1, 3)), (0, 0, 0))
    own = f"http://127.0.0.1:{server.get_port()}"
    assert visit(server, own) and visit(server)
    for origin in ("http://evil.example", "null", f"http://localhost:{server.get_port()}"):
        with pytest.raises(ConnectionClosed) as closed:
            visit(server, origin)
        assert closed.value.rcvd.code == module.OTHER_SITE
    assert "evil.example" in caplog.text


@pytest.mark.parametrize(
    ("origin", "host", "loopback", "own"),
    [
        ("http://localhost:8080", "localhost:8080", True, True),
        ("http://[::1]:8080", "[::1]:8080", True, True),
        (None, "127.0.0.1:8080", True, True),
        ("http://robot:8080", "robot:8080", False, True),
        ("http://evil.example:8080", "evil.example:8080", True, False),  # DNS rebinding
        ("http://evil.example", "localhost:8080", True, False),
        ("http://localhost:9999", "localhost:8080", True, False),
        ("null", "localhost:8080", True, False),
        ("http://localhost:8080", None, True, False),
    ],
)
def test_whose_page_it_is(origin, host, loopback, own):
    assert own_page(origin, host, loopback) is own


def test_it_is_never_shared_over_the_internet(server, caplog, monkeypatch):
    monkeypatch.setattr(viser._viser, "ViserTunnel", lambda *_: pytest.fail("a tunnel is dug"))
    request = _messages.ShareUrlRequest()
    for handler in server._websock_server._incoming_handlers[_messages.ShareUrlRequest]:
        handler(0, request)
    until(lambda: "refused" in caplog.text)
    assert server.request_share_url() is None


def until(true):
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def upload(server, button, size, parts):
    """Send an upload as a page does; parts: bytes each."""
    link = connect(f"ws://127.0.0.1:{server.get_port()}", subprotocols=[PROTOCOL], max_size=None)
    send = lambda message: link.send(
        msgspec.msgpack.encode({"type": type(message).__name__, **vars(message)})
    )
    uuid = button._impl.uuid
    send(_messages.FileTransferStartUpload(uuid, "t", "a.png", "image/png", len(parts) + 1, size))
    for index, part in enumerate(parts):
        send(_messages.FileTransferPart(uuid, "t", index, part))
    return link


def test_an_upload_that_is_too_large_is_not_kept(server, monkeypatch):
    monkeypatch.setattr(module, "MAX_BYTES", 1000)
    button = server.gui.add_upload_button("x")
    uploads, seen = server.gui._current_file_upload_states, []
    server._websock_server.register_handler(
        _messages.FileTransferPart, lambda _, message: seen.append(message.part_index)
    )
    with upload(server, button, 900, [b"a" * 300, b"b" * 300]):
        until(lambda: seen == [0, 1])
        assert uploads["t"]["transferred_bytes"] == 600
    until(lambda: not uploads)  # with who sent it
    seen.clear()
    with upload(server, button, 1001, [b"a" * 300]):  # says so
        until(lambda: seen == [0])
        assert not uploads
    seen.clear()
    with upload(server, button, 900, [b"a" * 600, b"b" * 600, b"c" * 600]):  # does not
        until(lambda: seen == [0, 1, 2])
        assert not uploads


def test_an_address_that_cannot_be_had_is_said_at_once():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ValueError, match="name another one with --port"):
            Server("127.0.0.1", taken.getsockname()[1], "test")
    for host, port, text in (
        ("no.such.host.invalid", 8080, "no address of this machine"),
        ("192.0.2.1", 8080, "nothing can be served"),
        ("127.0.0.1", 70000, "0 to 65535"),
    ):
        with pytest.raises(ValueError, match=text):
            check_address(host, port)


def test_who_else_sees_the_page_is_said():
    assert [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "127.1.2.3")] == [
        True
    ] * 4
    assert not any(is_loopback(host) for host in ("0.0.0.0", "::", "192.168.0.7", "robot", ""))
    assert "ssh -L 8080:localhost:8080" in where("127.0.0.1", 8080, True)
    assert "http://THIS_MACHINE:8080" in where("0.0.0.0", 8080, False)
    assert "images" in exposed("0.0.0.0") and "ssh -L" in exposed("0.0.0.0")
