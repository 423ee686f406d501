"""A disk's blocks on their way from one repository to another.

A *unit* is what both repositories cut in whole blocks: one block of the larger size. For each unit, in order:

1. Nothing of it is in the source's map: it is zero, which costs nothing.
2. Blocks are named alike in both (same size, same key) and the target has that name: it is known, and is not read.
3. Otherwise a *neighbour* may help: another recovery point of this VM that is in both repositories. Where its map at
   the source says the same as this one's, its map at the target says what to write, if those blocks are still there.
4. Only what is left is read, checked against its name, cut anew, and given to the target's writer, which names it.

Units wait in windows, to be read in the order in which they lie in the source's packs, each content once a window.
Memory: a window of names, and for each stream one block of either side.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

from msgspec import Struct
from msgspec.structs import replace

from engine.repository.disk_map import ZERO_NAME, blocks_of
from engine.repository.errors import RepositoryDamaged
from engine.repository.model import DiskRecord
from engine.repository.reader import Reader
from engine.repository.sync_model import Advance
from engine.repository.writer import DiskWriter, Writer

WINDOW_UNITS = 1024
Names = tuple[tuple[int, bytes], ...]
"""Numbers within a unit, and names, of its blocks that are not zero."""


class SourceUnreadable(Exception):
    """Internal: the source is damaged where a point needs it."""


class Side(Struct, frozen=True):
    """A repository as a copy sees it."""

    reader: Reader
    block_bytes: int


class Neighbour(Struct, frozen=True):
    """The same disk in a recovery point that is in both repositories."""

    at_source: DiskRecord
    at_target: DiskRecord


class _Units:
    """The names of a map, unit by unit. Units are asked for in order. Raises `SourceUnreadable`."""

    def __init__(self, side: Side, record: DiskRecord, unit_bytes: int) -> None:
        self._names = side.reader.names(record)
        self._per_unit = unit_bytes // side.block_bytes
        self._next = self._advanced()

    def first(self) -> int | None:
        """The next unit that is not all zero."""
        return None if self._next is None else self._next[0] // self._per_unit

    def at(self, unit: int) -> Names:
        """What is not zero in a unit."""
        found: list[tuple[int, bytes]] = []
        while self._next is not None and self._next[0] < (unit + 1) * self._per_unit:
            block, name = self._next
            if block >= unit * self._per_unit:
                found.append((block % self._per_unit, name))
            self._next = self._advanced()
        return tuple(found)

    def _advanced(self) -> tuple[int, bytes] | None:
        try:
            return next(self._names, None)
        except RepositoryDamaged as error:
            raise SourceUnreadable(error.what) from error


class _NeighbourUnits:
    """What a neighbour knows of units, until one of its maps turns out to be damaged: then it knows nothing more."""

    def __init__(self, source: Side, target: Side, neighbour: Neighbour | None, unit_bytes: int) -> None:
        self._maps: tuple[_Units, _Units] | None = None
        if neighbour is not None:
            with suppress(SourceUnreadable):
                at_source = _Units(source, neighbour.at_source, unit_bytes)
                self._maps = at_source, _Units(target, neighbour.at_target, unit_bytes)

    def known(self, unit: int, names: Names) -> Names | None:
        """What a unit that has these names at the source has at the target; None if the neighbour cannot tell."""
        if self._maps is None:
            return None
        try:
            at_source, at_target = (units.at(unit) for units in self._maps)
        except SourceUnreadable:
            self._maps = None
            return None
        return at_target if at_source == names else None


class DiskCopy:
    """Copies one disk into a writer."""

    def __init__(
        self, source: Side, target: Side, writer: Writer, record: DiskRecord, *, named_alike: bool, streams: int
    ) -> None:
        self._source = source
        self._target = target
        self._writer = writer
        self._record = record
        self._named_alike = named_alike
        self._streams = streams
        self._unit_bytes = max(source.block_bytes, target.block_bytes)
        self._per_unit = self._unit_bytes // target.block_bytes
        self._blocks = blocks_of(record.size_bytes, target.block_bytes)
        self.read_bytes = 0

    def run(self, neighbour: Neighbour | None, advance: Advance) -> DiskRecord:
        """Copy it; its record at the target. Raises `SourceUnreadable`."""
        disk = self._writer.disk(self._record.target, self._record.size_bytes, self._record.format)
        if self._named_alike or (neighbour and neighbour.at_source.size_bytes != self._record.size_bytes):
            neighbour = None
        # Left before the writer is: a thread that waits for a buffer needs the writer's workers.
        with ThreadPoolExecutor(self._streams, thread_name_prefix="copy blocks") as pool:
            waiting: deque[tuple[Future[int], int]] = deque()
            try:
                for window in self._windows(disk, neighbour, advance):
                    for names, units in sorted(window.items(), key=self._place):
                        waiting.append((pool.submit(self._copy, disk, names, units), self._data_bytes(names, units)))
                        if len(waiting) > 2 * self._streams:
                            self._settle(waiting, advance)
                while waiting:
                    self._settle(waiting, advance)
            finally:
                for future, _ in waiting:
                    future.cancel()
        made = disk.finish(self._record.read_reason)
        return replace(self._record, map_root=made.map_root, map_height=made.map_height, data_bytes=made.data_bytes)

    def _windows(
        self, disk: DiskWriter, neighbour: Neighbour | None, advance: Advance
    ) -> Iterator[dict[tuple[Names, int], list[int]]]:
        """What must be read: for each content, told by its names and length, the units that have it."""
        units = _Units(self._source, self._record, self._unit_bytes)
        beside = _NeighbourUnits(self._source, self._target, neighbour, self._unit_bytes)
        window: dict[tuple[Names, int], list[int]] = {}
        done = 0
        while (unit := units.first()) is not None:
            self._zero(disk, done, unit)
            done = unit + 1
            names = units.at(unit)
            known = names if self._named_alike else beside.known(unit, names)
            if known is not None and all(self._writer.has(name) for _, name in known):
                self._known(disk, unit, known)
                advance(self._data_bytes((names, self._length(unit)), [unit]))
                continue
            window.setdefault((names, self._length(unit)), []).append(unit)
            if len(window) == WINDOW_UNITS:
                yield window
                window = {}
        self._zero(disk, done, blocks_of(self._record.size_bytes, self._unit_bytes))
        yield window

    def _zero(self, disk: DiskWriter, first_unit: int, end_unit: int) -> None:
        first, end = (min(unit * self._per_unit, self._blocks) for unit in (first_unit, end_unit))
        disk.zero(first, end - first)

    def _known(self, disk: DiskWriter, unit: int, known: Names) -> None:
        names = dict(known)
        first = unit * self._per_unit
        for block in range(first, min(first + self._per_unit, self._blocks)):
            name = names.get(block - first, ZERO_NAME)
            if name == ZERO_NAME:
                disk.zero(block, 1)
            else:
                disk.known(block, name)

    def _copy(self, disk: DiskWriter, names: tuple[Names, int], units: list[int]) -> int:
        """Read a content and give it to every unit that has it; how much was read."""
        content, read_bytes = self._content(*names)
        step = self._target.block_bytes
        for unit in units:
            for number in range(-(-len(content) // step)):
                piece = content[number * step : (number + 1) * step]
                buffer = disk.buffer()
                buffer[: len(piece)] = piece
                disk.submit(unit * self._per_unit + number, buffer, len(piece))
        return read_bytes

    def _content(self, names: Names, length: int) -> tuple[memoryview, int]:
        step = self._source.block_bytes
        pieces: list[tuple[int, bytes]] = []
        # Where a unit is several blocks, one that many units have would be read for each of them.
        read = self._source.reader.block if step == self._unit_bytes else self._source.reader.recent_block
        for number, name in names:
            wanted = min(step, length - number * step)
            try:
                pieces.append((number * step, read(name, wanted, self._record.target)))
            except RepositoryDamaged as error:
                raise SourceUnreadable(error.what) from error
        read_bytes = sum(len(piece) for _, piece in pieces)
        if len(pieces) == 1 and read_bytes == length:
            return memoryview(pieces[0][1]), read_bytes
        whole = bytearray(length)
        for offset, piece in pieces:
            whole[offset : offset + len(piece)] = piece
        return memoryview(whole), read_bytes

    def _settle(self, waiting: deque[tuple[Future[int], int]], advance: Advance) -> None:
        future, data_bytes = waiting.popleft()
        self.read_bytes += future.result()
        advance(data_bytes)

    def _length(self, unit: int) -> int:
        return min(self._unit_bytes, self._record.size_bytes - unit * self._unit_bytes)

    def _data_bytes(self, names: tuple[Names, int], units: list[int]) -> int:
        step = self._source.block_bytes
        return len(units) * sum(min(step, names[1] - number * step) for number, _ in names[0])

    def _place(self, item: tuple[tuple[Names, int], list[int]]) -> tuple[bytes, int]:
        return self._source.reader.place(item[0][0][0][1])
