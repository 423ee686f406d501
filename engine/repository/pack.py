"""A pack: many block records in one object, and an index of them at its end.

Everything is said twice on purpose. The index at the end is read in one go; where it is damaged or cut off, the records
describe themselves, and `scan_pack` finds every sound one from the front.
"""

from __future__ import annotations

import secrets
import struct
from collections.abc import Iterator
from mmap import mmap

from blake3 import blake3
from msgspec import Struct

from engine.repository.block_record import (
    HEADER_BYTES,
    NAME_BYTES,
    BlockHeader,
    BlockKind,
    Codec,
    decode_header,
    encode_header,
)
from engine.repository.block_record import MAGIC as RECORD_MAGIC
from engine.repository.errors import Unsound
from engine.repository.storage import Bytes, NewObject, Storage

MAGIC = b"NHPACK1\n"
HEADER = struct.Struct("<8sHHI16s")
ENTRY = struct.Struct("<32sIIIBBH")
TRAILER_FIELDS = struct.Struct("<IIQ")
END_MAGIC = b"NHPKEND\n"
CHECKSUM_BYTES = 32
TRAILER_BYTES = TRAILER_FIELDS.size + CHECKSUM_BYTES + len(END_MAGIC)
VERSION = 1
SALT_BYTES = 16
"""Makes every pack another object: one that was damaged cannot stand in the way of its blocks being stored again."""


OWNER_BYTES = 8
"""So many bytes of the salt are the id of its writer's lease, random too: a collector spares what is being written."""


class PackEntry(Struct, frozen=True):
    """Where a record begins in its pack, and what it holds."""

    name: bytes
    offset: int
    stored_length: int
    raw_length: int
    kind: int
    codec: int
    flags: int = 0

    @property
    def record_length(self) -> int:
        """Bytes of the record, header and all."""
        return HEADER_BYTES + self.stored_length


class SealedPack(Struct, frozen=True):
    """A pack whose bytes are fixed, so that its name is known."""

    id: bytes
    size_bytes: int
    entries: tuple[PackEntry, ...]

    @property
    def key(self) -> str:
        """Where it is stored."""
        return pack_key(self.id)


class OpenPack:
    """A pack being written. For one thread at a time."""

    def __init__(self, target: NewObject, owner: bytes = b"") -> None:
        self.target = target
        self.size_bytes = 0
        self._entries: list[PackEntry] = []
        self._hash = blake3()
        self._write(HEADER.pack(MAGIC, VERSION, 0, 0, owner + secrets.token_bytes(SALT_BYTES - len(owner))))

    def append(
        self, kind: BlockKind, codec: Codec, raw_length: int, name: bytes, *stored: Bytes, flags: int = 0
    ) -> int:
        """Append a block, whose stored bytes may come in pieces; the bytes it takes."""
        length = sum(len(piece) for piece in stored)
        entry = PackEntry(name, self.size_bytes, length, raw_length, kind, codec, flags)
        self._write(encode_header(kind, codec, raw_length, length, name, flags), *stored)
        self._entries.append(entry)
        return entry.record_length

    def seal(self) -> SealedPack:
        """Write index and trailer."""
        table = b"".join(
            ENTRY.pack(e.name, e.offset, e.stored_length, e.raw_length, e.kind, e.codec, e.flags) for e in self._entries
        )
        fields = TRAILER_FIELDS.pack(len(self._entries), 0, self.size_bytes)
        self._write(table, fields, blake3(table).update(fields).digest(), END_MAGIC)
        return SealedPack(self._hash.digest(), self.size_bytes, tuple(self._entries))

    def _write(self, *pieces: Bytes) -> None:
        self.target.write(*pieces)
        for piece in pieces:
            self._hash.update(piece)
            self.size_bytes += len(piece)


def pack_key(pack_id: bytes) -> str:
    """Where the pack of that name is stored."""
    text = pack_id.hex()
    return f"packs/{text[:2]}/{text}"


def pack_owner(storage: Storage, key: str) -> bytes:
    """The lease id of the writer that made a pack: the first half of its salt."""
    return storage.read(key, HEADER.size - SALT_BYTES, OWNER_BYTES)


def pack_id_of(key: str) -> bytes | None:
    """The name in a key below `packs/`; None for something that is not ours."""
    text = key.rpartition("/")[2]
    try:
        name = bytes.fromhex(text)
    except ValueError:
        return None
    return name if len(name) == NAME_BYTES and pack_key(name) == key else None


def read_pack_index(storage: Storage, key: str) -> tuple[PackEntry, ...]:
    """The entries that a pack's own index lists; raises `Unsound`."""
    size = storage.size(key)
    if size < HEADER.size + TRAILER_BYTES:
        raise Unsound(f"it is cut: {size} bytes")
    _check_header(storage.read(key, 0, HEADER.size))
    trailer = storage.read(key, size - TRAILER_BYTES)
    count, flags, offset = TRAILER_FIELDS.unpack_from(trailer)
    if trailer[-len(END_MAGIC) :] != END_MAGIC or flags or offset + count * ENTRY.size + TRAILER_BYTES != size:
        raise Unsound("it does not end as a pack does: cut, or changed")
    table = storage.read(key, offset, count * ENTRY.size)
    checksum = blake3(table).update(trailer[: TRAILER_FIELDS.size]).digest()
    if checksum != trailer[TRAILER_FIELDS.size : TRAILER_FIELDS.size + CHECKSUM_BYTES]:
        raise Unsound("the checksum of its index does not match")
    return tuple(PackEntry(*fields) for fields in ENTRY.iter_unpack(table))


def scan_pack(storage: Storage, key: str) -> Iterator[PackEntry]:
    """Every record of a pack whose header is sound and whose bytes are all there, found from the front.

    Needs neither the index at the end nor the records before: after a damaged header it looks for the next one.
    Contents are not checked here; whoever reads a block does that.
    """
    return scan_records(storage.map(key))


def scan_records(content: mmap | bytes) -> Iterator[PackEntry]:
    """The same, of a pack that was read already."""
    data = memoryview(content)
    offset = HEADER.size
    while (offset := content.find(RECORD_MAGIC, offset)) >= 0:
        entry = _entry_at(data, offset)
        if entry is None:
            offset += 1
            continue
        yield entry
        offset += entry.record_length


def _entry_at(data: memoryview, offset: int) -> PackEntry | None:
    try:
        header: BlockHeader = decode_header(data, offset)
    except Unsound:
        return None
    if offset + HEADER_BYTES + header.stored_length > len(data):
        return None
    return PackEntry(
        header.name,
        offset,
        header.stored_length,
        header.raw_length,
        header.kind,
        header.codec,
        header.flags,
    )


def _check_header(content: bytes) -> None:
    magic, version, flags, reserved, _salt = HEADER.unpack(content)
    if magic != MAGIC:
        raise Unsound("it does not begin as a pack does")
    if version != VERSION or flags or reserved:
        raise Unsound(f"it has version {version} with flags {flags:#x}: made by a newer newhope")
