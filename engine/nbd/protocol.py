"""The numbers and layouts of the NBD protocol, as its specification (`doc/proto.md` of the NBD project) names them.

Everything on the wire is big-endian. Names keep the specification's words without their `NBD_` prefix.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from struct import Struct

NEWSTYLE_MAGIC = 0x4E42444D41474943
"""`NBDMAGIC`: the first eight bytes of any server."""
OPTION_MAGIC = 0x49484156454F5054
"""`IHAVEOPT`: the newstyle handshake follows; before each option too."""
OLDSTYLE_MAGIC = 0x00420281861253
OPTION_REPLY_MAGIC = 0x3E889045565A9
REQUEST_MAGIC = 0x25609513
SIMPLE_REPLY_MAGIC = 0x67446698
STRUCTURED_REPLY_MAGIC = 0x668E33EF

GREETING = Struct(">QQH")
"""Server: NBDMAGIC, IHAVEOPT, handshake flags."""
GREETING_MAGIC = Struct(">QQ")
"""The same without the flags, which an oldstyle server does not send."""
CLIENT_FLAGS = Struct(">I")
OPTION = Struct(">QII")
"""Client: IHAVEOPT, option, length of its data."""
OPTION_REPLY = Struct(">QIII")
"""Server: magic, the option answered, reply type, length of its data."""
EXPORT_FACTS = Struct(">QH")
"""Size in bytes and transmission flags."""
INFO_EXPORT = Struct(">HQH")
INFO_BLOCK_SIZE = Struct(">HIII")
REQUEST = Struct(">IHHQQI")
"""Client: magic, command flags, command, cookie, offset, length."""
SIMPLE_REPLY = Struct(">IIQ")
"""Server: magic, error, cookie."""
STRUCTURED_REPLY = Struct(">IHHQI")
"""Server: magic, chunk flags, chunk type, cookie, length of its payload."""
OFFSET = Struct(">Q")
HOLE = Struct(">QI")
ERROR = Struct(">IH")
"""Error number and length of the message that follows."""
SHORT = Struct(">H")
WORD = Struct(">I")
DESCRIPTOR = Struct(">II")
"""Block status: length and flags of one extent."""

MAXIMUM_NAME_BYTES = 4096
MAXIMUM_PAYLOAD_BYTES = 32 * 1024 * 1024
"""What every server must accept in one request unless it says otherwise."""
MAXIMUM_LENGTH = 2**32 - 1
"""A request's length has 32 bits."""


class HandshakeFlag(IntFlag):
    """What both sides can do before an export is chosen."""

    FIXED_NEWSTYLE = 1 << 0
    NO_ZEROES = 1 << 1


class Option(IntEnum):
    """What a client may ask in the handshake."""

    EXPORT_NAME = 1
    ABORT = 2
    LIST = 3
    STARTTLS = 5
    INFO = 6
    GO = 7
    STRUCTURED_REPLY = 8
    LIST_META_CONTEXT = 9
    SET_META_CONTEXT = 10


class OptionReply(IntEnum):
    """What a server may answer to an option; from `ERR_UNSUPPORTED` on it is a refusal."""

    ACK = 1
    SERVER = 2
    INFO = 3
    META_CONTEXT = 4
    ERR_UNSUPPORTED = 2**31 + 1
    ERR_POLICY = 2**31 + 2
    ERR_INVALID = 2**31 + 3
    ERR_PLATFORM = 2**31 + 4
    ERR_TLS_REQUIRED = 2**31 + 5
    ERR_UNKNOWN = 2**31 + 6
    ERR_SHUTDOWN = 2**31 + 7
    ERR_BLOCK_SIZE_REQUIRED = 2**31 + 8
    ERR_TOO_BIG = 2**31 + 9


REFUSAL = 2**31
"""Reply types with this bit refuse the option."""


class Info(IntEnum):
    """A fact on an export, told in answer to `Option.GO` and `Option.INFO`."""

    EXPORT = 0
    NAME = 1
    DESCRIPTION = 2
    BLOCK_SIZE = 3


class ExportFlag(IntFlag):
    """Transmission flags: what an export can do."""

    HAS_FLAGS = 1 << 0
    READ_ONLY = 1 << 1
    SEND_FLUSH = 1 << 2
    SEND_FUA = 1 << 3
    ROTATIONAL = 1 << 4
    SEND_TRIM = 1 << 5
    SEND_WRITE_ZEROES = 1 << 6
    SEND_DF = 1 << 7
    CAN_MULTI_CONN = 1 << 8


class Command(IntEnum):
    """What a request asks for."""

    READ = 0
    WRITE = 1
    DISCONNECT = 2
    FLUSH = 3
    TRIM = 4
    WRITE_ZEROES = 6
    BLOCK_STATUS = 7


class CommandFlag(IntFlag):
    """How a command is to be done."""

    FUA = 1 << 0
    """Durable before it is answered."""
    NO_HOLE = 1 << 1
    """Zeroes must be allocated, not punched."""
    DF = 1 << 2
    """Do not fragment the answer."""
    REQ_ONE = 1 << 3
    """One extent is enough."""


class Chunk(IntEnum):
    """Types of a structured reply's chunks."""

    NONE = 0
    OFFSET_DATA = 1
    OFFSET_HOLE = 2
    BLOCK_STATUS = 5
    ERROR = 2**15 + 1
    ERROR_OFFSET = 2**15 + 2


CHUNK_DONE = 1
"""Chunk flag: the last one of its reply."""
CHUNK_ERROR = 2**15
"""Chunk types with this bit tell of an error."""


class WireError(IntEnum):
    """Error numbers as they are on the wire, the same on every system."""

    EPERM = 1
    EIO = 5
    ENOMEM = 12
    EINVAL = 22
    ENOSPC = 28
    EOVERFLOW = 75
    ENOTSUP = 95
    ESHUTDOWN = 108


def error_name(number: int) -> str:
    """The name of an error number from the wire, or the number itself when it has none."""
    try:
        return WireError(number).name
    except ValueError:
        return f"error {number}"
