"""Reads a point back from the repository into which it was copied, before it is listed there.

Every block is read and checked against its name, which was made of what came from the source and was checked there. A
block at the place where it also was in a point that this run has read back is not read once more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from engine.repository.errors import RepositoryDamaged
from engine.repository.model import DiskRecord, FileRecord, Manifest
from engine.repository.reader import Reader
from engine.repository.sync_model import ArrivalDamaged

WINDOW_BLOCKS = 1024
Block = tuple[bytes, int]


def check_arrival(reader: Reader, block_bytes: int, manifest: Manifest, seen: Manifest | None, *, streams: int) -> int:
    """Read back what `seen`, a point that was read back before, does not have; bytes read. Raises `ArrivalDamaged`."""
    before = {record.target: record for record in seen.disks} if seen else {}
    read_bytes = 0
    try:
        with ThreadPoolExecutor(streams, thread_name_prefix="read back") as pool:
            for record in (*manifest.disks, *manifest.files):
                earlier = before.get(record.target) if isinstance(record, DiskRecord) else None
                for window in _windows(_new_blocks(reader, block_bytes, record, earlier)):
                    read_bytes += _read(pool, reader, sorted(window, key=lambda block: reader.place(block[0])), record)
    except RepositoryDamaged as error:
        raise ArrivalDamaged(
            f"The copy of {manifest.vm.name} of {manifest.moment:%Y-%m-%dT%H:%M:%SZ} did not arrive whole: "
            f"{error.what}",
            untouched="It is not listed at the target. The source, and every point that is listed, stay as they were.",
            next_step="Look at the storage of the target (newhope repo verify, dmesg, smartctl), then sync again.",
        ) from error
    return read_bytes


def _new_blocks(
    reader: Reader, block_bytes: int, record: DiskRecord | FileRecord, earlier: DiskRecord | None
) -> Iterator[Block]:
    if earlier is not None and earlier.size_bytes != record.size_bytes:
        earlier = None
    others = reader.names(earlier) if earlier else iter(())
    other = next(others, None)
    for block, name in reader.names(record):
        while other is not None and other[0] < block:
            other = next(others, None)
        if other != (block, name):
            yield name, min(block_bytes, record.size_bytes - block * block_bytes)


def _windows(blocks: Iterator[Block]) -> Iterator[set[Block]]:
    window: set[Block] = set()
    for block in blocks:
        window.add(block)
        if len(window) == WINDOW_BLOCKS:
            yield window
            window = set()
    yield window


def _read(pool: ThreadPoolExecutor, reader: Reader, blocks: list[Block], record: DiskRecord | FileRecord) -> int:
    of = record.target if isinstance(record, DiskRecord) else record.name
    waiting: deque[Future[int]] = deque()
    done = 0

    def read(name: bytes, length: int) -> int:
        return len(reader.block(name, length, of))

    try:
        for name, length in blocks:
            waiting.append(pool.submit(read, name, length))
            if len(waiting) > 16:
                done += waiting.popleft().result()
        while waiting:
            done += waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
    return done
