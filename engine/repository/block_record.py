"""One block as it lies in a pack: a header that describes it, then its bytes, stored or compressed.

In an encrypted repository they are sealed after that (`keys`). The header stays in the clear and is bound to them: a
pack is indexed, and its structure checked, by whoever has no key.
"""

from __future__ import annotations

import struct
import threading
import zlib
from enum import IntEnum

import zstandard
from blake3 import blake3
from msgspec import Struct

from engine.repository.errors import Unsound
from engine.repository.keys import SEAL_BYTES, Keys
from engine.repository.storage import Bytes

MAGIC = b"NHB\x01"
HEADER = struct.Struct("<4sBBHII32s")
CRC = struct.Struct("<I")
HEADER_BYTES = HEADER.size + CRC.size
NAME_BYTES = 32
SEALED = 1
"""The flag of a record whose bytes are sealed."""
COMPRESSION_LEVEL = 1
WORTH_PERCENT = 97
"""A block that does not shrink below this is stored as it is: reading it back is then free."""


class BlockKind(IntEnum):
    """What a block belongs to."""

    DATA = 1
    MAP = 2
    FILE = 3


class Codec(IntEnum):
    """How a block's bytes are stored."""

    STORED = 0
    ZSTD = 1


class BlockHeader(Struct, frozen=True):
    """A record's header."""

    kind: int
    codec: int
    flags: int
    raw_length: int
    stored_length: int
    name: bytes


class _Codecs(threading.local):
    """One compressor and one decompressor a thread: they are not safe to share, and dear to make."""

    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(level=COMPRESSION_LEVEL)
        self.decompressor = zstandard.ZstdDecompressor()


_codecs = _Codecs()


def block_name(content: Bytes, keys: Keys | None = None) -> bytes:
    """The 32 bytes that a content is known by."""
    return blake3(content).digest() if keys is None else keys.block_name(content)


def compress(content: Bytes) -> tuple[Codec, Bytes]:
    """The cheaper way to store a content; `STORED` gives the same buffer back."""
    compressed = _codecs.compressor.compress(content)
    if len(compressed) * 100 >= len(content) * WORTH_PERCENT:
        return Codec.STORED, content
    return Codec.ZSTD, compressed


def seal(kind: BlockKind, codec: Codec, raw_length: int, name: bytes, stored: Bytes, keys: Keys) -> tuple[bytes, bytes]:
    """The two pieces that are stored instead of `stored`, by whose length they are longer."""
    header = HEADER.pack(MAGIC, kind, codec, SEALED, raw_length, len(stored) + SEAL_BYTES, name)
    return keys.seal_block(name, header, stored)


def encode_header(
    kind: BlockKind, codec: Codec, raw_length: int, stored_length: int, name: bytes, flags: int = 0
) -> bytes:
    """A record's header, with its checksum."""
    fields = HEADER.pack(MAGIC, kind, codec, flags, raw_length, stored_length, name)
    return fields + CRC.pack(zlib.crc32(fields))


def decode_header(record: Bytes, offset: int = 0) -> BlockHeader:
    """Check and read a header; raises `Unsound`."""
    if len(record) - offset < HEADER_BYTES:
        raise Unsound("it is cut in its header")
    magic, kind, codec, flags, raw_length, stored_length, name = HEADER.unpack_from(record, offset)
    (checksum,) = CRC.unpack_from(record, offset + HEADER.size)
    if magic != MAGIC or checksum != zlib.crc32(memoryview(record)[offset : offset + HEADER.size]):
        raise Unsound("there is no sound block header at its place")
    return BlockHeader(kind, codec, flags, raw_length, stored_length, name)


def decode_record(record: Bytes, name: bytes, raw_length: int, keys: Keys | None = None) -> bytes:
    """A block's content out of its whole record, only if it is exactly what `name` stands for; else `Unsound`."""
    header = decode_header(record)
    if header.name != name:
        raise Unsound("another block lies at its place")
    if header.flags & ~SEALED:
        raise Unsound(f"it has flags {header.flags:#x}, made by a newer newhope")
    if header.raw_length != raw_length:
        raise Unsound(f"it has {header.raw_length} bytes where {raw_length} belong")
    if len(record) != HEADER_BYTES + header.stored_length:
        raise Unsound("it is cut")
    content = _decompressed(header, _opened(header, memoryview(record), keys))
    if len(content) != raw_length or block_name(content, keys) != name:
        raise Unsound("its content does not match its name")
    return content


def _opened(header: BlockHeader, record: memoryview, keys: Keys | None) -> Bytes:
    stored = record[HEADER_BYTES:]
    if keys is not None:
        if not header.flags & SEALED:
            raise Unsound("it is not sealed, in a repository that is encrypted: somebody without the key wrote it")
        return keys.open_block(header.name, record[: HEADER.size], stored)
    if header.flags & SEALED:
        raise Unsound("it is sealed, and there is no key for it")
    return stored


def _decompressed(header: BlockHeader, stored: Bytes) -> bytes:
    if header.codec == Codec.STORED:
        return bytes(stored)
    if header.codec != Codec.ZSTD:
        raise Unsound(f"it is stored with the unknown codec {header.codec}")
    try:
        # A damaged frame may announce any size: it must not make us reserve that much.
        if zstandard.frame_content_size(stored) != header.raw_length:
            raise Unsound("it announces a length that its header does not")
        return _codecs.decompressor.decompress(stored)
    except zstandard.ZstdError as error:
        raise Unsound(f"it cannot be decompressed ({error})") from error
