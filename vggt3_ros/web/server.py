"""viser's server, kept to the machine and the people it was started for.

A page shows the inside of people's homes. So it is not shared through viser's relay on the
internet, is not open to other web sites in the visitor's browser, and takes no upload of any size.
"""

import contextlib
import io
import ipaddress
import logging
import socket
from urllib.parse import urlsplit

import viser
import viser.infra
from viser import _messages

from vggt3_ros.web.finder import MAX_BYTES

_log = logging.getLogger(__name__)
UPLOADS = 4  # that may be under way
OTHER_SITE = 4003  # code that closes a connection which another web site's page opened


class Server(viser.ViserServer):
    """Serves on `host`, `port`, 0: any free one. ValueError where that cannot be had: viser itself
    would take the next port, or wait for ever.
    """

    def __init__(self, host: str, port: int, label: str) -> None:
        check_address(host, port)
        self.loopback = is_loopback(host)
        with contextlib.redirect_stdout(io.StringIO()):  # its banner; the log says where it is
            super().__init__(host, port, label, verbose=False)
        if port and self.get_port() != port:
            self.stop()
            raise ValueError(in_use(host, port))
        self._websock_server.on_client_connect(self._turn_away)
        self._websock_server.on_client_disconnect(self._forget_uploads)
        register = self._websock_server.register_handler
        register(_messages.FileTransferStartUpload, self._start_of_upload)
        register(_messages.FileTransferPart, self._part_of_upload)

    def stop(self) -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            super().stop()

    def request_share_url(self, verbose: bool = True) -> str | None:
        """None: viser's relay would show the page to whoever has the address."""
        _log.warning("a visitor asked for viser's public address of this page: refused")
        return None

    async def _turn_away(self, connection: viser.infra.WebsockClientConnection) -> None:
        """Close a connection that a page of another site opened: browsers allow those to ask."""
        live = self._websock_server._live_connections[connection.client_id]
        headers = live.request.headers if live.request is not None else {}
        if not own_page(headers.get("Origin"), headers.get("Host"), self.loopback):
            _log.warning("a page of %r asked for the map: refused", headers.get("Origin"))
            await live.close(OTHER_SITE, "this page belongs to another site")

    def _forget_uploads(self, connection: viser.infra.WebsockClientConnection) -> None:
        # viser forgets those of visitors who had a camera alone
        self.gui._drop_uploads_from_client(viser.infra.ClientId(connection.client_id))

    def _start_of_upload(
        self, client_id: viser.infra.ClientId, message: _messages.FileTransferStartUpload
    ) -> None:
        # after viser's own handler, which takes any
        uploads = self.gui._current_file_upload_states
        if message.size_bytes > MAX_BYTES or len(uploads) > UPLOADS:
            self._refuse(client_id, message.transfer_uuid, message.source_component_uuid)

    def _part_of_upload(
        self, client_id: viser.infra.ClientId, message: _messages.FileTransferPart
    ) -> None:
        upload = self.gui._current_file_upload_states.get(message.transfer_uuid)
        if upload is not None and upload["transferred_bytes"] > MAX_BYTES:
            self._refuse(client_id, message.transfer_uuid, message.source_component_uuid)

    def _refuse(self, client_id: viser.infra.ClientId, transfer: str, button: str | None) -> None:
        """Forget an upload; the page is told that it has all, and why nothing comes of it."""
        self.gui._current_file_upload_states.pop(transfer, None)
        self._websock_server.queue_message(
            _messages.FileTransferPartAck(button, transfer, MAX_BYTES, MAX_BYTES)
        )
        client = self.get_clients().get(client_id)
        if client is not None:
            client.add_notification(
                "The file was not taken",
                f"At most {MAX_BYTES >> 20} MB a file, and {UPLOADS} files at a time.",
                color="red",
            )


def is_loopback(host: str) -> bool:
    """Whether only programs on this machine reach what is served on `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def own_page(origin: str | None, host: str | None, loopback: bool) -> bool:
    """Whether a connection with these headers comes from the page that this server serves, or from
    a program that is no browser and sends no Origin.

    loopback: the page is served on this machine alone, so that it has a loopback name: another one
    that leads here is a trick (DNS rebinding).
    """
    if origin is None:
        return True
    if host is None or urlsplit(origin).netloc != host:
        return False
    return not loopback or is_loopback(urlsplit(f"//{host}").hostname or "")


def check_address(host: str, port: int) -> None:
    """ValueError, with what to do, where nothing can be served there."""
    if not 0 <= port <= 65535:
        raise ValueError(f"--port must be 0 to 65535, got {port}")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise ValueError(f"--host {host} is no address of this machine: {error}") from error
    for family, kind, protocol, _, address in found:
        with socket.socket(family, kind, protocol) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                trial.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                trial.bind(address)
            except OSError as error:
                raise ValueError(f"{in_use(host, port)} ({error.strerror})") from error


def in_use(host: str, port: int) -> str:
    return f"nothing can be served on {host}, port {port}: name another one with --port"
