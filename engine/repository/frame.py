"""Small objects that are read whole (recovery points, leases, records), framed so that any damage shows.

The checksum covers the object's key too: an object that was put in another's place fails like one with a flipped bit.
"""

from __future__ import annotations

import struct
from enum import IntEnum

import zstandard
from blake3 import blake3

from engine.repository.errors import Unsound

MAGIC = b"NHFRAME\n"
VERSION = 1
HEADER = struct.Struct("<8sHBBIII")
CHECKSUM_BYTES = 32
LARGEST_BYTES = 1 << 30


class FrameKind(IntEnum):
    """What a framed object is."""

    POINT = 1
    LEASE = 2
    RECORD = 3


class FrameCodec(IntEnum):
    """How its payload is stored."""

    STORED = 0
    ZSTD = 1


def encode_frame(key: str, kind: FrameKind, payload: bytes, *, codec: FrameCodec = FrameCodec.ZSTD) -> bytes:
    """The bytes to store as `key`."""
    stored = zstandard.ZstdCompressor(level=3).compress(payload) if codec is FrameCodec.ZSTD else payload
    body = HEADER.pack(MAGIC, VERSION, kind, codec, 0, len(payload), len(stored)) + stored
    return body + _checksum(key, body)


def decode_frame(key: str, kind: FrameKind, content: bytes) -> bytes:
    """The payload of what was stored as `key`; raises `Unsound`."""
    if len(content) < HEADER.size + CHECKSUM_BYTES:
        raise Unsound(f"it is cut: {len(content)} bytes")
    magic, version, found_kind, codec, flags, raw_length, stored_length = HEADER.unpack_from(content)
    if magic != MAGIC:
        raise Unsound("it does not begin as it should")
    body, checksum = content[:-CHECKSUM_BYTES], content[-CHECKSUM_BYTES:]
    if _checksum(key, body) != checksum:
        raise Unsound("its checksum does not match: changed, cut, or another object's content")
    if version != VERSION or flags:
        raise Unsound(f"it has version {version} with flags {flags:#x}: made by a newer newhope")
    if found_kind != kind or len(body) != HEADER.size + stored_length or raw_length > LARGEST_BYTES:
        raise Unsound("its header contradicts its place or its length")
    return _decoded(codec, body[HEADER.size :], raw_length)


def _decoded(codec: int, stored: bytes, raw_length: int) -> bytes:
    match codec:
        case FrameCodec.STORED:
            payload = stored
        case FrameCodec.ZSTD:
            try:
                payload = zstandard.ZstdDecompressor().decompress(stored, max_output_size=raw_length)
            except zstandard.ZstdError as error:
                raise Unsound(f"it cannot be decompressed: {error}") from error
        case _:
            raise Unsound(f"it is stored with the unknown codec {codec}")
    if len(payload) != raw_length:
        raise Unsound("its length is not what its header says")
    return payload


def _checksum(key: str, body: bytes) -> bytes:
    return blake3(key.encode() + b"\0").update(body).digest()
