"""The Network Block Device protocol, client and server: sockets and bytes, nothing else.

Every disk that newhope reads or writes is an NBD export, and so is every recovery point that it lends to QEMU.
Threads and blocking sockets; no asyncio, no library but the standard one (and msgspec for its values).

Reading a disk:
1. `Client.connect` opens an export and selects contexts, such as `BASE_ALLOCATION` or a dirty bitmap's.
2. `extents` tells what is data, zero or dirty; `read_many` then reads with several requests in flight, straight into
   the caller's buffers. `write_many`, `write_zeroes`, `trim` and `flush` are the way back.
3. A failed request is a `RequestFailed` with its offset; a server that died, fell silent or broke the protocol is an
   error of its own class. Nothing that was not received whole is ever given out as read.

Serving: `Server` takes a socket path (or a TCP port) and named objects that fit `Export` (or `WritableExport`).

Where things are: `protocol` numbers and layouts, `wire` bytes on a socket, `negotiation` and `transmission` the
client's two phases (the latter explains each shape a reply can have), `welcome` and `conversation` the server's; `tls`
stands between the client and a server that must be verified.
May import `engine.errors` and nothing else of newhope.
"""

from engine.nbd.address import Address, Certificates, TcpAddress, TlsAddress, UnixAddress, open_socket, parse_uri
from engine.nbd.client import Client, list_contexts, list_exports
from engine.nbd.conversation import ServedFailure
from engine.nbd.errors import (
    ExportFull,
    ExportUnknown,
    NbdError,
    NotServable,
    OptionRefused,
    ProtocolViolation,
    RequestFailed,
    ServerGone,
    ServerSilent,
    ServerUnreachable,
)
from engine.nbd.export import Export, WritableExport
from engine.nbd.extent import (
    BASE_ALLOCATION,
    STATE_DIRTY,
    STATE_HOLE,
    STATE_ZERO,
    Extent,
    clip,
    cover,
    dirty_bitmap_context,
    merge,
)
from engine.nbd.negotiation import ExportListing
from engine.nbd.operation import ReadRequest, WriteRequest
from engine.nbd.server import Server

__all__ = [
    "BASE_ALLOCATION", "STATE_DIRTY", "STATE_HOLE", "STATE_ZERO", "Address", "Certificates", "Client", "Export",
    "ExportFull", "ExportListing", "ExportUnknown", "Extent", "NbdError", "NotServable", "OptionRefused",
    "ProtocolViolation", "ReadRequest", "RequestFailed", "ServedFailure", "Server", "ServerGone",
    "ServerSilent", "ServerUnreachable", "TcpAddress", "TlsAddress", "UnixAddress", "WritableExport",
    "WriteRequest", "clip", "cover", "dirty_bitmap_context", "list_contexts", "list_exports", "merge",
    "open_socket", "parse_uri",
]  # fmt: skip
