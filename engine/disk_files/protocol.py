"""What the two processes say to each other: frames of four bytes of length and one message, in MessagePack.

    ours -> reader      reader -> ours
    Look                (Opening Wanted*)* Volumes
    List                Wanted* Entries+ (the last says so)
    Find                Wanted* Entries (of one)
    Read                Wanted* Piece
    Content             (answers Wanted)

Any question may be answered by `Failed` instead; the reader is then ready for the next one.
"""

from __future__ import annotations

import socket

import msgspec
from msgspec import Struct

from engine.file_entry import FileEntry

MAX_FRAME_BYTES = 24 << 20
MAX_PIECE_BYTES = 8 << 20
MAX_WANTED_BYTES = 1 << 20
ENTRIES_A_FRAME = 500
GROUPS = "lvm"
"""The descriptions of LVM groups, taken together."""


class Volume(Struct, frozen=True, omit_defaults=True):
    """A partition, a logical volume, or a disk without either."""

    name: str
    """`vda`, `vda2`, `vg0/root`: how an operator names it."""
    content: str
    """`ext4`, `xfs`, `ntfs`, ..., `luks`, `swap`, `lvm`, `unknown`, `empty`."""
    size_bytes: int
    used_bytes: int = -1
    """-1 where the file system does not say."""
    label: str = ""
    readable: bool = False
    """Whether its files can be listed."""
    root: bool = False
    """Whether it looks like the one that the guest's system starts from."""
    note: str = ""
    """Why it cannot be read, or what was done so that it can be."""


class Look(Struct, frozen=True, tag="look"):
    """What volumes are there?"""

    skip: tuple[str, ...] = ()
    """What is not to be looked into: it ended a reader before. Names of volumes, of disks, or `GROUPS`."""


class Find(Struct, frozen=True, tag="find"):
    """What is at this path? Symlinks on the way are followed inside the volume, the last one with `follow`."""

    volume: str
    path: tuple[bytes, ...]
    follow: bool = False


class List(Struct, frozen=True, tag="list"):
    """What is in this folder?"""

    volume: str
    path: tuple[bytes, ...]


class Read(Struct, frozen=True, tag="read"):
    """These bytes of this file."""

    volume: str
    path: tuple[bytes, ...]
    offset: int
    length: int


class Content(Struct, frozen=True, tag="content"):
    """A range of a disk. What is lost is zero, and said."""

    data: bytes
    lost: bool = False


class Wanted(Struct, frozen=True, tag="wanted"):
    """A range of a disk is needed to answer."""

    disk: int
    offset: int
    length: int


class Opening(Struct, frozen=True, tag="opening"):
    """What is looked into next, on the way to `Volumes`: what it was, should the reader not come back from it."""

    name: str


class Volumes(Struct, frozen=True, tag="volumes"):
    """Answers `Look`."""

    volumes: tuple[Volume, ...]


class Entries(Struct, frozen=True, tag="entries"):
    """Answers `List` and `Find`."""

    entries: tuple[FileEntry, ...]
    """Their paths are names alone."""
    more: bool = False
    left_out: int = 0
    """Entries whose names cannot be names."""


class Piece(Struct, frozen=True, tag="piece"):
    """Answers `Read`: the bytes, fewer than asked for only at the end of the file, or how many zeroes follow.

    Zeroes may be fewer or more than was asked for: they are told as far as the file system itself knows of them.
    """

    data: bytes = b""
    zeroes: int = 0


class Failed(Struct, frozen=True, tag="failed"):
    """The question cannot be answered."""

    reason: str
    missing: bool = False
    """Nothing is there: no damage."""


ToReader = Look | Find | List | Read | Content
FromReader = Wanted | Opening | Volumes | Entries | Piece | Failed

_to_reader: msgspec.msgpack.Decoder[ToReader] = msgspec.msgpack.Decoder(ToReader)
_from_reader: msgspec.msgpack.Decoder[FromReader] = msgspec.msgpack.Decoder(FromReader)


class Ended(BaseException):
    """The other side has gone. Not an Exception: those of the parsers are many, and are caught."""


def send(link: socket.socket, message: Struct) -> None:
    """Send one message."""
    body = msgspec.msgpack.encode(message)
    link.sendall(len(body).to_bytes(4, "big"))
    link.sendall(body)


def receive_by_reader(link: socket.socket) -> ToReader:
    """The next question, or content that was asked for."""
    return _to_reader.decode(_frame(link))


def receive_from_reader(link: socket.socket) -> FromReader:
    """The next answer. Raises `Ended`, TimeoutError, or `msgspec.DecodeError` for what is no message of ours."""
    return _from_reader.decode(_frame(link))


def _frame(link: socket.socket) -> bytearray:
    length = int.from_bytes(_exactly(link, 4), "big")
    if length > MAX_FRAME_BYTES:
        raise msgspec.DecodeError(f"a message of {length} bytes")
    return _exactly(link, length)


def _exactly(link: socket.socket, length: int) -> bytearray:
    buffer = bytearray(length)
    view = memoryview(buffer)
    while view:
        got = link.recv_into(view)
        if not got:
            raise Ended
        view = view[got:]
    return buffer
