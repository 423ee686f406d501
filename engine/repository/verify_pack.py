"""One pack, read from its first byte to its last.

1. Its trailer and table are read and checked: they say where the records lie.
2. From the front, as many whole records as fit a window are read at once, so every byte is read once and in order.
3. Each record must lie where the table says, right behind the one before, have the header that the table says, and its
   content must match its name. Where an index names the block in this pack, it must name this place.
4. The hash of all that was read must be the pack's own name: that covers the bytes that belong to no record, and finds
   a pack that lies in another's place.

Memory: two windows, or two blocks where those are larger.
"""

from __future__ import annotations

from collections.abc import Iterator

from blake3 import blake3
from msgspec import Struct

from engine.repository.block_record import decode_header, decode_record
from engine.repository.errors import Unsound
from engine.repository.index import Index
from engine.repository.keys import Keys
from engine.repository.pack import HEADER, PackEntry, pack_key, read_pack_index
from engine.repository.storage import Storage


class _Window(Struct, frozen=True):
    """Neighbouring records that are read at once."""

    offset: int
    length: int
    entries: tuple[PackEntry, ...]


def check_pack(
    storage: Storage, index: Index, pack_id: bytes, size_bytes: int, window_bytes: int, keys: Keys | None = None
) -> str | None:
    """What is wrong with a pack; None if every byte of it is as it was written.

    Raises `NewhopeError` where the storage does not let it be read.
    """
    key = pack_key(pack_id)
    try:
        if storage.size(key) != size_bytes:
            raise Unsound("its size changed since it was listed")
        entries = read_pack_index(storage, key)
        _check_order(entries)
        hashed = blake3(storage.read(key, 0, HEADER.size))
        end = HEADER.size
        for window in _windows(entries, window_bytes):
            content = storage.read(key, window.offset, window.length)
            hashed.update(content)
            _check_records(content, window, index, pack_id, keys)
            end = window.offset + window.length
        hashed.update(storage.read(key, end))
        if hashed.digest() != pack_id:
            raise Unsound("its content does not match its name")
    except Unsound as reason:
        return str(reason)
    return None


def _check_order(entries: tuple[PackEntry, ...]) -> None:
    offset = HEADER.size
    for entry in entries:
        if entry.offset != offset:
            raise Unsound(f"its table names a block at {entry.offset} where the one before ends at {offset}")
        offset += entry.record_length


def _windows(entries: tuple[PackEntry, ...], window_bytes: int) -> Iterator[_Window]:
    first = length = 0
    for number, entry in enumerate(entries):
        if length and length + entry.record_length > window_bytes:
            yield _Window(entries[first].offset, length, entries[first:number])
            first, length = number, 0
        length += entry.record_length
    if length:
        yield _Window(entries[first].offset, length, entries[first:])


def _check_records(content: bytes, window: _Window, index: Index, pack_id: bytes, keys: Keys | None) -> None:
    for entry in window.entries:
        start = entry.offset - window.offset
        record = content[start : start + entry.record_length]
        try:
            header = decode_header(record)
            if (header.kind, header.codec, header.flags) != (entry.kind, entry.codec, entry.flags):
                raise Unsound("its header contradicts the pack's table")
            decode_record(record, entry.name, entry.raw_length, keys)
        except Unsound as reason:
            raise Unsound(f"in its block at {entry.offset}, {reason}") from reason
        _check_index(entry, index, pack_id)


def _check_index(entry: PackEntry, index: Index, pack_id: bytes) -> None:
    places = [(place.offset, place.length) for place in index.find(entry.name) if place.pack == pack_id]
    if places and (entry.offset, entry.record_length) not in places:
        raise Unsound(f"an index names its block at {entry.offset} at {places[0][0]}")
