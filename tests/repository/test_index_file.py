"""One index file: what was put in is found, nothing else is, and damage to its tables shows at once."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.repository import index_merge
from engine.repository.directory_storage import DirectoryStorage
from engine.repository.errors import Unsound
from engine.repository.index_file import (
    FANOUT,
    PACK,
    RECORD_BYTES,
    TRAILER_BYTES,
    IndexFile,
    encode_index,
    index_content,
    index_key,
)
from engine.repository.index_merge import write_merged
from engine.repository.pack import PackEntry, SealedPack


def packs_with(names: list[bytes], packs: int, seed: int = 0) -> list[SealedPack]:
    chance = random.Random(seed)
    entries: list[list[PackEntry]] = [[] for _ in range(packs)]
    for name in names:
        pack = chance.choice(entries)
        pack.append(PackEntry(name, chance.randrange(1 << 26), chance.randrange(1 << 18), 1 << 18, 1, 1))
    return [SealedPack(bytes([seed % 256, number]) * 16, 1000 + number, tuple(e)) for number, e in enumerate(entries)]


def places(packs: list[SealedPack]) -> dict[bytes, set[tuple[bytes, int, int, int]]]:
    found: dict[bytes, set[tuple[bytes, int, int, int]]] = {}
    for pack in packs:
        for entry in pack.entries:
            found.setdefault(entry.name, set()).add((pack.id, entry.offset, entry.record_length, pack.size_bytes))
    return found


NAMES = st.lists(st.binary(min_size=32, max_size=32), max_size=60)


@settings(max_examples=60, deadline=None)
@given(names=NAMES, others=NAMES, packs=st.integers(1, 5), seed=st.integers(0, 9))
def test_exactly_what_was_put_in_is_found(names: list[bytes], others: list[bytes], packs: int, seed: int):
    written = packs_with(names, packs, seed)
    index = IndexFile.of(index_content(written, 7))

    for name, expected in places(written).items():
        assert {tuple(place) for place in index.find(name)} == expected
    for name in others:
        assert bool(index.find(name)) == (name in names)
    assert (index.count, index.pack_count, index.created_us) == (len(names), packs, 7)
    assert index.sound()


def test_names_at_the_ends_of_the_buckets_are_found():
    names = [bytes([byte]) + fill * 31 for byte in (0, 1, 127, 254, 255) for fill in (b"\0", b"\xff")]
    index = IndexFile.of(index_content(packs_with(names, 2), 0))

    assert all(len(index.find(name)) == 1 for name in names)
    assert index.find(b"\x01" * 32) == []


def test_an_empty_index_finds_nothing():
    assert IndexFile.of(index_content([], 0)).find(b"x" * 32) == []


def test_a_flipped_bit_outside_the_records_shows_when_the_file_is_opened():
    content = index_content(packs_with([bytes([i]) * 32 for i in range(20)], 3), 7)
    for position in (*range(16), *range(16 + 20 * RECORD_BYTES, len(content))):
        damaged = bytearray(content)
        damaged[position] ^= 1 << position % 8
        with pytest.raises(Unsound):
            IndexFile("x", bytes(damaged))


def test_a_flipped_bit_in_a_record_shows_when_the_whole_file_is_checked():
    content = index_content(packs_with([bytes([i]) * 32 for i in range(20)], 3), 7)
    damaged = bytearray(content)
    damaged[16 + 5 * RECORD_BYTES + 3] ^= 1

    assert not IndexFile(blake3(content).hexdigest(), bytes(damaged)).sound()


def test_a_cut_index_is_unsound():
    content = index_content(packs_with([bytes([i]) * 32 for i in range(20)], 3), 7)
    for length in (0, 15, 100, len(content) - RECORD_BYTES, len(content) - 1):
        with pytest.raises(Unsound):
            IndexFile("x", content[:length])


@settings(max_examples=40, deadline=None)
@given(parts=st.lists(NAMES, min_size=1, max_size=4))
def test_a_merged_file_finds_what_its_parts_found(parts: list[list[bytes]], tmp_path_factory: pytest.TempPathFactory):
    storage = DirectoryStorage(tmp_path_factory.mktemp("merge"))
    written = [packs_with(names, 2, seed) for seed, names in enumerate(parts)]
    files = [IndexFile.of(index_content(packs, seed)) for seed, packs in enumerate(written)]
    name = write_merged(storage, files, 99)
    merged = IndexFile(name, storage.ranges(index_key(name)))

    assert merged.sound()
    assert merged.superseded == tuple(file.id for file in files)
    for block, expected in places([pack for packs in written for pack in packs]).items():
        assert {tuple(place) for place in merged.find(block)} == expected


def test_of_two_places_of_a_block_the_newer_file_s_comes_first_after_a_merge(tmp_path: Path):
    storage = DirectoryStorage(tmp_path)
    name = b"n" * 32
    newer = IndexFile.of(index_content([SealedPack(b"z" * 32, 5, (PackEntry(name, 9, 9, 9, 1, 0),))], 2))
    older = IndexFile.of(index_content([SealedPack(b"a" * 32, 5, (PackEntry(name, 1, 1, 1, 1, 0),))], 1))
    merged_name = write_merged(storage, [newer, older], 3)
    merged = IndexFile(merged_name, storage.ranges(index_key(merged_name)))

    assert [place.pack for place in merged.find(name)] == [b"z" * 32, b"a" * 32]


def test_the_size_of_an_entry_is_44_bytes_and_a_pack_40():
    one = len(index_content(packs_with([b"a" * 32], 1), 0))
    two = len(index_content(packs_with([b"a" * 32, b"b" * 32], 1), 0))

    assert two - one == RECORD_BYTES == 44
    assert one == 16 + RECORD_BYTES + PACK.size + FANOUT.size + TRAILER_BYTES


LOOKUPS = """
import random, sys
from pathlib import Path
from engine.repository import index_merge
from engine.repository.directory_storage import DirectoryStorage
from engine.repository.index_file import IndexFile
file = DirectoryStorage(Path(sys.argv[1]).parent).ranges(Path(sys.argv[1]).name)
def anonymous_kib():
    return next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith("RssAnon"))
