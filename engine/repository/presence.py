"""Whether every block of a recovery point is where the index says, without reading any of them.

1. The maps of its disks and files are walked, which reads their nodes and nothing else.
2. Each name is looked up in the index, and each pack that holds one must be there with its full size.
3. If a block is missing, the packs that no index file covers are asked for their own indexes, once: an index that was
   lost is no lost data.
4. A large point takes long. The walk ends when its time is over, and says how far it came.

What it does not see is a pack that is there and damaged inside: that takes reading it (`verify`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from msgspec import Struct

from engine.repository.errors import RepositoryDamaged
from engine.repository.index import Index
from engine.repository.model import DiskRecord, FileRecord, Manifest
from engine.repository.reader import Reader

_LOOK_AT_CLOCK_EVERY = 1024


class Presence(Struct, frozen=True):
    """What a look at the index said."""

    blocks: int
    """Blocks that were looked up, the same one as often as it is used."""
    missing: int
    """Of these, the ones that no pack holds."""
    hurt: tuple[str, ...] = ()
    """Disks and files that need them."""
    whole: bool = True
    """Whether all were looked up before the time was over."""


def look_for_blocks(reader: Reader, index: Index, manifest: Manifest, *, limit_s: float) -> Presence:
    """Look up every block of a point, for `limit_s` seconds at most."""
    end = time.monotonic() + limit_s
    blocks = missing = 0
    hurt: dict[str, None] = {}
    recovered = False
    records: tuple[DiskRecord | FileRecord, ...] = (*manifest.disks, *manifest.files)
    for record in records:
        of = record.target if isinstance(record, DiskRecord) else record.role
        for name in _names(reader, record):
            if name is None:
                missing += 1
                hurt[of] = None
                continue
            blocks += 1
            if not index.present(name):
                if not recovered:
                    index.recover()
                    recovered = True
                if not index.present(name):
                    missing += 1
                    hurt[of] = None
            if blocks % _LOOK_AT_CLOCK_EVERY == 0 and time.monotonic() > end:
                return Presence(blocks, missing, tuple(hurt), whole=False)
    return Presence(blocks, missing, tuple(hurt))


def _names(reader: Reader, record: DiskRecord | FileRecord) -> Iterator[bytes | None]:
    """Names of all blocks; None, as the last, where the map cannot be read on."""
    try:
        for _, name in reader.names(record):
            yield name
    except RepositoryDamaged:
        yield None
