"""What changed on a disk, cut along its blocks: what a dirty bitmap says becomes what a writer wants to hear.

A range that is not named is as in the parent. A range that is dirty and zero is zero: the guest wrote zeroes there, and
what the parent has in that place must not come back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec import Struct


class ChangedRange(Struct, frozen=True):
    """A range of a disk that may differ from the parent."""

    offset: int
    length: int
    zero: bool = False
    """It is all zero now, and need not be read."""


class BlockRun(Struct, frozen=True):
    """Whole blocks that are all as in the parent, or all zero, or all to be read."""

    first: int
    count: int
    changed: bool
    zero: bool = False


class MixedBlock(Struct, frozen=True):
    """A block of which parts are as in the parent, or zero. Offsets are within the block; the parts cover it."""

    block: int
    read: tuple[tuple[int, int], ...]
    """Offsets and lengths of what is to be read."""
    zero: tuple[tuple[int, int], ...]
    same: tuple[tuple[int, int], ...]
    """Of what is as in the parent."""


def in_blocks(changes: Iterable[ChangedRange], size_bytes: int, block_bytes: int) -> Iterator[BlockRun | MixedBlock]:
    """The whole disk, in order: runs of blocks, and the blocks that are of several kinds.

    The changes come in order and do not overlap (`ValueError`); they may be of any length and lie anywhere. The cost is
    that of the changes, not of the disk.
    """
    done = 0
    """Up to here, in blocks, all was told."""
    open_block = -1
    parts: list[tuple[int, int, bool]] = []
    end_before = 0
    for change in changes:
        offset, end = change.offset, min(change.offset + change.length, size_bytes)
        if offset < end_before or change.length < 0:
            raise ValueError(f"the change at {offset} overlaps the one before, which ends at {end_before}")
        end_before = max(end, end_before)
        while offset < end:
            block = offset // block_bytes
            if block != open_block:
                yield from _told(open_block, parts, size_bytes, block_bytes)
                done = max(done, open_block + 1)
                if block > done:
                    yield BlockRun(done, block - done, changed=False)
                    done = block
                open_block, parts = block, []
            start = block * block_bytes
            whole_end = size_bytes if end == size_bytes else end // block_bytes * block_bytes
            if offset == start and whole_end > start:
                count = -(-(whole_end - start) // block_bytes)
                yield BlockRun(block, count, changed=True, zero=change.zero)
                done, open_block = block + count, -1
                offset = whole_end
                continue
            stop = min(end, start + block_bytes)
            parts.append((offset - start, stop - offset, change.zero))
            offset = stop
    yield from _told(open_block, parts, size_bytes, block_bytes)
    done = max(done, open_block + 1)
    blocks = -(-size_bytes // block_bytes)
    if blocks > done:
        yield BlockRun(done, blocks - done, changed=False)


def _told(
    block: int, parts: list[tuple[int, int, bool]], size_bytes: int, block_bytes: int
) -> Iterator[BlockRun | MixedBlock]:
    if block < 0 or not parts:
        return
    length = min(block_bytes, size_bytes - block * block_bytes)
    read = tuple((offset, size) for offset, size, zero in parts if not zero)
    zeroes = tuple((offset, size) for offset, size, zero in parts if zero)
    same: list[tuple[int, int]] = []
    at = 0
    for offset, size, _ in parts:
        if offset > at:
            same.append((at, offset - at))
        at = offset + size
    if at < length:
        same.append((at, length - at))
    if same or (read and zeroes):
        yield MixedBlock(block, read, zeroes, tuple(same))
    else:
        yield BlockRun(block, 1, changed=True, zero=not read)
