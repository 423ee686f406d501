"""Small objects that are read whole (recovery points, leases, records), framed so that any damage shows.

The checksum covers the object's key too: an object that was put in another's place fails like one with a flipped bit.
In an encrypted repository the payload is sealed (`keys`); the checksum stays, so that whoever has no key finds damage.
"""

from __future__ import annotations

import struct
from enum import IntEnum

import zstandard
from blake3 import blake3

from engine.repository.errors import Unsound
from engine.repository.keys import SEAL_BYTES, Keys

MAGIC = b"NHFRAME\n"
VERSION = 1
HEADER = struct.Struct("<8sHBBIII")
CHECKSUM_BYTES = 32
SEALED = 1
"""The flag of a frame whose payload is sealed."""
LARGEST_BYTES = 1 << 30


class FrameKind(IntEnum):
    """What a framed object is."""

    POINT = 1
    LEASE = 2
    RECORD = 3
    KEY = 4
    """What a passphrase opens; never sealed itself."""


class FrameCodec(IntEnum):
    """How its payload is stored."""

    STORED = 0
    ZSTD = 1


def encode_frame(
    key: str, kind: FrameKind, payload: bytes, keys: Keys | None = None, *, codec: FrameCodec = FrameCodec.ZSTD
) -> bytes:
    """The bytes to store as `key`, sealed where there are keys."""
    stored = zstandard.ZstdCompressor(level=3).compress(payload) if codec is FrameCodec.ZSTD else payload
    length = len(stored) + (SEAL_BYTES if keys else 0)
    header = HEADER.pack(MAGIC, VERSION, kind, codec, SEALED if keys else 0, len(payload), length)
    body = header + (keys.seal_frame(key, header, stored) if keys else stored)
    return body + _checksum(key, body)


def decode_frame(key: str, kind: FrameKind, content: bytes, keys: Keys | None = None) -> bytes:
    """The payload of what was stored as `key`; raises `Unsound`. With keys, what is not sealed is unsound too."""
    if len(content) < HEADER.size + CHECKSUM_BYTES:
        raise Unsound(f"it is cut: {len(content)} bytes")
    magic, version, found_kind, codec, flags, raw_length, stored_length = HEADER.unpack_from(content)
    if magic != MAGIC:
        raise Unsound("it does not begin as it should")
    body, checksum = content[:-CHECKSUM_BYTES], content[-CHECKSUM_BYTES:]
    if _checksum(key, body) != checksum:
        raise Unsound("its checksum does not match: changed, cut, or another object's content")
    if version != VERSION or flags & ~SEALED:
        raise Unsound(f"it has version {version} with flags {flags:#x}: made by a newer newhope")
    if found_kind != kind or len(body) != HEADER.size + stored_length or raw_length > LARGEST_BYTES:
        raise Unsound("its header contradicts its place or its length")
    stored = body[HEADER.size :]
    if keys is not None:
        if not flags & SEALED:
            raise Unsound("it is not sealed, in a repository that is encrypted: somebody without the key wrote it")
        stored = keys.open_frame(key, body[: HEADER.size], stored)
    elif flags & SEALED:
        raise Unsound("it is sealed, and there is no key for it")
    return _decoded(codec, stored, raw_length)


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
