"""Copy what a dirty bitmap says was written, and look at a share of what it says was not.

1. Dirty ranges are copied in whole blocks; what is zero in them now is noted as zero, for what was trimmed or zeroed
   since the parent must not come back as its old content. All other blocks are as in the parent
   (`disk_copy.copy_changes`).
2. Of these a few, chosen anew each time, are read on both sides: some of all, and some that held data, for on a disk
   that is nearly empty the former are mostly zero. One that differs means that the bitmap has missed writes:
   `BitmapDistrusted`, and the whole disk is read after all.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator

from engine import nbd
from engine.backup.disk_copy import copy_changes
from engine.errors import NewhopeError
from engine.repository import DiskRecord, DiskWriter, Reader, RepositoryDamaged

SAMPLE_SHARE = 1 / 512
SAMPLE_AT_LEAST = 16
SAMPLE_AT_MOST = 1024


class BitmapDistrusted(NewhopeError):
    """A block that the dirty bitmap calls unchanged is not as the parent holds it."""


def copy_changed_blocks(
    client: nbd.Client,
    bitmap: str,
    disk: DiskWriter,
    parent: tuple[Reader, DiskRecord],
    block_bytes: int,
    advance: Callable[[int], None],
    check: Callable[[], None],
) -> int:
    """Hand the repository every block that was written since the parent; how many bytes are dirty.

    `advance` is told of bytes that are done, unchanged ones included; `check` is called now and then and may raise.
    Raises `BitmapDistrusted`; what was handed over until then is of no use.
    """
    dirty_bytes = 0

    def changes() -> Iterator[tuple[int, int]]:
        nonlocal dirty_bytes
        for extent in client.extents(bitmap):
            if extent.is_dirty:
                dirty_bytes += extent.length
                yield extent.offset, extent.length

    copy_changes(client, disk, block_bytes, changes(), advance, check)
    reader, record = parent
    blocks = -(-client.size_bytes // block_bytes)
    chosen = {*_some(blocks), *reader.some_data_blocks(record, SAMPLE_AT_LEAST)}
    _compare(client, parent, _unchanged(client, bitmap, chosen, block_bytes), block_bytes, check)
    return dirty_bytes


def _some(blocks: int) -> list[int]:
    wanted = min(max(SAMPLE_AT_LEAST, int(blocks * SAMPLE_SHARE)), SAMPLE_AT_MOST, blocks)
    return random.SystemRandom().sample(range(blocks), wanted)


def _unchanged(client: nbd.Client, bitmap: str, blocks: set[int], block_bytes: int) -> Iterator[int]:
    for block in sorted(blocks):
        offset = block * block_bytes
        length = min(block_bytes, client.size_bytes - offset)
        if not any(extent.is_dirty for extent in client.extents(bitmap, offset, length)):
            yield block


def _compare(
    client: nbd.Client,
    parent: tuple[Reader, DiskRecord],
    blocks: Iterable[int],
    block_bytes: int,
    check: Callable[[], None],
) -> None:
    reader, record = parent
    buffer = memoryview(bytearray(block_bytes))
    for block in blocks:
        check()
        offset = block * block_bytes
        now = buffer[: min(block_bytes, client.size_bytes - offset)]
        client.read_into(offset, now)
        try:
            then = reader.read_range(record, offset, len(now))
        except RepositoryDamaged as damage:
            raise BitmapDistrusted(
                f"The block at {offset} of {record.target} cannot be read from its last point: {damage.what}",
                next_step="newhope repo verify tells what else is damaged; newhope repo repair mends what can be.",
            ) from damage
        if bytes(now) != then:
            raise BitmapDistrusted(
                f"The block at {offset} of {record.target} has changed, and the dirty bitmap does not know it.",
                untouched="No recovery point has been made of it.",
                next_step="Find out what writes to the image behind QEMU's back: a storage snapshot that was rolled "
                "back, a copy put in its place, a tool that edits it while the VM is off.",
            )