before = anonymous_kib()
index = IndexFile("x", file)
chance = random.Random(1)
hits = sum(bool(index.find(chance.randbytes(32))) for _ in range(20000))
hits += sum(bool(index.find(number.to_bytes(4, "big") + bytes(28))) for number in range(0, 1 << 32, 1 << 16))
print(index.count, hits, anonymous_kib() - before)
"""


def test_two_million_entries_cost_a_byte_of_memory_each_at_most(tmp_path: Path):
    place = (0).to_bytes(12, "little")
    buckets = (
        [number.to_bytes(4, "big") + bytes(28) + place for number in range(byte << 24, (byte + 1) << 24, 1 << 11)]
        for byte in range(256)
    )
    path = tmp_path / "index"
    with path.open("wb") as file:
        for piece in encode_index(buckets, [(bytes([number % 256]) * 32, 5) for number in range(8192)], (), 0):
            file.write(piece)

    done = subprocess.run([sys.executable, "-c", LOOKUPS, str(path)], check=True, capture_output=True, text=True)
    count, hits, grown_kib = (int(word) for word in done.stdout.split())

    assert (count, hits) == (1 << 21, 1 << 16)
    # The table of packs, 0.16 bytes for each record, and what the interpreter needs for the look-ups.
    assert grown_kib * 1024 < 2 * count


def test_names_that_do_not_lie_evenly_are_found_too():
    crowded = [b"\x10" * 8 + number.to_bytes(24, "big") for number in range(3000)]
    sparse = [b"\x10" + bytes([byte]) * 31 for byte in range(0x11, 0xFF)]
    known = sorted({*crowded, *sparse, b"\x10" + bytes(31), b"\x10" + b"\xff" * 31})
    index = IndexFile.of(index_content(packs_with(known, 2), 0))

    assert all(len(index.find(name)) == 1 for name in known)
    assert [index.lower_bound(name) for name in known[::50]] == list(range(0, len(known), 50))
    assert not index.find(b"\x10" * 8 + b"\xff" * 24)


def test_a_block_with_hundreds_of_places_is_found_with_all_of_them():
    name = b"n" * 32
    many = packs_with([name] * 700 + [bytes([i]) * 32 for i in range(256) if bytes([i]) != b"n"], 3)
    index = IndexFile.of(index_content(many, 0))

    assert len(index.find(name)) == 700
    assert {tuple(place) for place in index.find(name)} == places(many)[name]


def test_a_merge_holds_a_span_of_the_records_at_a_time(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(index_merge, "SPAN_RECORDS", 16)
    chance = random.Random(4)
    files = [
        IndexFile.of(index_content(packs_with([chance.randbytes(32) for _ in range(20_000)], 3, seed), seed))
        for seed in range(3)
    ]
    runs = list(index_merge._runs(files, [None, None, None]))

    assert sum(len(run) for run in runs) == 60_000
    assert max(len(run) for run in runs) < 64
    assert [record for run in runs for record in run] == sorted(record for run in runs for record in run)
    assert all(len({record[0] for record in run}) <= 1 for run in runs)


def test_an_index_file_that_is_cut_while_it_is_open_is_unsound_and_harms_nobody(tmp_path: Path):
    storage = DirectoryStorage(tmp_path)
    known = [bytes([i]) * 32 for i in range(200)]
    content = index_content(packs_with(known, 3), 7)
    storage.create("index/one", content)
    index = IndexFile("one", storage.ranges("index/one"))
    with (tmp_path / "index/one").open("r+b") as file:
        file.truncate(100)

    with pytest.raises(Unsound, match="cut"):
        index.find(known[150])
    assert not index.sound()
