"""The commonest damage to a small object is one flipped bit, and its checksum is enough to take that back.

Every bit is flipped once, until the checksum matches: it has 256 bits, so what matches is what was written. For a
manifest of two kilobytes that takes a tenth of a second.
"""

from __future__ import annotations

from engine.repository.errors import Unsound
from engine.repository.frame import CHECKSUM_BYTES, HEADER, FrameKind, decode_frame
from engine.repository.keys import Keys

LARGEST_BYTES = 16 << 10
"""Above this nothing is tried: the work grows with the square of the size."""


def without_flipped_bit(key: str, kind: FrameKind, content: bytes, keys: Keys | None = None) -> bytes | None:
    """The object as it was before one of its bits was flipped; None if that is not what happened to it."""
    if len(content) > LARGEST_BYTES:
        return None
    tried = bytearray(content)
    for at in range(_suspect_bytes(content)):
        for bit in range(8):
            tried[at] ^= 1 << bit
            candidate = bytes(tried)
            try:
                decode_frame(key, kind, candidate, keys)
            except Unsound:
                tried[at] ^= 1 << bit
            else:
                return candidate
    return None


def _suspect_bytes(content: bytes) -> int:
    """How many bytes from the front may be the one: only those of the header where it contradicts the length."""
    if len(content) < HEADER.size + CHECKSUM_BYTES:
        return 0
    stored_length = HEADER.unpack_from(content)[-1]
    return len(content) if HEADER.size + stored_length + CHECKSUM_BYTES == len(content) else HEADER.size
