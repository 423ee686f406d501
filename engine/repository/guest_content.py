"""The content of a guest's files as one disk: each file from a block of its own on.

1. A file goes to where the point before had it, if it still needs as many blocks; else behind everything that was
   there. A file that did not change so has the same block at the same place: no node of the map is new either.
2. Once most of what has been given out is not used any more, places are given out anew from the beginning.
3. What follows a file in its last block is zero; what lies between files was never written.

`FORMAT.md` says what of this others may rely on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from msgspec.structs import replace

from engine.file_entry import FileKind
from engine.repository.disk_map import blocks_of
from engine.repository.disk_writer import DiskWriter
from engine.repository.guest_listing import GuestEntry, decode_listing, encode_listing
from engine.repository.model import DiskRecord, FileRecord, Point
from engine.repository.reader import Reader
from engine.repository.writer import Writer

CAPACITY_BYTES = 1 << 44
TARGET = "guest-files"
LISTING_ROLE = "guest-listing"
_SPARSE_FACTOR = 4
_SPARSE_BLOCKS = 4096
"""Holes of fewer blocks are never worth moving everything for."""


class ContentShort(Exception):
    """A file ended before the length that its entry has."""


class GuestContentWriter:
    """Takes entries one by one, with their content, and gives the records of the point. For one thread."""

    def __init__(self, writer: Writer, before: Iterable[GuestEntry] = ()) -> None:
        self._writer = writer
        self._block_bytes = writer.block_bytes
        self._disk: DiskWriter = writer.disk(TARGET, CAPACITY_BYTES, TARGET)
        self._entries: list[GuestEntry] = []
        self._places: dict[bytes, tuple[int, int]] = {}
        self._taken: list[tuple[int, int]] = []
        self._end = 0
        self._keep_places([entry for entry in before if entry.kind is FileKind.FILE and entry.size_bytes])

    def add(self, entry: GuestEntry, read: Callable[[int], bytes] | None = None) -> None:
        """Take an entry; `read` gives up to so many bytes of a file's content, and nothing once it is at its end.

        Raises `ContentShort` if that is too early.
        """
        if entry.kind is FileKind.FILE and entry.size_bytes and read is not None:
            first = self._place_for(entry)
            self._store(first, entry.size_bytes, read)
            entry = replace(entry, offset=first * self._block_bytes)
        self._entries.append(entry)

    def finish(self, read_reason: str) -> tuple[DiskRecord, FileRecord]:
        """The disk with all content, and the listing."""
        end = 0
        for first, count in sorted(self._taken):
            self._disk.zero(end, first - end)
            end = first + count
        self._disk.zero(end, blocks_of(CAPACITY_BYTES, self._block_bytes) - end)
        disk = self._disk.finish(read_reason)
        return disk, self._writer.file(LISTING_ROLE, LISTING_ROLE, encode_listing(self._entries))

    def _keep_places(self, files: list[GuestEntry]) -> None:
        if any(entry.offset % self._block_bytes for entry in files):
            return  # a copy from a repository with smaller blocks
        places = {
            entry.path: (entry.offset // self._block_bytes, blocks_of(entry.size_bytes, self._block_bytes))
            for entry in files
        }
        used = sum(count for _, count in places.values())
        end = max((first + count for first, count in places.values()), default=0)
        if end <= _SPARSE_FACTOR * used + _SPARSE_BLOCKS:
            self._places, self._end = places, end

    def _place_for(self, entry: GuestEntry) -> int:
        count = blocks_of(entry.size_bytes, self._block_bytes)
        # Taken away, so that a name that comes twice does not get one place twice.
        before = self._places.pop(entry.path, None)
        if before is not None and before[1] == count:
            first = before[0]
        else:
            first, self._end = self._end, self._end + count
        self._taken.append((first, count))
        return first

    def _store(self, first: int, size_bytes: int, read: Callable[[int], bytes]) -> None:
        left = size_bytes
        block = first
        while left:
            buffer = self._disk.buffer()
            filled = 0
            try:
                wanted = min(left, self._block_bytes)
                while filled < wanted:
                    piece = read(wanted - filled)
                    if not piece:
                        raise ContentShort
                    buffer[filled : filled + len(piece)] = piece
                    filled += len(piece)
                buffer[filled : self._block_bytes] = bytes(self._block_bytes - filled)
            except BaseException:
                self._disk.release(buffer)
                raise
            self._disk.submit(block, buffer, self._block_bytes)
            left -= filled
            block += 1


def read_listing(reader: Reader, point: Point) -> tuple[GuestEntry, ...]:
    """All entries of a point of kind guest. Raises `RepositoryDamaged`."""
    for file in point.manifest.files:
        if file.role == LISTING_ROLE:
            return decode_listing(reader.file(file), f"{point.manifest.vm.name}@{point.id}")
    return ()


def read_guest_file(reader: Reader, disk: DiskRecord, entry: GuestEntry, piece_bytes: int = 1 << 20) -> Iterator[bytes]:
    """The content of a file of a point of kind guest, every byte checked. Raises `RepositoryDamaged`."""
    done = 0
    while done < entry.size_bytes:
        length = min(piece_bytes, entry.size_bytes - done)
        yield reader.read_range(disk, entry.offset + done, length)
        done += length
