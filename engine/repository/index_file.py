"""One index file: sorted records of which block lies where, looked up without reading it all.

1. Opening reads its tables: 40 bytes for each pack, about 1 in 270 of its bytes. The records stay where they are.
2. A look-up guesses. Names are hashes, so they lie evenly: a name's first bytes say about where it is, and one or two
   small pieces of the file, wherever it is kept (`ranges`), are enough among millions.
3. What an entry costs in memory is its part of the packs' table, a sixth of a byte. The records come first and
   everything about them last, so that the file is written in one stream.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import NamedTuple

from blake3 import blake3

from engine.repository.block_record import NAME_BYTES
from engine.repository.errors import Unsound
from engine.repository.pack import SealedPack
from engine.repository.ranges import HeldRanges, Ranges

MAGIC = b"NHINDX1\n"
END_MAGIC = b"NHIXEND\n"
VERSION = 1
HEADER = struct.Struct("<8sHHI")
PLACE = struct.Struct("<III")
RECORD_BYTES = NAME_BYTES + PLACE.size
PACK = struct.Struct("<32sQ")
BUCKETS = 256
PIECE_RECORDS = 128
"""Looked at around a guess: 5.5 KiB."""
GUESSES = 6
"""After so many that were wrong the names do not lie evenly, and halving is better."""
STRETCH_RECORDS = 16384
"""Read at once where many in a row are wanted: 700 KiB."""
FANOUT = struct.Struct(f"<{BUCKETS}Q")
TRAILER_FIELDS = struct.Struct("<QIIQ")
CHECKSUM_BYTES = 32
TRAILER_BYTES = TRAILER_FIELDS.size + CHECKSUM_BYTES + len(END_MAGIC)


class Location(NamedTuple):
    """Where a block's record lies."""

    pack: bytes
    offset: int
    length: int
    pack_size: int
    """Size that the whole pack should have."""


