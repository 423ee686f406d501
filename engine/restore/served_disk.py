"""A disk of a recovery point as an NBD export: read-only, every byte verified before it is handed out.

1. A request is answered from whole blocks. The last ones are kept; of several threads that need a block, the first
   reads it and the others wait for it.
2. A read that begins where one has just ended is one of many in a row, so the blocks behind it are read ahead.
3. What cannot be read is an I/O error (EIO) of its range alone, told once in words; a later request tries again, for
   the repository may have been repaired, or its storage be back.
"""

from __future__ import annotations

import errno
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

from engine.errors import NewhopeError
from engine.nbd import STATE_HOLE, STATE_ZERO, Extent
from engine.repository import DiskRecord, Reader

Damaged = Callable[[str, NewhopeError], None]
"""Told the disk, and why some of it cannot be read. Called from any thread, once for each reason."""
KEPT_BYTES = 32 << 20
AHEAD_BLOCKS = 4
_REASONS_REMEMBERED = 10_000


class ServedDisk:
    """The export. Safe for any number of threads; its lock is never held while something is read."""

    read_only = True

    def __init__(self, reader: Reader, record: DiskRecord, ahead: ThreadPoolExecutor, damaged: Damaged) -> None:
        self._reader = reader
        self._record = record
        self._ahead = ahead
        self._damaged = damaged
        self._kept_blocks = max(KEPT_BYTES // reader.block_bytes, 2 * AHEAD_BLOCKS)
        # Guards the three below.
        self._lock = threading.Lock()
        self._blocks: OrderedDict[int, Future[bytes]] = OrderedDict()
        self._ends: OrderedDict[int, None] = OrderedDict()
        self._reasons: set[str] = set()

    @property
    def size_bytes(self) -> int:
        """Size of the disk."""
        return self._record.size_bytes

    def read(self, offset: int, length: int) -> bytes:
        """A range of the disk. Raises `OSError` with EIO where it cannot be read."""
        size = self._reader.block_bytes
        first, last = offset // size, (offset + length - 1) // size
        try:
            content = b"".join(self._block(number) for number in range(first, last + 1))
        except NewhopeError as reason:
            self._tell(reason)
            raise OSError(errno.EIO, reason.what) from reason
        if self._in_a_row(offset, length):
            self._read_ahead(last + 1)
        start = offset - first * size
        return content if length == len(content) else content[start : start + length]

    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        """What is data and what is zero. Raises `OSError` with EIO where the map cannot be read."""
        position = offset
        try:
            for run in self._reader.disk_runs(self._record, offset, length):
                if run.offset > position:
                    yield Extent(position, run.offset - position, STATE_HOLE | STATE_ZERO)
                yield Extent(run.offset, run.length, 0)
                position = run.offset + run.length
        except NewhopeError as reason:
            self._tell(reason)
            raise OSError(errno.EIO, reason.what) from reason
        if position < offset + length:
            yield Extent(position, offset + length - position, STATE_HOLE | STATE_ZERO)

    def _block(self, number: int) -> bytes:
        mine: Future[bytes] = Future()
        with self._lock:
            kept = self._blocks.setdefault(number, mine)
            self._blocks.move_to_end(number)
            if len(self._blocks) > self._kept_blocks:
                self._blocks.popitem(last=False)
        if kept is mine:
            size = self._reader.block_bytes
            begin = number * size
            try:
                mine.set_result(self._reader.read_range(self._record, begin, min(size, self.size_bytes - begin)))
            except BaseException as reason:
                with self._lock:
                    if self._blocks.get(number) is mine:
                        del self._blocks[number]
                mine.set_exception(reason)
        return kept.result()

    def _in_a_row(self, offset: int, length: int) -> bool:
        # As many rows as clients may read at the same time.
        with self._lock:
            in_a_row = offset in self._ends
            self._ends.pop(offset, None)
            self._ends[offset + length] = None
            if len(self._ends) > 32:
                self._ends.popitem(last=False)
        return in_a_row

    def _read_ahead(self, first: int) -> None:
        end = min(first + AHEAD_BLOCKS, -(-self.size_bytes // self._reader.block_bytes))
        with self._lock:
            wanted = [number for number in range(first, end) if number not in self._blocks]
        with suppress(RuntimeError):  # The serving has just ended.
            for number in wanted:
                self._ahead.submit(self._read_before_it_is_asked_for, number)

    def _read_before_it_is_asked_for(self, number: int) -> None:
        with suppress(NewhopeError):  # Whoever asks for it is told.
            self._block(number)

    def _tell(self, reason: NewhopeError) -> None:
        with self._lock:
            if reason.what in self._reasons or len(self._reasons) >= _REASONS_REMEMBERED:
                return
            self._reasons.add(reason.what)
        self._damaged(self._record.target, reason)
