"""The commonest damage to a small object is one flipped bit, and its checksum is enough to take that back.

Every bit is flipped once, until the checksum matches: it has 256 bits, so what matches is what was written. For a
manifest of two kilobytes that takes a tenth of a second.
"""

from __future__ import annotations

from engine.repository.errors import Unsound
from engine.repository.frame import FrameKind, decode_frame

LARGEST_BYTES = 16 << 10
"""Above this nothing is tried: the work grows with the square of the size."""


def without_flipped_bit(key: str, kind: FrameKind, content: bytes) -> bytes | None:
    """The object as it was before one of its bits was flipped; None if that is not what happened to it."""
    if len(content) > LARGEST_BYTES:
        return None
    tried = bytearray(content)
    for at in range(len(tried)):
        for bit in range(8):
            tried[at] ^= 1 << bit
            candidate = bytes(tried)
            try:
                decode_frame(key, kind, candidate)
            except Unsound:
                tried[at] ^= 1 << bit
            else:
                return candidate
    return None
