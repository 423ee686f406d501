"""Whether an image can keep dirty bitmaps: a look at the first eight bytes (qcow2.txt, "Header")."""

from __future__ import annotations

import struct

HEAD_BYTES = 8
_MAGIC = b"QFI\xfb"
_FIRST_WITH_BITMAPS = 3


def keeps_bitmaps(head: bytes) -> bool:
    """Whether an image that begins like this is qcow2 of version 3 or later."""
    if len(head) < HEAD_BYTES or head[:4] != _MAGIC:
        return False
    (version,) = struct.unpack(">I", head[4:8])
    return version >= _FIRST_WITH_BITMAPS
