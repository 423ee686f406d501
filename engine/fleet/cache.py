"""The last fleet, on disk, so that a console can paint before the first host answers.

One file in the state folder: a line that tells the shape of what follows, its checksum, then msgpack. It is a cache:
what cannot be read is as good as absent, and what cannot be written is tried again with the next fleet.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path

import msgspec

from engine.fleet.model import Fleet

FILE_NAME = "fleet.cache"
_CHECKSUM_BYTES = 16


def save_cache(state: Path, fleet: Fleet) -> None:
    """Keep the fleet for the next start. A disk that is full or read-only must not disturb who looks at the fleet."""
    with contextlib.suppress(OSError):
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor, temporary_name = tempfile.mkstemp(dir=state, prefix=f".{FILE_NAME}.")
        temporary = Path(temporary_name)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                content = msgspec.msgpack.encode(fleet)
                stream.write(_shape() + _checksum(content) + content)
            temporary.replace(state / FILE_NAME)
        finally:
            temporary.unlink(missing_ok=True)


def load_cache(state: Path) -> Fleet | None:
    """Return the fleet that was kept last, or None where there is none that this version can read.

    Its hosts are as they were at `taken_at`, which is what tells how old it is.
    """
    try:
        content = (state / FILE_NAME).read_bytes()
    except OSError:
        return None
    shape = _shape()
    begin = len(shape) + _CHECKSUM_BYTES
    if not content.startswith(shape) or content[len(shape) : begin] != _checksum(content[begin:]):
        return None
    try:
        return msgspec.msgpack.decode(content[begin:], type=Fleet)
    except msgspec.DecodeError:
        return None


def _checksum(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()[:_CHECKSUM_BYTES]


def _shape() -> bytes:
    # Taken from the structs themselves: a field added anywhere in them must not need a number changed here.
    schema = msgspec.json.encode(msgspec.json.schema(Fleet), order="deterministic")
    return b"newhope fleet " + hashlib.sha256(schema).hexdigest()[:16].encode() + b"\n"
