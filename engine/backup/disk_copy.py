"""Copy one disk from an NBD export into a recovery point: data is read, zeroes are only noted.

Where the changes since an earlier point are known, only these are looked at, in whole blocks: to read the rest of a
block once more costs less than to fetch and unpack it from the repository.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from engine import nbd
from engine.repository import DiskWriter

IN_FLIGHT = 16
ASK_FROM_BLOCKS = 32
"""So many changed blocks in a row are asked about, whether they are zero. To read fewer takes less time than that."""
_PROGRESS_BLOCKS = 64


def copy_disk(
    client: nbd.Client, disk: DiskWriter, block_bytes: int, advance: Callable[[int], None], take: Callable[[int], None]
) -> None:
    """Read everything that is not zero and hand it to the repository, several requests in flight.

    `advance` is told of bytes that are done, zeroes included; `take` of those that were read, and may wait, or raise to
    stop.
    """
    runs = block_runs(client, block_bytes)
    _copy(client, disk, block_bytes, _blocks_to_read(client, disk, block_bytes, runs, advance), advance, take)


def copy_changes(
    client: nbd.Client,
    disk: DiskWriter,
    block_bytes: int,
    changes: Iterable[tuple[int, int]],
    advance: Callable[[int], None],
    take: Callable[[int], None],
) -> None:
    """The same for a disk with a parent, of which only these ranges `(offset, length)`, in order, may have changed.

    What is zero in them now is noted as zero; every block without a change is as in the parent. `advance` and `take`
    are as for `copy_disk`, and told of what is as in the parent, too.
    """
    size_bytes = client.size_bytes

    def blocks() -> Iterator[int]:
        ranges = ((offset, length, True) for offset, length in changes)
        for first, count, changed in round_to_blocks(ranges, size_bytes, block_bytes):
            length = min(count * block_bytes, size_bytes - first * block_bytes)
            if not changed:
                disk.same(first, count)
                advance(length)
                take(0)
                continue
            if count < ASK_FROM_BLOCKS:
                yield from range(first, first + count)
                continue
            runs = block_runs(client, block_bytes, first, count)
            yield from _blocks_to_read(client, disk, block_bytes, runs, advance)

    _copy(client, disk, block_bytes, blocks(), advance, take)


def _blocks_to_read(
    client: nbd.Client,
    disk: DiskWriter,
    block_bytes: int,
    runs: Iterator[tuple[int, int, bool]],
    advance: Callable[[int], None],
) -> Iterator[int]:
    """The blocks with data; the others are noted as zero."""
    for first, count, is_data in runs:
        if is_data:
            yield from range(first, first + count)
        else:
            disk.zero(first, count)
            advance(min(count * block_bytes, client.size_bytes - first * block_bytes))


def _copy(
    client: nbd.Client,
    disk: DiskWriter,
    block_bytes: int,
    blocks: Iterator[int],
    advance: Callable[[int], None],
    take: Callable[[int], None],
) -> None:
    last_block, last_length = divmod(client.size_bytes, block_bytes)

    def requests() -> Iterator[nbd.ReadRequest]:
        for block in blocks:
            length = last_length if block == last_block else block_bytes
            yield nbd.ReadRequest(block * block_bytes, disk.buffer()[:length])

    unreported = 0
    for number, request in enumerate(client.read_many(requests(), in_flight=IN_FLIGHT)):
        length = len(request.buffer)
        disk.submit(request.offset // block_bytes, request.buffer, length)
        unreported += length
        if number % _PROGRESS_BLOCKS == 0:
            advance(unreported)
            unreported = 0
        take(length)
    advance(unreported)


def block_runs(
    client: nbd.Client, block_bytes: int, first: int = 0, count: int | None = None
) -> Iterator[tuple[int, int, bool]]:
    """Blocks, without a count to the disk's end, as runs `(first, count, is_data)`.

    A block with any data in it is a data block.
    """
    begin = first * block_bytes
    length = client.size_bytes - begin if count is None else min(count * block_bytes, client.size_bytes - begin)
    extents = ((extent.offset - begin, extent.length, not extent.is_zero) for extent in _extents(client, begin, length))
    for run, blocks, is_data in round_to_blocks(extents, length, block_bytes):
        yield first + run, blocks, is_data


def _extents(client: nbd.Client, offset: int, length: int) -> Iterator[nbd.Extent]:
    if nbd.BASE_ALLOCATION in client.contexts:
        return client.extents(nbd.BASE_ALLOCATION, offset, length)
    return iter((nbd.Extent(offset, length, 0),))


def round_to_blocks(
    extents: Iterator[tuple[int, int, bool]], size_bytes: int, block_bytes: int
) -> Iterator[tuple[int, int, bool]]:
    """Widen data extents `(offset, length, is_data)` to whole blocks and merge neighbours; zero runs are what is left.

    The extents are in order and cover the disk; the runs do the same in blocks, the last of which may be short.
    """
    done = 0
    data_first = data_end = 0
    for offset, length, is_data in extents:
        if not is_data or length == 0:
            continue
        first, end = offset // block_bytes, -(-(offset + length) // block_bytes)
        if first > data_end or data_end == data_first:
            if data_end > data_first:
                yield data_first, data_end - data_first, True
                done = data_end
            if first > done:
                yield done, first - done, False
            data_first = first
        data_end = end
    if data_end > data_first:
        yield data_first, data_end - data_first, True
        done = data_end
    blocks = -(-size_bytes // block_bytes)
    if blocks > done:
        yield done, blocks - done, False
