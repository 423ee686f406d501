"""A damaged pack, and what is sound in it.

1. It is read as a whole, unreadable ranges as zeroes: a bad sector costs the blocks that it hit.
2. Its records are found twice: by its table, if that is sound, and by their own headers, from the front. A record whose
   header is damaged is read with the header that the table says; one that the table does not know by its own.
3. A record counts only if its content is what its name stands for.

If all of that, and the hash over the whole, is as it should be, the pack is sound, and whoever said otherwise lies: an
index file that names other places in it than its table does.

A pack that is not sound is condemned (`condemned`): no writer leans on it from then on, so the next backup that meets
one of its blocks stores that block again. What is sound in it and can be read nowhere else is stored again at once. The
pack itself stays. A collection deletes it, as any condemned pack, once all that points need of it was read elsewhere.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator

from blake3 import blake3
from msgspec import Struct

from engine.repository.block_record import CRC, HEADER, MAGIC, BlockKind
from engine.repository.block_store import BlockStore
from engine.repository.errors import ObjectMissing, Unsound
from engine.repository.index_file import IndexFile
from engine.repository.pack import PackEntry, pack_key, read_pack_index, scan_records
from engine.repository.quarantine import PIECE_BYTES, read_or_zeroes
from engine.repository.repair_ground import FoundBlock, Ground


class PackSurvey(Struct, frozen=True):
    """What a pack that is called damaged turned out to be."""

    pack: bytes
    sound: bool
    """Every byte of it is as it was written."""
    content: bytes
    records: tuple[PackEntry, ...]
    """Those that are sound, each block once."""
    broken: int
    """Records that its table, or their own headers, tell of and that cannot be read."""

    def block(self, ground: Ground, entry: PackEntry) -> bytes | None:
        """The content of one of its records."""
        found = record_in(ground, self.content, entry)
        return found.content if found else None


def survey_pack(ground: Ground, pack: bytes) -> PackSurvey:
    """Read a pack and find every sound record in it."""
    key = pack_key(pack)
    content = _read(ground, pack)
    table: tuple[PackEntry, ...] | None
    try:
        table = read_pack_index(ground.storage, key)
    except (Unsound, ObjectMissing):
        table = None
    told = (*(table or ()), *scan_records(content))
    sound: dict[bytes, PackEntry] = {}
    broken: set[bytes] = set()
    for entry in told:
        if entry.name in sound:
            continue
        if record_in(ground, content, entry) is None:
            broken.add(entry.name)
        else:
            sound[entry.name] = entry
    broken -= sound.keys()
    whole = table is not None and not broken and blake3(content).digest() == pack
    return PackSurvey(pack, whole, content, tuple(sound.values()), len(broken))


def record_in(ground: Ground, content: bytes, entry: PackEntry) -> FoundBlock | None:
    """A block that lies in a pack's content, with the header that the entry tells; None if it is not sound."""
    stored = content[entry.offset + HEADER.size + CRC.size : entry.offset + entry.record_length]
    fields = HEADER.pack(MAGIC, entry.kind, entry.codec, entry.flags, entry.raw_length, entry.stored_length, entry.name)
    try:
        return ground.decoded(fields + CRC.pack(zlib.crc32(fields)) + stored, entry.name)
    except Unsound:
        return None


def only_there(ground: Ground, survey: PackSurvey) -> Iterator[PackEntry]:
    """Records of a damaged pack that can be read, and from no pack that can be leaned on."""
    for entry in survey.records:
        if ground.safe_block(entry.name) is None:
            yield entry


def store_again(ground: Ground, survey: PackSurvey, entries: Iterable[PackEntry], store: BlockStore) -> int:
    """Store records of a damaged pack; how many."""
    count = 0
    for entry in entries:
        found = record_in(ground, survey.content, entry)
        if found is not None:
            store.store(block_kind(found.kind), found.content)
            count += 1
    return count


def block_kind(kind: int) -> BlockKind:
    """The kind that a record says, which is only a hint."""
    try:
        return BlockKind(kind)
    except ValueError:
        return BlockKind.DATA


def lying_index_files(ground: Ground, pack: bytes) -> list[str]:
    """Names of the index files that name other places in a sound pack than its own table does."""
    table = {(e.name, e.offset, e.record_length) for e in read_pack_index(ground.storage, pack_key(pack))}
    size_bytes = ground.storage.size(pack_key(pack))
    return [file.id for file in ground.index.stored_files() if _lies(file, pack, size_bytes, table)]


def _lies(file: IndexFile, pack: bytes, size_bytes: int, table: set[tuple[bytes, int, int]]) -> bool:
    if any(size != size_bytes for name, size in file.packs() if name == pack):
        return True
    return any(place not in table for place in file.places_in(pack))


def _read(ground: Ground, pack: bytes) -> bytes:
    size_bytes = ground.packs[pack]
    return b"".join(
        read_or_zeroes(ground.storage, pack_key(pack), offset, min(PIECE_BYTES, size_bytes - offset))
        for offset in range(0, size_bytes, PIECE_BYTES)
    )
