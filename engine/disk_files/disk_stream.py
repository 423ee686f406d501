"""A disk as a file whose bytes come over the socket when they are looked at. Only the reading process uses it."""

from __future__ import annotations

import io
from collections import OrderedDict
from collections.abc import Callable

from engine.disk_files.protocol import MAX_WANTED_BYTES

PIECE_BYTES = 64 << 10
CACHED_PIECES = 1024
"""64 MiB for all disks: directories and inode tables stay, content passes through."""

Fetch = Callable[[int, int, int], tuple[bytes, bool]]
"""Disk, offset, length; gives the bytes, and whether some of them are lost."""


class Pieces:
    """What was read last, of all disks."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._kept: OrderedDict[tuple[int, int], bytes] = OrderedDict()

    def read(self, disk: int, size_bytes: int, first: int, end: int) -> bytes:
        """The pieces from `first` to before `end`; those that are missing are fetched in as few steps as possible."""
        found: list[bytes] = []
        number = first
        while number < end:
            piece = self._kept.get((disk, number))
            if piece is not None:
                self._kept.move_to_end((disk, number))
                found.append(piece)
                number += 1
                continue
            stop = number + 1
            while stop < end and (disk, stop) not in self._kept and (stop - number) * PIECE_BYTES < MAX_WANTED_BYTES:
                stop += 1
            start = number * PIECE_BYTES
            data, lost = self._fetch(disk, start, min(stop * PIECE_BYTES, size_bytes) - start)
            found.append(data)
            if not lost:
                self._keep(disk, number, data)
            number = stop
        return b"".join(found)

    def _keep(self, disk: int, first: int, data: bytes) -> None:
        for start in range(0, len(data), PIECE_BYTES):
            self._kept[disk, first + start // PIECE_BYTES] = data[start : start + PIECE_BYTES]
        while len(self._kept) > CACHED_PIECES:
            self._kept.popitem(last=False)


class DiskStream(io.RawIOBase):
    """One disk."""

    def __init__(self, pieces: Pieces, disk: int, size_bytes: int) -> None:
        super().__init__()
        self._pieces = pieces
        self._disk = disk
        self.size = size_bytes
        self._at = 0

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """As of any file."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        """As of any file."""
        return self._at

    def read(self, size: int = -1) -> bytes:
        """All that was asked for, up to the disk's end."""
        end = self.size if size < 0 else min(self._at + size, self.size)
        start = self._at
        if end <= start:
            return b""
        first = start // PIECE_BYTES
        data = self._pieces.read(self._disk, self.size, first, -(-end // PIECE_BYTES))
        self._at = end
        skip = start - first * PIECE_BYTES
        return data if not skip and len(data) == end - start else data[skip : skip + end - start]

    def readall(self) -> bytes:
        """The rest."""
        return self.read()

    def readinto(self, buffer: memoryview) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        """As of any file."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)
