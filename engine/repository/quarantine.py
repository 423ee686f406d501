"""Where damaged objects go that something else must take the place of: `quarantine/<key>.<hash>`.

An object is never overwritten. To bring one back under its key:

1. The damaged one is copied to `quarantine/`, under its key and the beginning of the hash of what could be read.
2. It is deleted.
3. The sound one is created.

Each step can be done again: a repair that was killed in between is gone on with by the next one, which finds the copy
made, or the key free. Nothing in this package reads the copies; they are for people, who may delete them.
"""

from __future__ import annotations

from collections.abc import Callable

from blake3 import blake3

from engine.repository.errors import ObjectExists, StorageFailed
from engine.repository.storage import Storage

PREFIX = "quarantine/"
PIECE_BYTES = 1 << 20
HASH_DIGITS = 16


def set_aside(storage: Storage, key: str, may_delete: Callable[[], None]) -> str:
    """Move an object to `quarantine/`; where it lies then. `may_delete` is called right before the deleting."""
    kept = keep_copy(storage, key)
    may_delete()
    storage.delete(key)
    return kept


def keep_copy(storage: Storage, key: str) -> str:
    """Copy an object to `quarantine/`, durably; its key there. What of it cannot be read is kept as zeroes."""
    size_bytes = storage.size(key)
    hashed = blake3()
    copy = storage.open_new()
    try:
        for offset in range(0, size_bytes, PIECE_BYTES):
            piece = read_or_zeroes(storage, key, offset, min(PIECE_BYTES, size_bytes - offset))
            hashed.update(piece)
            copy.write(piece)
        kept = f"{PREFIX}{key}.{hashed.hexdigest()[:HASH_DIGITS]}"
        try:
            copy.finish(kept)
        except ObjectExists:
            # By a repair that was killed before it could delete the original.
            return kept
        return kept
    finally:
        copy.abandon()


def read_or_zeroes(storage: Storage, key: str, offset: int, length: int) -> bytes:
    """A range of an object; zeroes where the disk below does not let it be read."""
    try:
        return storage.read(key, offset, length)
    except StorageFailed:
        return bytes(length)


def original_of(key: str) -> str:
    """The key that an object in `quarantine/` had."""
    return key.removeprefix(PREFIX).rpartition(".")[0]
