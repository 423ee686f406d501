"""All index files as one: new ones are seen, merged ones are ignored, lost ones are made up for by the packs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine.repository import Repository, index
from engine.repository.directory_storage import DirectoryStorage
from engine.repository.index import Index
from tests.repository.building import BLOCK, SMALL, WEB, back_up, later, mixed_disk, packs_of, restored


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository.create(tmp_path / "vault", block_bytes=4096)


def index_files(folder: Path) -> list[Path]:
    return sorted((folder / "vault/index").iterdir())


def test_a_long_writer_leaves_several_index_files(repository: Repository, tmp_path: Path):
    back_up(repository, mixed_disk(300))

    assert len(index_files(tmp_path)) >= 4


def test_many_index_files_are_merged_and_everything_is_still_found(repository: Repository, tmp_path: Path):
    contents = [mixed_disk(40, seed) for seed in range(30)]
    points = [back_up(repository, content, moment=later(i)) for i, content in enumerate(contents)]

    opened = Repository.open(tmp_path / "vault")
    for point, content in zip(points, contents, strict=True):
        assert restored(opened, point.manifest.disks[0]) == content
    seen = Index(DirectoryStorage(tmp_path / "vault"))
    seen.refresh()
    assert len(seen._files) < index.MERGE_AT + 8
    assert seen.totals()[0] == len(packs_of(tmp_path / "vault"))


def test_however_long_a_writer_writes_few_index_files_count(repository: Repository, tmp_path: Path):
    counted: list[int] = []
    with repository.writer("a test", limits=SMALL) as writer:
        disk = writer.disk("vda", 2000 * BLOCK, "qcow2")
        for block in range(2000):
            buffer = disk.buffer()
            buffer[:] = os.urandom(BLOCK)
            disk.submit(block, buffer, BLOCK)
            counted.append(len(repository._index.stored_files()))
        disk.finish("full")

    assert len(index_files(tmp_path)) > 30
    assert max(counted) <= index.MERGE_AT + 4


def test_files_that_do_not_count_are_not_kept_open(repository: Repository, tmp_path: Path):
    for seed in range(2 * index.MERGE_AT):
        back_up(repository, mixed_disk(20, seed), moment=later(seed))
    before = len(os.listdir("/proc/self/fd"))
    seen = Index(DirectoryStorage(tmp_path / "vault"))
    seen.refresh()

    assert len(seen._files) < len(index_files(tmp_path))
    assert len(os.listdir("/proc/self/fd")) - before <= len(seen._files)


def test_superseded_files_are_ignored_and_removed_a_day_later(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    points = [back_up(repository, mixed_disk(20, seed), moment=later(seed)) for seed in range(index.MERGE_AT)]
    before = len(index_files(tmp_path))
    assert before > index.MERGE_AT
    now = index.now_us()
    monkeypatch.setattr(index, "now_us", lambda: now + 2 * index.REMOVE_AFTER_US)
    back_up(repository, mixed_disk(20, 99), moment=later(99))

    assert len(index_files(tmp_path)) < before
    opened = Repository.open(tmp_path / "vault")
    assert restored(opened, points[0].manifest.disks[0]) == mixed_disk(20, 0)


def test_a_repository_without_its_index_is_still_read(repository: Repository, tmp_path: Path):
    content = mixed_disk(300)
    point = back_up(repository, content)
    for file in index_files(tmp_path):
        file.unlink()

    assert restored(Repository.open(tmp_path / "vault"), point.manifest.disks[0]) == content


def test_a_pack_without_index_and_without_its_own_table_is_still_read(repository: Repository, tmp_path: Path):
    content = mixed_disk(300)
    point = back_up(repository, content)
    for file in index_files(tmp_path):
        file.unlink()
    for pack in packs_of(tmp_path / "vault"):
        pack.write_bytes(pack.read_bytes()[:-100])

    assert restored(Repository.open(tmp_path / "vault"), point.manifest.disks[0]) == content


def test_a_damaged_index_file_is_reported_and_made_up_for(repository: Repository, tmp_path: Path):
    content = mixed_disk(300)
    point = back_up(repository, content)
    victim = index_files(tmp_path)[0]
    victim.write_bytes(victim.read_bytes()[:-1])

    opened = Repository.open(tmp_path / "vault")

    assert restored(opened, point.manifest.disks[0]) == content
    assert [damaged.key for damaged in opened.damaged] == [f"index/{victim.name}"]


def test_an_index_file_with_changed_records_is_found_out_and_made_up_for(repository: Repository, tmp_path: Path):
    content = mixed_disk(300)
    point = back_up(repository, content)
    for victim in index_files(tmp_path):
        changed = bytearray(victim.read_bytes())
        # The place in the pack of every record: names stay, so each lookup leads astray.
        for at in range(16, len(changed) - 2200, 44):
            changed[at + 36] ^= 1
        victim.write_bytes(changed)

    opened = Repository.open(tmp_path / "vault")

    assert restored(opened, point.manifest.disks[0]) == content
    assert len(opened.damaged) == len(index_files(tmp_path))


def test_a_damaged_index_file_is_not_merged_into_a_sound_one(repository: Repository, tmp_path: Path):
    contents = [mixed_disk(20, seed) for seed in range(index.MERGE_AT - 1)]
    points = [back_up(repository, content, moment=later(i)) for i, content in enumerate(contents)]
    victim = index_files(tmp_path)[0]
    changed = bytearray(victim.read_bytes())
    changed[16 + 36] ^= 1
    victim.write_bytes(changed)
    for seed in range(50, 60):
        back_up(repository, mixed_disk(20, seed), moment=later(seed))

    opened = Repository.open(tmp_path / "vault")
    superseded = {name for header in _headers(tmp_path) for name in header.superseded}
    assert superseded
    assert victim.name not in superseded
    for point, content in zip(points, contents, strict=True):
        assert restored(opened, point.manifest.disks[0]) == content


def test_a_block_whose_pack_is_gone_is_stored_again(repository: Repository, tmp_path: Path):
    content = mixed_disk(300)
    back_up(repository, content)
    for pack in packs_of(tmp_path / "vault")[:3]:
        pack.unlink()
    point = back_up(Repository.open(tmp_path / "vault"), content, moment=later(1))

    assert point.manifest.new_bytes > 0
    assert restored(Repository.open(tmp_path / "vault"), point.manifest.disks[0]) == content


def test_a_block_whose_pack_is_gone_is_stored_again_also_when_packs_were_listed(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(index, "LIST_PACKS_AT", 2)
    content = mixed_disk(300)
    back_up(repository, content)
    packs = packs_of(tmp_path / "vault")
    packs[-1].unlink()
    packs[-2].write_bytes(packs[-2].read_bytes()[:2000])
    point = back_up(Repository.open(tmp_path / "vault"), content, moment=later(1))

    assert point.manifest.new_bytes > BLOCK
    assert restored(Repository.open(tmp_path / "vault"), point.manifest.disks[0]) == content


def test_a_block_whose_pack_is_cut_is_stored_again(repository: Repository, tmp_path: Path):
    content = mixed_disk(300)
    back_up(repository, content)
    for pack in packs_of(tmp_path / "vault"):
        pack.write_bytes(pack.read_bytes()[:2000])
    point = back_up(Repository.open(tmp_path / "vault"), content, moment=later(1))

    assert restored(Repository.open(tmp_path / "vault"), point.manifest.disks[0]) == content


def test_a_reader_that_is_open_finds_points_that_are_made_meanwhile(repository: Repository, tmp_path: Path):
    other = Repository.open(tmp_path / "vault")
    with other.reader() as reader:
        content = mixed_disk(100)
        record = back_up(repository, content, limits=SMALL).manifest.disks[0]

        assert reader.read_range(record, 0, len(content)) == content
    assert len(other.points(WEB)) == 1


def _headers(folder: Path) -> list[index._Header]:
    seen = Index(DirectoryStorage(folder / "vault"))
    seen.refresh()
    return list(seen._headers.values())
