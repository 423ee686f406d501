"""A reader: only sound data leaves it, in the order of the packs, with bounded memory, for many threads."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import pytest
from msgspec.structs import replace

from engine.repository import Repository, RepositoryDamaged
from engine.repository.block_record import HEADER_BYTES
from engine.repository.directory_storage import DirectoryStorage
from tests.repository.building import BLOCK, back_up, mixed_disk, packs_of


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository.create(tmp_path / "vault", block_bytes=BLOCK)


def test_a_disk_of_zeroes_has_no_runs_and_no_blocks(repository: Repository):
    record = back_up(repository, bytes(1000 * BLOCK)).manifest.disks[0]

    with repository.reader() as reader:
        assert list(reader.disk_runs(record)) == []
        assert list(reader.read_disk(record)) == []
        assert reader.read_range(record, 12345, 100_000) == bytes(100_000)


def test_blocks_beside_each_other_are_one_run(repository: Repository):
    content = bytes(3 * BLOCK) + b"x" * (5 * BLOCK) + bytes(2 * BLOCK) + b"y" * 100
    record = back_up(repository, content).manifest.disks[0]

    with repository.reader() as reader:
        runs = [(run.offset, run.length) for run in reader.disk_runs(record)]
        assert runs == [(3 * BLOCK, 5 * BLOCK), (10 * BLOCK, 100)]
        inside = [(run.offset, run.length) for run in reader.disk_runs(record, 4 * BLOCK + 7, BLOCK)]
        assert inside == [(4 * BLOCK + 7, BLOCK)]


def test_a_block_that_a_disk_has_often_is_read_once(repository: Repository, monkeypatch: pytest.MonkeyPatch):
    content = (b"a" * BLOCK + b"b" * BLOCK) * 400
    record = back_up(repository, content).manifest.disks[0]
    reads: list[int] = []
    read = DirectoryStorage.read

    def counted(self: DirectoryStorage, key: str, offset: int = 0, length: int | None = None) -> bytes:
        reads.append(offset)
        return read(self, key, offset, length)

    monkeypatch.setattr(DirectoryStorage, "read", counted)
    with repository.reader() as reader:
        assert sum(len(data) for _, data in reader.read_disk(record)) == len(content)

    assert len(reads) <= 2 + 5


def test_blocks_are_read_in_the_order_of_the_packs(repository: Repository, monkeypatch: pytest.MonkeyPatch):
    chance = random.Random(1)
    blocks = [chance.randbytes(BLOCK) for _ in range(200)]
    back_up(repository, b"".join(blocks))
    chance.shuffle(blocks)
    record = back_up(repository, b"".join(blocks)).manifest.disks[0]
    places: list[tuple[str, int]] = []
    read = DirectoryStorage.read

    def noted(self: DirectoryStorage, key: str, offset: int = 0, length: int | None = None) -> bytes:
        if length == HEADER_BYTES + BLOCK:
            places.append((key, offset))
        return read(self, key, offset, length)

    monkeypatch.setattr(DirectoryStorage, "read", noted)
    with repository.reader() as reader:
        assert len(list(reader.read_disk(record, workers=1))) == 200

    assert places == sorted(places)


def test_a_restore_that_is_left_in_the_middle_stops_reading(repository: Repository, tmp_path: Path):
    record = back_up(repository, mixed_disk()).manifest.disks[0]

    with repository.reader() as reader:
        blocks = reader.read_disk(record)
        next(blocks)
        blocks.close()  # type: ignore[attr-defined]

    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("read blocks")] == []


def test_ranges_outside_the_disk_are_refused(repository: Repository):
    record = back_up(repository, b"x" * 100).manifest.disks[0]

    with repository.reader() as reader:
        for offset, length in ((0, 101), (100, 1), (-1, 1), (0, -1)):
            with pytest.raises(ValueError, match="has 100 bytes"):
                reader.read_range(record, offset, length)
        assert reader.read_range(record, 100, 0) == b""


def test_many_threads_read_ranges_at_once(repository: Repository):
    content = mixed_disk(300)
    record = back_up(repository, content).manifest.disks[0]
    wrong: list[object] = []
    with repository.reader() as reader:

        def look(seed: int) -> None:
            chance = random.Random(seed)
            try:
                for _ in range(150):
                    start = chance.randrange(len(content))
                    length = min(chance.randrange(1, 3 * BLOCK), len(content) - start)
                    if reader.read_range(record, start, length) != content[start : start + length]:
                        wrong.append((start, length))
            except BaseException as error:
                wrong.append(error)

        threads = [threading.Thread(target=look, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert wrong == []


def test_ranges_used_lately_are_not_read_again(repository: Repository, tmp_path: Path):
    content = mixed_disk(300)
    record = back_up(repository, content).manifest.disks[0]
    with repository.reader() as reader:
        reader.read_range(record, 0, len(content))
        for pack in packs_of(tmp_path / "vault"):
            pack.unlink()

        assert reader.read_range(record, 10 * BLOCK, 20 * BLOCK) == content[10 * BLOCK : 30 * BLOCK]


def test_a_second_sound_copy_of_a_damaged_block_is_used(repository: Repository, tmp_path: Path):
    content = random.Random(1).randbytes(50 * BLOCK)
    back_up(repository, content)
    hidden = [(pack, pack.read_bytes()) for pack in packs_of(tmp_path / "vault")]
    for pack, _ in hidden:
        pack.unlink()
    record = back_up(Repository.open(tmp_path / "vault"), b"other" + content[5:]).manifest.disks[0]
    for pack, whole in hidden:
        pack.write_bytes(whole)
    for pack in packs_of(tmp_path / "vault"):
        if pack not in [path for path, _ in hidden]:
            continue
        damaged = bytearray(pack.read_bytes())
        damaged[200] ^= 1
        pack.write_bytes(damaged)

    with Repository.open(tmp_path / "vault").reader() as reader:
        assert reader.read_range(record, 0, len(content)) == b"other" + content[5:]


def test_a_damaged_block_is_named_with_its_pack_and_a_way_on(repository: Repository, tmp_path: Path):
    record = back_up(repository, random.Random(1).randbytes(BLOCK)).manifest.disks[0]
    (pack,) = packs_of(tmp_path / "vault")
    damaged = bytearray(pack.read_bytes())
    damaged[500] ^= 1
    pack.write_bytes(damaged)

    with Repository.open(tmp_path / "vault").reader() as reader, pytest.raises(RepositoryDamaged) as caught:
        list(reader.read_disk(record))

    assert pack.name in caught.value.what
    assert "vda" in caught.value.what
    assert "content does not match its name" in caught.value.what
    assert "another repository" in caught.value.next_step


def test_a_record_of_another_size_is_not_believed(repository: Repository):
    record = back_up(repository, mixed_disk(300)).manifest.disks[0]

    with repository.reader() as reader:
        for wrong in (record.size_bytes - 1, record.size_bytes + BLOCK, 10 * BLOCK, 10**9):
            with pytest.raises(RepositoryDamaged):
                list(reader.read_disk(replace(record, size_bytes=wrong)))
        with pytest.raises(RepositoryDamaged):
            list(reader.read_disk(replace(record, map_height=0)))


def test_a_disk_is_copied_whole_by_threads_that_read_and_write(repository: Repository):
    content = mixed_disk()
    record = back_up(repository, content).manifest.disks[0]
    copy = bytearray(len(content))

    def write(offset: int, data: bytes) -> None:
        copy[offset : offset + len(data)] = data

    with repository.reader() as reader:
        written = sum(reader.copy_disk(record, write))

    assert copy == content
    assert written == record.data_bytes


def test_what_cannot_be_written_ends_a_copy(repository: Repository):
    record = back_up(repository, mixed_disk()).manifest.disks[0]

    def refuse(offset: int, data: bytes) -> None:
        raise ZeroDivisionError

    with repository.reader() as reader, pytest.raises(ZeroDivisionError):
        list(reader.copy_disk(record, refuse))
