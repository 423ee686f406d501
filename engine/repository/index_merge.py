"""One index file in place of several, in bounded memory however many records they have.

1. The names are cut into spans in which all files together have some ten thousand records.
2. Of each span the records are read, their packs numbered as in the new file's table, and sorted; of several places of
   one block, that of the newer file stays first, and one that two files tell of is told once.
3. The new file is written as it comes, and named by its hash at the end.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from operator import itemgetter

from blake3 import blake3

from engine.repository.block_record import NAME_BYTES
from engine.repository.index_file import BUCKETS, PLACE, IndexFile, encode_index, index_key
from engine.repository.storage import Storage

GONE = -1
WRITE_BYTES = 1 << 20
SPAN_RECORDS = 32768
"""Records in memory at once, about: 8 MB."""
_name_of = itemgetter(slice(0, NAME_BYTES))


def write_merged(
    storage: Storage, files: list[IndexFile], created_us: int, gone: Collection[bytes] = frozenset()
) -> str:
    """Write one index file in place of several (newest first); its name.

    What they tell of packs that are `gone` is left out.
    """
    numbers: dict[tuple[bytes, int], int] = {}
    tables: list[list[int] | None] = [None] * len(files)
    # The largest file first: its numbers stay what they are, and its records need not be touched.
    for place in sorted(range(len(files)), key=lambda place: -files[place].count):
        table = [GONE if pack[0] in gone else numbers.setdefault(pack, len(numbers)) for pack in files[place].packs()]
        tables[place] = None if table == list(range(len(table))) else table
        files[place].expect_all()
    new = storage.open_new()
    try:
        name = blake3()
        superseded = tuple(file.id for file in files)
        for piece in _joined(encode_index(_runs(files, tables), list(numbers), superseded, created_us)):
            name.update(piece)
            new.write(piece)
        new.finish(index_key(name.hexdigest()))
        return name.hexdigest()
    finally:
        new.abandon()


def _runs(files: list[IndexFile], tables: list[list[int] | None]) -> Iterator[list[bytes]]:
    """All records, sorted, a span of names at a time."""
    total = sum(file.count for file in files)
    spans_a_bucket = total // BUCKETS // SPAN_RECORDS + 1
    places = [0] * len(files)
    for span in range(1, BUCKETS * spans_a_bucket + 1):
        bucket, part = divmod(span, spans_a_bucket)
        key = (bucket << 56) + (part << 56) // spans_a_bucket
        bound = key.to_bytes(8, "big") + bytes(NAME_BYTES - 8) if bucket < BUCKETS else None
        ends = [file.count if bound is None else file.lower_bound(bound) for file in files]
        yield _merged(files, tables, places, ends)
        places = ends


def _merged(files: list[IndexFile], tables: list[list[int] | None], places: list[int], ends: list[int]) -> list[bytes]:
    merged: dict[bytes, None] = {}
    for file, table, first, end in zip(files, tables, places, ends, strict=True):
        records = file.records(first, end)
        merged.update(dict.fromkeys(records if table is None else _renumbered(records, table)))
    # Stable: of two places of one block, that of the newer file stays first.
    return sorted(merged, key=_name_of)


def _renumbered(records: Iterable[bytes], table: list[int]) -> Iterator[bytes]:
    for record in records:
        number, offset, length = PLACE.unpack_from(record, NAME_BYTES)
        if table[number] != GONE:
            yield record[:NAME_BYTES] + PLACE.pack(table[number], offset, length)


def _joined(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in fewer pieces: most spans of a small index are a few records, and a write each is dear."""
    joined = bytearray()
    for piece in pieces:
        joined += piece
        if len(joined) >= WRITE_BYTES:
            yield bytes(joined)
            joined.clear()
    yield bytes(joined)
