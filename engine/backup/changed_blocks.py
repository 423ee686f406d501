"""Copy what a dirty bitmap says was written, and look at a share of what it says was not.

1. Dirty ranges are widened to whole blocks. One that is zero now is noted as zero: what was trimmed or overwritten with
   zeroes since the parent must not come back as its old content.
2. All other blocks are as in the parent, which costs neither reading nor writing them.
3. Of these a few, chosen anew each time, are read on both sides: some of all, and some that held data, for on a disk
   that is nearly empty the former are mostly zero. One that differs means that the bitmap has missed writes:
   `BitmapDistrusted`, and the whole disk is read after all.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Iterator

from engine import nbd
from engine.backup.disk_copy import IN_FLIGHT, round_to_blocks
from engine.errors import NewhopeError
from engine.repository import DiskRecord, DiskWriter, Reader, RepositoryDamaged

SAMPLE_SHARE = 1 / 512
SAMPLE_AT_LEAST = 16
_REPORT_BLOCKS = 64


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
    """Hand the repository every block that was written since the parent; how many bytes that were.

    `advance` is told of bytes that are done, unchanged ones included; `check` is called now and then and may raise.
    Raises `BitmapDistrusted`; what was handed over until then is of no use.
    """
    size_bytes = client.size_bytes
    sample = _Sample(-(-size_bytes // block_bytes))
    written = 0

    def requests() -> Iterator[nbd.ReadRequest]:
        nonlocal written
        unchanged = 0
        for first, count, dirty in _runs(client, bitmap, block_bytes):
            length = min(count * block_bytes, size_bytes - first * block_bytes)
            if not dirty:
                disk.same(first, count)
                sample.offer(first, count)
                advance(length)
                unchanged += 1
                if unchanged % _REPORT_BLOCKS == 0:
                    check()
                continue
            written += length
            for begin, blocks, data in _data_runs(client, first, count, block_bytes):
                if not data:
                    disk.zero(begin, blocks)
                    advance(min(blocks * block_bytes, size_bytes - begin * block_bytes))
                    continue
                for block in range(begin, begin + blocks):
                    offset = block * block_bytes
                    yield nbd.ReadRequest(offset, disk.buffer()[: min(block_bytes, size_bytes - offset)])

    for number, request in enumerate(client.read_many(requests(), in_flight=IN_FLIGHT)):
        length = len(request.buffer)
        disk.submit(request.offset // block_bytes, request.buffer, length)
        advance(length)
        if number % _REPORT_BLOCKS == 0:
            check()
    held_data = _unchanged(client, bitmap, parent[0].some_data_blocks(parent[1], SAMPLE_AT_LEAST), block_bytes)
    _compare(client, parent, sorted({*sample.chosen, *held_data}), block_bytes, check)
    return written


def _runs(client: nbd.Client, bitmap: str, block_bytes: int) -> Generator[tuple[int, int, bool]]:
    extents = ((extent.offset, extent.length, extent.is_dirty) for extent in client.extents(bitmap))
    yield from round_to_blocks(extents, client.size_bytes, block_bytes)


def _data_runs(client: nbd.Client, first: int, count: int, block_bytes: int) -> Iterator[tuple[int, int, bool]]:
    """A run of dirty blocks, in runs of those with data and those that are zero.

    Asked of the dirty ranges only: the map of a whole large disk can take longer than reading what has changed.
    """
    offset = first * block_bytes
    length = min(count * block_bytes, client.size_bytes - offset)
    extents = (
        (extent.offset - offset, extent.length, not extent.is_zero) for extent in _allocation(client, offset, length)
    )
    for begin, blocks, data in round_to_blocks(extents, length, block_bytes):
        yield first + begin, blocks, data


def _allocation(client: nbd.Client, offset: int, length: int) -> Iterator[nbd.Extent]:
    if nbd.BASE_ALLOCATION in client.contexts:
        return client.extents(nbd.BASE_ALLOCATION, offset, length)
    return iter((nbd.Extent(offset, length, 0),))


def _unchanged(client: nbd.Client, bitmap: str, blocks: set[int], block_bytes: int) -> Iterator[int]:
    for block in blocks:
        offset = block * block_bytes
        length = min(block_bytes, client.size_bytes - offset)
        if not any(extent.is_dirty for extent in client.extents(bitmap, offset, length)):
            yield block


class _Sample:
    """Block numbers of unchanged blocks, each as likely as the other, without a list of all."""

    def __init__(self, blocks: int) -> None:
        self._share = min(1.0, max(SAMPLE_SHARE, SAMPLE_AT_LEAST / max(blocks, 1)))
        self._chance = random.SystemRandom()
        self._skip = self._next_skip()
        self.chosen: list[int] = []

    def offer(self, first: int, count: int) -> None:
        """These blocks are unchanged."""
        while self._skip < count:
            self.chosen.append(first + self._skip)
            self._skip += 1 + self._next_skip()
        self._skip -= count

    def _next_skip(self) -> int:
        """How many blocks are passed over before the next one is chosen, so that each is with the same chance."""
        return int(self._chance.expovariate(self._share)) if self._share < 1 else 0


def _compare(
    client: nbd.Client,
    parent: tuple[Reader, DiskRecord],
    blocks: list[int],
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
