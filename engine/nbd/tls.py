"""NBD over TCP with TLS: the server's certificate is verified, and nothing is ever sent in clear text but the request
for TLS itself.

1. The server greets; we answer with nothing but STARTTLS (doc/proto.md, "TLS versions"). A server that refuses is left.
2. The TLS handshake: the server proves that it is the host that was asked for, we show our certificate.
3. Inside TLS the handshake goes on where it was. So that nobody else needs to know, one thread stands between: the
   client gets one end of a pair of sockets, finds the greeting there, and speaks plain NBD into it.
"""

from __future__ import annotations

import select
import socket
import ssl
import threading
from contextlib import suppress

from engine.nbd import protocol
from engine.nbd.address import Certificates, TlsAddress
from engine.nbd.errors import OptionRefused, ServerUnreachable
from engine.nbd.protocol import HandshakeFlag, Option, OptionReply

_PIECE_BYTES = 256 * 1024
_CLIENT_FLAGS = HandshakeFlag.FIXED_NEWSTYLE | HandshakeFlag.NO_ZEROES


def open_tls(address: TlsAddress, timeout_s: float) -> socket.socket:
    """A socket on which the server at the other end of TLS speaks plain NBD, from its greeting on.

    Raises ServerUnreachable, and OptionRefused for a server that does without TLS.
    """
    try:
        context = _context(address.certificates)
        connected = socket.create_connection((address.host, address.port), timeout=timeout_s)
    except OSError as failure:
        raise _unreachable(address, failure) from failure
    try:
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        greeting = _ask_for_tls(connected, address)
        secured = context.wrap_socket(connected, server_hostname=address.name)
    except OSError as failure:
        connected.close()
        raise _unreachable(address, failure) from failure
    except BaseException:
        connected.close()
        raise
    ours, theirs = socket.socketpair()
    ours.settimeout(timeout_s)
    tunnel = threading.Thread(target=_carry, args=(theirs, secured, greeting), name="nbd over tls", daemon=True)
    tunnel.start()
    return ours


def _context(certificates: Certificates) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(certificates.authority)
    context.load_cert_chain(certificates.certificate, certificates.key)
    return context


def _ask_for_tls(connected: socket.socket, address: TlsAddress) -> bytes:
    """The server's greeting, once it has agreed to TLS."""
    greeting = _receive(connected, protocol.GREETING.size)
    magic, option_magic, flags = protocol.GREETING.unpack(greeting)
    if (magic, option_magic) != (protocol.NEWSTYLE_MAGIC, protocol.OPTION_MAGIC) or not flags & _CLIENT_FLAGS & 1:
        raise _refused(address, "what listens there does not speak NBD with options")
    ask = protocol.OPTION.pack(protocol.OPTION_MAGIC, Option.STARTTLS, 0)
    connected.sendall(protocol.CLIENT_FLAGS.pack(flags & _CLIENT_FLAGS) + ask)
    _, _, kind, length = protocol.OPTION_REPLY.unpack(_receive(connected, protocol.OPTION_REPLY.size))
    if kind != OptionReply.ACK:
        message = _receive(connected, min(length, protocol.MAXIMUM_NAME_BYTES)).decode(errors="replace")
        raise _refused(address, message or "it refuses TLS")
    return greeting


def _receive(connected: socket.socket, count: int) -> bytes:
    content = b""
    while len(content) < count:
        piece = connected.recv(count - len(content))
        if not piece:
            raise ConnectionResetError("the connection was closed by the other side")
        content += piece
    return content


def _carry(plain: socket.socket, secured: ssl.SSLSocket, greeting: bytes) -> None:
    """Carry bytes both ways until one side ends, and then end the other."""
    with plain, secured, suppress(OSError):
        plain.sendall(greeting)
        # What the client answers the server has had already.
        _receive(plain, protocol.CLIENT_FLAGS.size)
        plain.setblocking(False)
        secured.setblocking(False)
        _carry_both_ways(plain, secured)


def _carry_both_ways(plain: socket.socket, secured: ssl.SSLSocket) -> None:
    """One piece at a time each way: while it waits to be sent, nothing more is received for it."""
    outward = inward = memoryview(b"")
    while True:
        moved, tls_waits_for = False, 0
        try:
            if not outward:
                outward = memoryview(plain.recv(_PIECE_BYTES))
                if not outward:
                    return
            outward = outward[secured.send(outward) :]
            moved = True
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError) as wait:
            tls_waits_for |= _event(wait)
        try:
            if not inward:
                inward = memoryview(secured.recv(_PIECE_BYTES))
                if not inward:
                    return
            inward = inward[plain.send(inward) :]
            moved = True
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError) as wait:
            tls_waits_for |= _event(wait)
        if not moved:
            poll = select.poll()
            poll.register(plain, (0 if outward else select.POLLIN) | (select.POLLOUT if inward else 0))
            poll.register(secured, tls_waits_for)
            poll.poll()


def _event(wait: OSError) -> int:
    """What TLS waits for; 0 if it was not TLS that had to wait."""
    if isinstance(wait, ssl.SSLWantReadError):
        return select.POLLIN
    return select.POLLOUT if isinstance(wait, ssl.SSLWantWriteError) else 0


def _refused(address: TlsAddress, why: str) -> OptionRefused:
    return OptionRefused(
        f"The NBD server at {address} does not speak TLS: {why}.",
        next_step="newhope reads no disk in clear text over a network: see that tls is required on that server.",
    )


def _unreachable(address: TlsAddress, failure: OSError) -> ServerUnreachable:
    files = address.certificates
    if isinstance(failure, ssl.SSLCertVerificationError):
        return ServerUnreachable(
            f"The NBD server at {address} does not prove to be {address.name}: {failure.verify_message}.",
            next_step=f"Give the host a certificate for {address.name} that {files.authority} vouches for.",
        )
    if isinstance(failure, ssl.SSLError):
        return ServerUnreachable(
            f"The NBD server at {address} ends the TLS handshake: {failure.reason or failure}.",
            next_step=f"See that the host accepts this machine's certificate, {files.certificate}.",
        )
    if isinstance(failure, FileNotFoundError):
        return ServerUnreachable(
            f"The certificates for {address.name} are not on this machine: {files.authority}, {files.certificate}, "
            f"{files.key}.",
            next_step="Put them there as https://libvirt.org/kbase/tlscerts.html says, or name their folder in the "
            "uri: ?pkipath=/folder",
        )
    return ServerUnreachable(
        f"No NBD server answers at {address}: {failure.strerror or failure}.",
        next_step=f"Check that a firewall lets this machine reach {address}.",
    )
