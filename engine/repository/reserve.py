"""Room that is kept for a collection on a full disk.

Deleting packs needs room first: a lease, a condemnation, its witnesses. One object of 64 KiB is kept for that; a
collector that finds no room for its lease deletes it, and makes another one when it is done.
"""

from __future__ import annotations

import secrets

from engine.errors import NoSpace
from engine.repository.storage import Storage

PREFIX = "reserve/"
RESERVE_BYTES = 64 * 1024


def keep_reserve(storage: Storage) -> bool:
    """See that there is a reserve; False where there is no room for one."""
    if any(True for _ in storage.list(PREFIX)):
        return True
    try:
        # Random bytes: a file system that compresses would keep no room for zeroes.
        storage.create(PREFIX + secrets.token_hex(8), secrets.token_bytes(RESERVE_BYTES))
    except NoSpace:
        return False
    return True


def use_reserve(storage: Storage) -> bool:
    """Delete the reserve; whether there was one."""
    keys = [entry.key for entry in storage.list(PREFIX)]
    for key in keys:
        storage.delete(key)
    return bool(keys)
