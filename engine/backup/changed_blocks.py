"""Copy what a dirty bitmap says was written, and look at a share of what it says was not.

1. Dirty ranges are copied in whole blocks; what is zero in them now is noted as zero, for what was trimmed or zeroed
   since the parent must not come back as its old content. A disk that has grown is dirty behind its old end: QEMU calls
   that part clean. All other blocks are as in the parent (`disk_copy.copy_changes`).
2. Of these a few, chosen anew each time, are read on both sides: some of all, and some that held data, for on a disk
   that is nearly empty the former are mostly zero. One that differs means that the bitmap has missed writes:
   `BitmapDistrusted`, and the whole disk is read after all.
3. One is no sample but decides: the last block that held data and is called unchanged. A disk that was made smaller and
   as large as before has lost everything behind the place where it was cut, and QEMU forgets the dirty bits there with
   it. If anything is lost that nobody knows of, then so is that block. (In an image whose clusters are larger than the
   64 KiB that one bit of libvirt's stands for, the rest of the very cluster that was cut is left to the sample.)
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator

from engine import nbd
from engine.backup.disk_copy import copy_changes, round_to_blocks
from engine.errors import NewhopeError
from engine.repository import DiskRecord, DiskWriter, Reader, RepositoryDamaged

SAMPLE_SHARE = 1 / 512
SAMPLE_AT_LEAST = 16
SAMPLE_AT_MOST = 1024
STRETCH_BLOCKS = 1024


class BitmapDistrusted(NewhopeError):
    """A block that the dirty bitmap calls unchanged is not as the parent holds it."""


def copy_changed_blocks(
    client: nbd.Client,
    bitmap: str,
    disk: DiskWriter,
    parent: tuple[Reader, DiskRecord],
    block_bytes: int,
    advance: Callable[[int], None],
    take: Callable[[int], None],
) -> int:
    """Hand the repository every block that was written since the parent; how many bytes are dirty.

    `advance` is told of bytes that are done, unchanged ones included; `take` of those that were read, and may wait, or
    raise to stop.
    Raises `BitmapDistrusted`; what was handed over until then is of no use.
    """
    dirty_bytes = 0

    def changes() -> Iterator[tuple[int, int]]:
        nonlocal dirty_bytes
        for offset, length in dirty_ranges(client, bitmap, record.size_bytes):
            dirty_bytes += length
            yield offset, length

    reader, record = parent
    copy_changes(client, disk, block_bytes, changes(), advance, take)
    blocks = _comparable_blocks(client, record, block_bytes)
    with_data = reader.some_data_blocks(record, SAMPLE_AT_LEAST)
    chosen = {*_some(blocks), *(block for block in with_data if block < blocks)}
    last = last_unchanged_data_block(client, bitmap, parent, block_bytes)
    if last is not None:
        chosen.add(last)
    _compare(client, parent, _unchanged(client, bitmap, chosen, block_bytes), block_bytes, take)
    return dirty_bytes


def dirty_ranges(client: nbd.Client, bitmap: str, parent_bytes: int) -> Iterator[tuple[int, int]]:
    """Ranges `(offset, length)`, in order, that may not be as on the parent, a disk of that size or smaller."""
    for extent in client.extents(bitmap):
        length = min(extent.length, parent_bytes - extent.offset)
        if length <= 0:
            break
        if extent.is_dirty:
            yield extent.offset, length
    if client.size_bytes > parent_bytes:
        yield parent_bytes, client.size_bytes - parent_bytes


def _comparable_blocks(client: nbd.Client, record: DiskRecord, block_bytes: int) -> int:
    """How many blocks both sides have in the same length: a short last one may have grown since."""
    whole_blocks, rest = divmod(record.size_bytes, block_bytes)
    return whole_blocks + (rest > 0 and record.size_bytes == client.size_bytes)


def _some(blocks: int) -> list[int]:
    wanted = min(max(SAMPLE_AT_LEAST, int(blocks * SAMPLE_SHARE)), SAMPLE_AT_MOST, blocks)
    return random.SystemRandom().sample(range(blocks), wanted)


def _unchanged(client: nbd.Client, bitmap: str, blocks: set[int], block_bytes: int) -> Iterator[int]:
    for block in sorted(blocks):
        offset = block * block_bytes
        length = min(block_bytes, client.size_bytes - offset)
        if not any(extent.is_dirty for extent in client.extents(bitmap, offset, length)):
            yield block


def last_unchanged_data_block(
    client: nbd.Client, bitmap: str, parent: tuple[Reader, DiskRecord], block_bytes: int
) -> int | None:
    """The last block with data in the parent that the bitmap calls unchanged; None if there is no such block.

    Looked for from the end in stretches, so it costs what was written there since, however large the disk is.
    """
    reader, record = parent
    end = _comparable_blocks(client, record, block_bytes)
    while (last := reader.last_data_block(record, end)) is not None:
        end = max(0, last + 1 - STRETCH_BLOCKS)
        begin = end * block_bytes
        length = min((last + 1) * block_bytes, record.size_bytes) - begin
        told = client.extents(bitmap, begin, length)
        dirty = ((extent.offset - begin, extent.length, extent.is_dirty) for extent in told)
        for first, count, is_dirty in reversed(list(round_to_blocks(dirty, length, block_bytes))):
            found = None if is_dirty else reader.last_data_block(record, end + first + count)
            if found is not None and found >= end + first:
                return found
    return None


def _compare(
    client: nbd.Client,
    parent: tuple[Reader, DiskRecord],
    blocks: Iterable[int],
    block_bytes: int,
    take: Callable[[int], None],
) -> None:
    reader, record = parent
    buffer = memoryview(bytearray(block_bytes))
    for block in blocks:
        offset = block * block_bytes
        now = buffer[: min(block_bytes, client.size_bytes - offset)]
        take(len(now))
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
                "back, a tool that edits it while the VM is off, a disk made smaller and as large as before.",
            )
