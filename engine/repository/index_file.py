"""One index file: sorted records of which block lies where, looked up without reading it all.

It is mapped into memory and searched in place: what an entry costs is its 44 bytes of page cache, and nothing of the
heap. The records come first and everything about them last, so that it is written in one stream.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable, Iterator
from mmap import mmap
from typing import NamedTuple

from blake3 import blake3

from engine.repository.block_record import NAME_BYTES
from engine.repository.errors import Unsound
from engine.repository.pack import SealedPack
from engine.repository.storage import Bytes, Storage

MAGIC = b"NHINDX1\n"
END_MAGIC = b"NHIXEND\n"
VERSION = 1
HEADER = struct.Struct("<8sHHI")
PLACE = struct.Struct("<III")
RECORD_BYTES = NAME_BYTES + PLACE.size
PACK = struct.Struct("<32sQ")
BUCKETS = 256
WRITE_BYTES = 1 << 20
GONE = -1
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
    """An index file opened for lookups. Safe for any number of threads: nothing in it changes."""

    def __init__(self, file_id: str, content: mmap | bytes) -> None:
        self.id = file_id
        self._content = content
        size = len(content)
        if size < HEADER.size + FANOUT.size + TRAILER_BYTES:
            raise Unsound(f"it is cut: {size} bytes")
        trailer = content[size - TRAILER_BYTES :]
        magic, version, flags, reserved = HEADER.unpack_from(content)
        if magic != MAGIC or trailer[-len(END_MAGIC) :] != END_MAGIC:
            raise Unsound("it does not begin or end as an index does: cut, or changed")
        if version != VERSION or flags or reserved:
            raise Unsound(f"it has version {version} with flags {flags:#x}: made by a newer newhope")
        self.count, self.pack_count, superseded_count, self.created_us = TRAILER_FIELDS.unpack_from(trailer)
        packs = HEADER.size + self.count * RECORD_BYTES
        superseded = packs + self.pack_count * PACK.size
        fanout = superseded + superseded_count * NAME_BYTES
        if fanout + FANOUT.size + TRAILER_BYTES != size:
            raise Unsound("its length contradicts its counts")
        checksum = blake3(content[packs : size - TRAILER_BYTES]).update(trailer[: TRAILER_FIELDS.size]).digest()
        if checksum != trailer[TRAILER_FIELDS.size : TRAILER_FIELDS.size + CHECKSUM_BYTES]:
            raise Unsound("the checksum of its tables does not match")
        self._packs = packs
        self._fanout: tuple[int, ...] = (0, *FANOUT.unpack_from(content, fanout))
        names = content[superseded:fanout]
        self.superseded = tuple(names[i : i + NAME_BYTES].hex() for i in range(0, len(names), NAME_BYTES))

    @classmethod
    def of(cls, content: bytes) -> IndexFile:
        """An index file that is in memory."""
        return cls(blake3(content).hexdigest(), content)

    def find(self, name: bytes) -> list[Location]:
        """Every place where the block lies, newest first."""
        return [self.location(position) for position in self.positions(name)]

    def positions(self, name: bytes) -> range:
        """Which records, counted from the first, tell of the block."""
        content = self._content
        low, high = self._fanout[name[0]], self._fanout[name[0] + 1]
        end = high
        while low < high:
            middle = (low + high) // 2
            start = HEADER.size + middle * RECORD_BYTES
            if content[start : start + NAME_BYTES] < name:
                low = middle + 1
            else:
                high = middle
        first = low
        while low < end:
            start = HEADER.size + low * RECORD_BYTES
            if content[start : start + NAME_BYTES] != name:
                break
            low += 1
        return range(first, low)

    def location(self, position: int) -> Location:
        """What a record tells."""
        number, offset, length = PLACE.unpack_from(self._content, HEADER.size + position * RECORD_BYTES + NAME_BYTES)
        pack_id, size = self.pack(number)
        return Location(pack_id, offset, length, size)

    def pack_numbers(self) -> Iterator[tuple[int, int]]:
        """Of every record, in order: the number of its pack in the table, and its length."""
        for position in range(self.count):
            number, _, length = PLACE.unpack_from(self._content, HEADER.size + position * RECORD_BYTES + NAME_BYTES)
            yield number, length

    def pack(self, number: int) -> tuple[bytes, int]:
        """Name and size of a pack of the table."""
        if number >= self.pack_count:
            raise Unsound(f"it names pack {number} of {self.pack_count}")
        pack_id, size = PACK.unpack_from(self._content, self._packs + number * PACK.size)
        return pack_id, size

    def packs(self) -> Iterator[tuple[bytes, int]]:
        """Names and sizes of all packs it tells of."""
        return (self.pack(number) for number in range(self.pack_count))

    def bucket(self, first_byte: int) -> Iterator[bytes]:
        """The raw records of the names that begin with a byte, in order."""
        start = HEADER.size + self._fanout[first_byte] * RECORD_BYTES
        end = HEADER.size + self._fanout[first_byte + 1] * RECORD_BYTES
        return (self._content[at : at + RECORD_BYTES] for at in range(start, end, RECORD_BYTES))

    def numbered(self, first_byte: int) -> Iterator[tuple[int, bytes, int]]:
        """Number, name and length of the records whose names begin with a byte, in order."""
        for position, record in enumerate(self.bucket(first_byte), self._fanout[first_byte]):
            yield position, bytes(record[:NAME_BYTES]), PLACE.unpack_from(record, NAME_BYTES)[2]

    def sound(self) -> bool:
        """Whether every byte is as it was written: the file is named by its hash. Reads it all."""
        return blake3(self._content).hexdigest() == self.id


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


def write_merged(
    storage: Storage, files: list[IndexFile], created_us: int, gone: Collection[bytes] = frozenset()
) -> str:
    """Write one index file in place of several (newest first), bucket by bucket in bounded memory; its name.

    What they tell of packs that are `gone` is left out.
    """
    numbers: dict[tuple[bytes, int], int] = {}
    tables = [
        [GONE if pack[0] in gone else numbers.setdefault(pack, len(numbers)) for pack in file.packs()] for file in files
    ]
    buckets = (_merged_bucket(files, tables, first_byte) for first_byte in range(BUCKETS))
    new = storage.open_new()
    try:
        name = blake3()
        for piece in _joined(encode_index(buckets, list(numbers), tuple(file.id for file in files), created_us)):
            name.update(piece)
            new.write(piece)
        new.finish(index_key(name.hexdigest()))
        return name.hexdigest()
    finally:
        new.abandon()


def encode_index(
    buckets: Iterable[list[bytes]], packs: list[tuple[bytes, int]], superseded: tuple[str, ...], created_us: int
) -> Iterator[bytes]:
    """The pieces of an index file: buckets hold sorted raw records."""
    yield HEADER.pack(MAGIC, VERSION, 0, 0)
    count = 0
    fanout: list[int] = []
    for bucket in buckets:
        count += len(bucket)
        fanout.append(count)
        yield b"".join(bucket)
    table = b"".join(PACK.pack(*pack) for pack in packs)
    names = b"".join(bytes.fromhex(name) for name in superseded)
    tables = table + names + FANOUT.pack(*fanout)
    fields = TRAILER_FIELDS.pack(count, len(packs), len(superseded), created_us)
    yield tables + fields + blake3(tables).update(fields).digest() + END_MAGIC


def _joined(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in fewer pieces: most buckets of a small index are a few records, and a write each is dear."""
    joined = bytearray()
    for piece in pieces:
        joined += piece
        if len(joined) >= WRITE_BYTES:
            yield bytes(joined)
            joined.clear()
    yield bytes(joined)


def _merged_bucket(files: list[IndexFile], tables: list[list[int]], first_byte: int) -> list[bytes]:
    merged: dict[bytes, None] = {}
    for file, table in zip(files, tables, strict=True):
        for record in file.bucket(first_byte):
            number, offset, length = PLACE.unpack_from(record, NAME_BYTES)
            if table[number] != GONE:
                merged[record[:NAME_BYTES] + PLACE.pack(table[number], offset, length)] = None
    # Stable: of two places of one block, that of the newer file stays first.
    return sorted(merged, key=_name_of)


def _name_of(record: Bytes) -> bytes:
    return bytes(record[:NAME_BYTES])
