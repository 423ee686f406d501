"""Copy one disk from an NBD export into a recovery point: data is read, zeroes are only noted."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from engine import nbd
from engine.repository import DiskWriter

IN_FLIGHT = 16
_PROGRESS_BLOCKS = 64


def copy_disk(
    client: nbd.Client, disk: DiskWriter, block_bytes: int, advance: Callable[[int], None], check: Callable[[], None]
) -> None:
    """Read everything that is not zero and hand it to the repository, several requests in flight.

    `advance` is told of bytes that are done, zeroes included; `check` is called now and then and may raise to stop.
    """
    size_bytes = client.size_bytes
    last_block, last_length = divmod(size_bytes, block_bytes)

    def requests() -> Iterator[nbd.ReadRequest]:
        for first, count, is_data in block_runs(client, block_bytes):
            if not is_data:
                disk.zero(first, count)
                advance(min(count * block_bytes, size_bytes - first * block_bytes))
                continue
            for block in range(first, first + count):
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
            check()
    advance(unreported)


def block_runs(client: nbd.Client, block_bytes: int) -> Iterator[tuple[int, int, bool]]:
    """The whole disk as runs of blocks `(first, count, is_data)`; a block with any data in it is a data block."""
    extents = ((extent.offset, extent.length, not extent.is_zero) for extent in _extents(client))
    return round_to_blocks(extents, client.size_bytes, block_bytes)


def _extents(client: nbd.Client) -> Iterator[nbd.Extent]:
    if nbd.BASE_ALLOCATION in client.contexts:
        return client.extents(nbd.BASE_ALLOCATION)
    return iter((nbd.Extent(0, client.size_bytes, 0),))


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
