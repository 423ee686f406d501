"""Where an NBD server listens, and the URIs that QEMU, libnbd and newhope write it as."""

from __future__ import annotations

import socket
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

from msgspec import Struct

from engine.nbd.errors import NbdError, ServerUnreachable

DEFAULT_PORT = 10809
LONGEST_SOCKET_PATH = 107
"""Bytes that the kernel keeps for the path of a Unix socket (`sun_path`, less its end)."""


class UnixAddress(Struct, frozen=True):
    """A server on a Unix socket of this machine."""

    path: str

    def uri(self, export: str = "") -> str:
        """The export as QEMU and libnbd take it: `nbd+unix:///vda?socket=/run/x.sock`."""
        return f"nbd+unix:///{quote(export, safe='')}?{urlencode({'socket': self.path}, quote_via=quote)}"

    def __str__(self) -> str:
        return self.path


class TcpAddress(Struct, frozen=True):
    """A server on a TCP port; nothing on the way is encrypted."""

    host: str
    port: int = DEFAULT_PORT

    def uri(self, export: str = "") -> str:
        """The export as QEMU and libnbd take it: `nbd://host:port/vda`."""
        return f"nbd://{self}/{quote(export, safe='')}"

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


class Certificates(Struct, frozen=True):
    """The X.509 files of a client, as libvirt lays them out (https://libvirt.org/kbase/tlscerts.html)."""

    authority: Path
    """The certificates of those who may vouch for a server."""
    certificate: Path
    key: Path


class TlsAddress(Struct, frozen=True):
    """A server on a TCP port that must speak TLS and prove to be `name`."""

    host: str
    """Where it is connected to."""
    port: int
    name: str
    """What its certificate must be for."""
    certificates: Certificates

    def uri(self, export: str = "") -> str:
        """The export as libnbd takes it: `nbds://host:port/vda`."""
        return f"nbds://{self}/{export}"

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


Address = UnixAddress | TcpAddress | TlsAddress


def parse_uri(uri: str) -> tuple[Address, str]:
    """Take an NBD URI apart into the server's address and the export's name.

    Raises `NbdError` for a URI that is not NBD's, or that asks for TLS, which newhope does not speak.
    """
    parts = urlsplit(uri)
    export = unquote(parts.path[1:])
    socket_path = parse_qs(parts.query).get("socket", [""])[0]
    try:
        port = parts.port or DEFAULT_PORT
    except ValueError as out_of_range:
        raise _unreadable(uri, "its port is not a number from 0 to 65535") from out_of_range

    if parts.scheme == "nbd+unix":
        if not socket_path:
            raise _unreadable(uri, "it names no socket")
        return UnixAddress(socket_path), export
    if parts.scheme == "nbd":
        return TcpAddress(parts.hostname or "localhost", port), export
    if parts.scheme in {"nbds", "nbds+unix"}:
        raise _unreadable(uri, "it asks for TLS; newhope reaches remote servers through SSH")
    raise _unreadable(uri, "it begins with neither nbd:// nor nbd+unix://")


def _unreadable(uri: str, reason: str) -> NbdError:
    return NbdError(
        f"The NBD address {uri!r} cannot be used: {reason}.",
        next_step="write it as nbd+unix:///EXPORT?socket=/path/of.sock or nbd://HOST:PORT/EXPORT.",
    )


def open_socket(address: Address, timeout_s: float) -> socket.socket:
    """A connected socket. Raises `ServerUnreachable` with the reason and what to look at; with TLS, `OptionRefused`."""
    if isinstance(address, TlsAddress):
        # Dear to import, and seldom needed.
        from engine.nbd.tls import open_tls

        return open_tls(address, timeout_s)
    try:
        if isinstance(address, TcpAddress):
            connected = socket.create_connection((address.host, address.port), timeout=timeout_s)
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return connected
        connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connected.settimeout(timeout_s)
            connected.connect(address.path)
        except OSError:
            connected.close()
            raise
    except OSError as failure:
        raise _unreachable(address, failure) from failure
    return connected


def _unreachable(address: UnixAddress | TcpAddress, failure: OSError) -> ServerUnreachable:
    if isinstance(address, TcpAddress):
        next_step = f"check that the server runs and that a firewall lets this machine reach {address}."
    elif len(address.path.encode()) > LONGEST_SOCKET_PATH:
        next_step = f"use a path of at most {LONGEST_SOCKET_PATH} bytes for the socket."
    elif isinstance(failure, FileNotFoundError):
        next_step = f"start the server that should make the socket; {Path(address.path).parent} has none."
    elif isinstance(failure, ConnectionRefusedError):
        next_step = "start the server again: its socket file is left from one that has ended."
    else:
        next_step = f"look at the socket's owner and mode: ls -l {address.path}"
    reason = failure.strerror or str(failure) or type(failure).__name__
    return ServerUnreachable(f"No NBD server answers at {address}: {reason}.", next_step=next_step)
