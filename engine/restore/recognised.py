"""What a disk image holds already of what it is to hold: found by reading and naming it, never taken on trust.

1. The image's own map (`base:allocation`) tells where it has data at all. Blocks that are wanted and lie in a hole are
   missing; nothing is read for them.
2. Every block with data is read. A wanted one whose name is right is *there*; any other that is not zero is *stale*.
3. Whatever is stale is to be zeroed, and then what is not there is to be written: the image ends as the recovery point
   has it, whatever it held before.

The same comparison after a copy proves it: all is there, nothing is stale (`--verify`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain

from engine import nbd
from engine.repository import DiskRecord, Reader

_IN_FLIGHT = 16


class Recognised:
    """What was found in an image, one bit a block."""

    def __init__(self, blocks: int) -> None:
        self._there = bytearray((blocks + 7) // 8)
        self.there_bytes = 0
        self.missing_blocks = 0
        """Wanted, and not there or not right."""
        self.stale: list[int] = []
        """Numbers of blocks that hold something else than they are to hold."""

    def is_there(self, block: int) -> bool:
        """Whether a wanted block is in the image, right to the last byte."""
        return bool(self._there[block >> 3] & (1 << (block & 7)))

    def found(self, block: int, length: int) -> None:
        """A wanted block is there."""
        self._there[block >> 3] |= 1 << (block & 7)
        self.there_bytes += length


def recognise(
    reader: Reader, record: DiskRecord, image: nbd.Client, tell: Callable[[int], None], take: Callable[[int], None]
) -> Recognised:
    """Read what an image holds and compare it with a disk of a recovery point.

    `image` was opened with the context `BASE_ALLOCATION`; `tell` is given the bytes of wanted blocks that are there,
    `take` those that were read; it may wait, and raise.
    """
    size = reader.block_bytes
    found = Recognised((record.size_bytes + size - 1) // size)
    names = _Ahead(reader.names(record))
    wanted: dict[int, bytes] = {}
    zeroes = bytearray(size)
    with_data = _blocks_with_data(image, size, record.size_bytes)

    def requests() -> Iterator[nbd.ReadRequest]:
        for block in chain.from_iterable(with_data):
            while names.take_before(block) is not None:
                found.missing_blocks += 1
            name = names.take(block)
            if name is not None:
                wanted[block] = name
            length = min(size, record.size_bytes - block * size)
            yield nbd.ReadRequest(block * size, memoryview(bytearray(length)))

    for read in image.read_many(requests(), _IN_FLIGHT):
        block, length = read.offset // size, len(read.buffer)
        name = wanted.pop(block, None)
        if name is not None and reader.recognises(read.buffer, name):
            found.found(block, length)
            tell(length)
        else:
            found.missing_blocks += name is not None
            if not _is_zero(zeroes[:length], read.buffer):
                found.stale.append(block)
        take(length)
    while names.take_any() is not None:
        found.missing_blocks += 1
    found.stale.sort()
    return found


def _is_zero(zeroes: bytearray, content: object) -> bool:
    # A bytearray on the left compares with memcmp; a memoryview would compare item by item.
    return zeroes == content


def _blocks_with_data(image: nbd.Client, size: int, size_bytes: int) -> list[range]:
    """Numbers of the blocks that an image has data in, each once, in order."""
    past = 0
    found: list[range] = []
    for extent in image.extents(nbd.BASE_ALLOCATION, 0, min(image.size_bytes, size_bytes)):
        if extent.is_zero:
            continue
        first, last = max(extent.offset // size, past), (extent.end - 1) // size
        if last >= first:
            found.append(range(first, last + 1))
            past = last + 1
    return found


class _Ahead:
    """Names in the order of their blocks, with a look at the next one."""

    def __init__(self, names: Iterator[tuple[int, bytes]]) -> None:
        self._names = names
        self._next = next(names, None)

    def take_any(self) -> tuple[int, bytes] | None:
        """The next one, whatever it is."""
        taken = self._next
        if taken is not None:
            self._next = next(self._names, None)
        return taken

    def take_before(self, block: int) -> tuple[int, bytes] | None:
        """The next one, if it comes before a block."""
        return self.take_any() if self._next is not None and self._next[0] < block else None

    def take(self, block: int) -> bytes | None:
        """The name of exactly this block, if it is the next."""
        if self._next is None or self._next[0] != block:
            return None
        taken = self.take_any()
        return taken[1] if taken is not None else None