class IndexFile:
    """An index file opened for look-ups. Safe for any number of threads: nothing in it changes."""

    def __init__(self, file_id: str, content: Ranges | bytes) -> None:
        self.id = file_id
        self._ranges = HeldRanges(content) if isinstance(content, bytes) else content
        size = self._ranges.size_bytes
        if size < HEADER.size + FANOUT.size + TRAILER_BYTES:
            raise Unsound(f"it is cut: {size} bytes")
        trailer = self._ranges.read(size - TRAILER_BYTES, TRAILER_BYTES)
        magic, version, flags, reserved = HEADER.unpack(self._ranges.read(0, HEADER.size))
        if magic != MAGIC or trailer[-len(END_MAGIC) :] != END_MAGIC:
            raise Unsound("it does not begin or end as an index does: cut, or changed")
        if version != VERSION or flags or reserved:
            raise Unsound(f"it has version {version} with flags {flags:#x}: made by a newer newhope")
        self.count, self.pack_count, superseded_count, self.created_us = TRAILER_FIELDS.unpack_from(trailer)
        records_end = HEADER.size + self.count * RECORD_BYTES
        packs_bytes, names_bytes = self.pack_count * PACK.size, superseded_count * NAME_BYTES
        if records_end + packs_bytes + names_bytes + FANOUT.size + TRAILER_BYTES != size:
            raise Unsound("its length contradicts its counts")
        tables = self._ranges.read(records_end, size - TRAILER_BYTES - records_end)
        checksum = blake3(tables).update(trailer[: TRAILER_FIELDS.size]).digest()
        if checksum != trailer[TRAILER_FIELDS.size : TRAILER_FIELDS.size + CHECKSUM_BYTES]:
            raise Unsound("the checksum of its tables does not match")
        self._packs = tables[:packs_bytes]
        self._fanout: tuple[int, ...] = (0, *FANOUT.unpack_from(tables, packs_bytes + names_bytes))
        names = tables[packs_bytes : packs_bytes + names_bytes]
        self.superseded = tuple(names[i : i + NAME_BYTES].hex() for i in range(0, len(names), NAME_BYTES))

    @classmethod
    def of(cls, content: bytes) -> IndexFile:
        """An index file that is in memory."""
        return cls(blake3(content).hexdigest(), content)

    def find(self, name: bytes) -> list[Location]:
        """Every place where the block lies, newest first."""
        found: list[Location] = []
        for record in self._records_of(name)[1]:
            number, offset, length = PLACE.unpack_from(record, NAME_BYTES)
            pack_id, size = self.pack(number)
            found.append(Location(pack_id, offset, length, size))
        return found

    def positions(self, name: bytes) -> range:
        """Which records, counted from the first, tell of the block."""
        first, records = self._records_of(name)
        return range(first, first + len(records))

    def lower_bound(self, name: bytes) -> int:
        """How many records have names before this one."""
        return self._locate(name)[0]

    def records(self, first: int, end: int) -> Iterator[bytes]:
        """The raw records from one position to before another, in order."""
        for start in range(first, end, STRETCH_RECORDS):
            stretch = self._read(start, min(STRETCH_RECORDS, end - start))
            yield from (stretch[at : at + RECORD_BYTES] for at in range(0, len(stretch), RECORD_BYTES))

    def places_in(self, pack: bytes) -> Iterator[tuple[bytes, int, int]]:
        """Name, offset and length of every record that is said to lie in a pack. Reads them all."""
        numbers = {number for number, (name, _) in enumerate(self.packs()) if name == pack}
        if not numbers:
            return
        self.expect_all()
        for record in self.records(0, self.count):
            number, offset, length = PLACE.unpack_from(record, NAME_BYTES)
            if number in numbers:
                yield record[:NAME_BYTES], offset, length

    def named(self) -> Iterator[tuple[bytes, int]]:
        """Of every record, in order: the block's name, and the record's length."""
        for record in self.records(0, self.count):
            yield record[:NAME_BYTES], PLACE.unpack_from(record, NAME_BYTES)[2]

    def pack_numbers(self) -> Iterator[tuple[int, int]]:
        """Of every record, in order: the number of its pack in the table, and its length."""
        self.expect_all()
        for record in self.records(0, self.count):
            number, _, length = PLACE.unpack_from(record, NAME_BYTES)
            yield number, length

    def pack(self, number: int) -> tuple[bytes, int]:
        """Name and size of a pack of the table."""
        if number >= self.pack_count:
            raise Unsound(f"it names pack {number} of {self.pack_count}")
        pack_id, size = PACK.unpack_from(self._packs, number * PACK.size)
        return pack_id, size

    def packs(self) -> Iterator[tuple[bytes, int]]:
        """Names and sizes of all packs it tells of."""
        return (self.pack(number) for number in range(self.pack_count))

    def sound(self) -> bool:
        """Whether every byte is as it was written: the file is named by its hash. Reads it all."""
        self.expect_all()
        size = self._ranges.size_bytes
        stretch = STRETCH_RECORDS * RECORD_BYTES
        hashed = blake3()
        try:
            for offset in range(0, size, stretch):
                hashed.update(self._ranges.read(offset, min(stretch, size - offset)))
        except Unsound:
            return False
        return hashed.hexdigest() == self.id

    def expect_all(self) -> None:
        """Say that all of it is going to be read, or much."""
        self._ranges.expect_all()

    def _read(self, first: int, count: int) -> bytes:
        return self._ranges.read(HEADER.size + first * RECORD_BYTES, count * RECORD_BYTES)

    def _records_of(self, name: bytes) -> tuple[int, list[bytes]]:
        """The first position at which the name could stand, and the raw records that have it."""
        first, piece = self._locate(name)
        end = self._fanout[name[0] + 1]
        found: list[bytes] = []
        while first + len(found) < end:
            if not piece:
                piece = self._read(first + len(found), min(2, end - first - len(found)))
            if not piece.startswith(name):
                break
            found.append(piece[:RECORD_BYTES])
            piece = piece[RECORD_BYTES:]
        return first, found

    def _locate(self, name: bytes) -> tuple[int, bytes]:
        """The first position whose name is not before this one, and records from there, as far as they were read."""
        low, high = self._fanout[name[0]], self._fanout[name[0] + 1]
        key = int.from_bytes(name[:8], "big")
        low_key = name[0] << 56
        high_key = low_key + (1 << 56)
        guesses = 0
        while low < high:
            even = guesses < GUESSES and low_key < high_key
            guess = low + (high - low) * (key - low_key) // (high_key - low_key) if even else (low + high) // 2
            guesses += 1
            start = max(low, min(guess - PIECE_RECORDS // 2, high - PIECE_RECORDS))
            count = min(PIECE_RECORDS, high - start)
            piece = self._read(start, count)
            first, last = piece[:NAME_BYTES], piece[-RECORD_BYTES : NAME_BYTES - RECORD_BYTES]
            if last < name:
                low, low_key = start + count, int.from_bytes(last[:8], "big")
            elif start > low and first >= name:
                high, high_key = start, int.from_bytes(first[:8], "big")
            else:
                at = _bisect(piece, count, name)
                return start + at, piece[at * RECORD_BYTES :]
        return low, b""


def _bisect(piece: bytes, count: int, name: bytes) -> int:
    return bisect_left(
        range(count), name, key=lambda number: piece[number * RECORD_BYTES : number * RECORD_BYTES + NAME_BYTES]
    )


def index_key(file_id: str) -> str:
    """Where the index file of that name is stored."""
    return f"index/{file_id}"


def index_content(packs: Iterable[SealedPack], created_us: int) -> bytes:
    """An index file over these packs, in memory."""
    table = list(packs)
    buckets: list[list[bytes]] = [[] for _ in range(BUCKETS)]
    for number, pack in enumerate(table):
        for entry in pack.entries:
            place = PLACE.pack(number, entry.offset, entry.record_length)
            buckets[entry.name[0]].append(entry.name + place)
    for bucket in buckets:
        bucket.sort()
    rows = [(pack.id, pack.size_bytes) for pack in table]
    return b"".join(encode_index(buckets, rows, (), created_us))


def encode_index(
    runs: Iterable[list[bytes]], packs: list[tuple[bytes, int]], superseded: tuple[str, ...], created_us: int
) -> Iterator[bytes]:
    """The pieces of an index file. The raw records come sorted, in runs whose names begin with one byte each."""
    yield HEADER.pack(MAGIC, VERSION, 0, 0)
    counts = [0] * BUCKETS
    for run in runs:
        if run:
            counts[run[0][0]] += len(run)
            yield b"".join(run)
    table = b"".join(PACK.pack(*pack) for pack in packs)
    names = b"".join(bytes.fromhex(name) for name in superseded)
    tables = table + names + FANOUT.pack(*accumulate(counts))
    fields = TRAILER_FIELDS.pack(sum(counts), len(packs), len(superseded), created_us)
    yield tables + fields + blake3(tables).update(fields).digest() + END_MAGIC
