"""Packs: what is written is listed at the end and can be found from the front, whatever is broken."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from blake3 import blake3

from engine.repository.block_record import HEADER_BYTES, BlockKind, Codec, block_name, compress, decode_record
from engine.repository.directory_storage import DirectoryStorage
from engine.repository.errors import Unsound
from engine.repository.pack import (
    TRAILER_BYTES,
    OpenPack,
    SealedPack,
    pack_id_of,
    pack_key,
    read_pack_index,
    scan_pack,
)


@pytest.fixture
def contents() -> list[bytes]:
    chance = random.Random(3)
    # The magic of a record inside a block must not lead a scan astray.
    return [chance.randbytes(3000), b"abc" * 1000, b"x", b"NHB\x01" * 500, chance.randbytes(4096), b"end" * 99]


@pytest.fixture
def storage(tmp_path: Path) -> DirectoryStorage:
    return DirectoryStorage(tmp_path)


@pytest.fixture
def pack(storage: DirectoryStorage, contents: list[bytes]) -> SealedPack:
    return write_pack(storage, contents)


def write_pack(storage: DirectoryStorage, contents: list[bytes]) -> SealedPack:
    target = storage.open_new()
    opened = OpenPack(target)
    for content in contents:
        codec, stored = compress(content)
        opened.append(BlockKind.DATA, codec, len(content), block_name(content), stored)
    sealed = opened.seal()
    target.finish(sealed.key)
    return sealed


def rewrite(storage: DirectoryStorage, key: str, content: bytes) -> None:
    (storage.folder / key).write_bytes(content)


def test_a_pack_is_named_by_its_bytes(storage: DirectoryStorage, pack: SealedPack):
    content = storage.read(pack.key)

    assert blake3(content).digest() == pack.id
    assert len(content) == pack.size_bytes
    assert pack_id_of(pack.key) == pack.id
    assert pack.key == pack_key(pack.id)


@pytest.mark.parametrize("key", ["packs/ab/zz", "packs/ab/" + "cd" * 32, "packs/ab/ab", "packs/readme"])
def test_what_is_not_named_like_a_pack_is_none(key: str):
    assert pack_id_of(key) is None


def test_the_table_at_the_end_and_a_scan_from_the_front_agree(storage: DirectoryStorage, pack: SealedPack):
    assert read_pack_index(storage, pack.key) == pack.entries
    assert tuple(scan_pack(storage, pack.key)) == pack.entries


def test_every_record_gives_its_content(storage: DirectoryStorage, pack: SealedPack, contents: list[bytes]):
    for entry, content in zip(pack.entries, contents, strict=True):
        record = storage.read(pack.key, entry.offset, entry.record_length)
        assert decode_record(record, entry.name, len(content)) == content


def test_what_does_not_shrink_is_stored_as_it_is(pack: SealedPack):
    assert [Codec(entry.codec) for entry in pack.entries] == [
        Codec.STORED,
        Codec.ZSTD,
        Codec.STORED,
        Codec.ZSTD,
        Codec.STORED,
        Codec.ZSTD,
    ]


def test_an_empty_pack_is_a_pack(storage: DirectoryStorage):
    pack = write_pack(storage, [])

    assert read_pack_index(storage, pack.key) == ()
    assert list(scan_pack(storage, pack.key)) == []


def test_a_cut_pack_is_unsound_and_a_scan_finds_the_records_that_are_whole(storage: DirectoryStorage, pack: SealedPack):
    content = storage.read(pack.key)
    for length in (0, 10, 16, 60, pack.entries[3].offset + 20, len(content) - 1):
        rewrite(storage, pack.key, content[:length])
        whole = tuple(entry for entry in pack.entries if entry.offset + entry.record_length <= length)

        with pytest.raises(Unsound):
            read_pack_index(storage, pack.key)
        assert tuple(scan_pack(storage, pack.key)) == whole


def test_a_scan_goes_on_after_a_header_that_is_damaged(storage: DirectoryStorage, pack: SealedPack):
    content = bytearray(storage.read(pack.key))
    content[pack.entries[1].offset + 20] ^= 1
    rewrite(storage, pack.key, bytes(content))

    found = list(scan_pack(storage, pack.key))

    assert found == [entry for entry in pack.entries if entry != pack.entries[1]]


def test_any_flipped_bit_of_table_or_trailer_shows(storage: DirectoryStorage, pack: SealedPack):
    content = storage.read(pack.key)
    table = pack.size_bytes - TRAILER_BYTES - 48 * len(pack.entries)
    for position in range(table, len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 1 << position % 8
        rewrite(storage, pack.key, bytes(damaged))

        with pytest.raises(Unsound):
            read_pack_index(storage, pack.key)


def test_any_flipped_bit_of_a_record_shows(storage: DirectoryStorage, pack: SealedPack, contents: list[bytes]):
    for number in (1, 2):
        entry = pack.entries[number]
        record = storage.read(pack.key, entry.offset, entry.record_length)
        for position in range(len(record)):
            damaged = bytearray(record)
            damaged[position] ^= 1 << position % 8
            with pytest.raises(Unsound):
                decode_record(bytes(damaged), entry.name, len(contents[number]))


def test_a_record_that_is_cut_or_another_s_is_unsound(
    storage: DirectoryStorage, pack: SealedPack, contents: list[bytes]
):
    first, second = pack.entries[:2]
    record = storage.read(pack.key, first.offset, first.record_length)

    for length in (0, 10, HEADER_BYTES, len(record) - 1):
        with pytest.raises(Unsound):
            decode_record(record[:length], first.name, len(contents[0]))
    with pytest.raises(Unsound, match="another block"):
        decode_record(record, second.name, len(contents[0]))
    with pytest.raises(Unsound, match="3000 bytes where 4096 belong"):
        decode_record(record, first.name, 4096)
