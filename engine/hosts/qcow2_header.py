"""Whether an image can keep dirty bitmaps: a look at the first eight bytes (qcow2.txt, "Header")."""

from __future__ import annotations

import struct
from pathlib import Path

_MAGIC = b"QFI\xfb"
_FIRST_WITH_BITMAPS = 3


def keeps_bitmaps(image: Path) -> bool:
    """Whether this is qcow2 of version 3 or later; True too if it may not be read, for then nobody knows better."""
    try:
        with image.open("rb") as file:
            header = file.read(8)
    except OSError:
        return True
    if len(header) < 8 or header[:4] != _MAGIC:
        return False
    (version,) = struct.unpack(">I", header[4:8])
    return version >= _FIRST_WITH_BITMAPS
