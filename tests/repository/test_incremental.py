"""A disk with a parent: the point is the same as if all had been read, and costs what changed."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import NotFound
from engine.repository import DiskRecord, Point, Repository, RepositoryDamaged
from engine.repository.changed_ranges import BlockRun, ChangedRange, in_blocks
from engine.repository.directory_storage import DirectoryStorage
from engine.repository.writer import Writer
from tests.repository.building import BLOCK, SMALL, back_up, commit, later, mixed_disk, packs_of, restored, write_disk

SECTOR = 512


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository.create(tmp_path / "vault", block_bytes=BLOCK)


def write_changes(writer: Writer, parent: Point, content: bytes, changes: list[ChangedRange]) -> DiskRecord:
    """Write a disk as a backup with a dirty bitmap does: only what changed is looked at in `content`."""
    writer.lean_on(parent)
    disk = writer.disk("vda", len(content), "raw", parent=parent.manifest.disks[0])
    for each in in_blocks(changes, len(content), BLOCK):
        if isinstance(each, BlockRun) and not each.changed:
            disk.same(each.first, each.count)
        elif isinstance(each, BlockRun) and each.zero:
            disk.zero(each.first, each.count)
        else:
            blocks = range(each.first, each.first + each.count) if isinstance(each, BlockRun) else [each.block]
            for block in blocks:
                length = min(BLOCK, len(content) - block * BLOCK)
                buffer = disk.buffer()
                buffer[:] = b"?" * BLOCK
                read = ((0, length),) if isinstance(each, BlockRun) else each.read
                for offset, size in read:
                    start = block * BLOCK + offset
                    buffer[offset : offset + size] = content[start : start + size]
                for offset, size in () if isinstance(each, BlockRun) else each.zero:
                    buffer[offset : offset + size] = bytes(size)
                disk.submit(block, buffer, length, same=() if isinstance(each, BlockRun) else each.same)
    return disk.finish("changes since the last point")


def change(content: bytearray, chance: random.Random, changes: int) -> list[ChangedRange]:
    """Write or zero so many ranges, of sectors; what a dirty bitmap then says."""
    dirty: dict[int, bool] = {}
    for _ in range(changes):
        first = chance.randrange(len(content) // SECTOR)
        zero = chance.random() < 0.4
        for sector in range(first, min(first + chance.choice((1, 3, 8, 40)), len(content) // SECTOR)):
            dirty[sector] = zero
            content[sector * SECTOR : (sector + 1) * SECTOR] = bytes(SECTOR) if zero else chance.randbytes(SECTOR)
    return [ChangedRange(sector * SECTOR, SECTOR, dirty[sector]) for sector in sorted(dirty)]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1 << 30), blocks=st.sampled_from([1, 30, 256, 257, 700]), changes=st.integers(0, 12))
def test_a_point_made_of_changes_is_the_point_that_reading_everything_makes(
    seed: int, blocks: int, changes: int, tmp_path_factory: pytest.TempPathFactory
):
    repository = Repository.create(tmp_path_factory.mktemp("incremental") / "vault", block_bytes=BLOCK)
    chance = random.Random(seed)
    content = bytearray(mixed_disk(blocks, seed, tail=chance.choice((0, 1024))))
    parent = back_up(repository, bytes(content))
    dirty = change(content, chance, changes)

    with repository.writer("a test", limits=SMALL) as writer:
        record = write_changes(writer, parent, bytes(content), dirty)
        whole = write_disk(writer, "vda", bytes(content))
        commit(writer, (record,), later(1))

    assert (record.map_root, record.map_height, record.data_bytes) == (
        whole.map_root,
        whole.map_height,
        whole.data_bytes,
    )
    assert restored(repository, record) == bytes(content)


@pytest.mark.parametrize(("before", "after"), [(100, 300), (300, 100), (256, 257), (600, 256), (511, 700), (70, 0)])
def test_a_disk_may_have_grown_or_shrunk(repository: Repository, before: int, after: int):
    content = mixed_disk(max(before, after), 4, tail=0)
    parent = back_up(repository, content[: before * BLOCK])
    common = min(before, after)
    with repository.writer("a test", limits=SMALL) as writer:
        writer.lean_on(parent)
        disk = writer.disk("vda", after * BLOCK, "raw", parent=parent.manifest.disks[0])
        disk.same(0, common)
        for block in range(common, after):
            buffer = disk.buffer()
            buffer[:] = content[block * BLOCK : (block + 1) * BLOCK]
            disk.submit(block, buffer, BLOCK)
        record = disk.finish("grown")
        whole = write_disk(writer, "vda", content[: after * BLOCK])
        commit(writer, (record,), later(1))

    assert (record.map_root, record.data_bytes) == (whole.map_root, whole.data_bytes)
    assert restored(repository, record) == content[: after * BLOCK]


def test_a_last_block_of_another_length_is_not_the_same(repository: Repository):
    parent = back_up(repository, b"x" * (3 * BLOCK + 100))
    with repository.writer("a test") as writer:
        writer.lean_on(parent)
        disk = writer.disk("vda", 3 * BLOCK + 200, "raw", parent=parent.manifest.disks[0])
        with pytest.raises(ValueError, match="not as long"):
            disk.same(0, 4)
        disk.same(0, 3)
        buffer = disk.buffer()
        buffer[100:200] = b"y" * 100
        disk.submit(3, buffer, 200, same=((0, 100),))
        record = disk.finish("grown")
        commit(writer, (record,), later(1))

    assert restored(repository, record) == b"x" * (3 * BLOCK + 100) + b"y" * 100


class CountingStorage(DirectoryStorage):
    reads = 0

    def read(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        self.reads += key.startswith("packs/")
        return super().read(key, offset, length)


def test_a_few_changes_of_a_huge_disk_touch_a_few_nodes(tmp_path: Path):
    storage = CountingStorage(tmp_path / "vault")
    (tmp_path / "vault").mkdir()
    repository = Repository.create_in(storage, block_bytes=BLOCK)
    size = 10 << 40
    blocks = size // BLOCK
    chance = random.Random(8)
    written = sorted(chance.sample(range(blocks), 400))
    with repository.writer("a test") as writer:
        disk = writer.disk("vda", size, "raw")
        at = 0
        for block in written:
            disk.zero(at, block - at)
            buffer = disk.buffer()
            buffer[:] = chance.randbytes(BLOCK)
            disk.submit(block, buffer, BLOCK)
            at = block + 1
        disk.zero(at, blocks - at)
        first = disk.finish("full")
        parent = commit(writer, (first,))
    packs = len(packs_of(tmp_path / "vault"))

    storage.reads = 0
    changed = [written[7] * BLOCK, written[200] * BLOCK + 1024, (written[300] + 1) * BLOCK]
    with repository.writer("a test") as writer:
        writer.lean_on(parent)
        disk = writer.disk("vda", size, "raw", parent=first)
        for each in in_blocks([ChangedRange(place, 512) for place in changed], size, BLOCK):
            if isinstance(each, BlockRun):
                disk.same(each.first, each.count)
            else:
                buffer = disk.buffer()
                for offset, length in each.read:
                    buffer[offset : offset + length] = b"n" * length
                disk.submit(each.block, buffer, BLOCK, same=each.same)
        record = disk.finish("changes")
        stats = writer.stats
        commit(writer, (record,), later(1))

    assert first.map_height == 3
    # For each change its block and the path to it; the two that lie side by side with data read their blocks as well.
    assert storage.reads <= 3 * (4 + 1)
    assert stats.new_blocks <= 3 * (1 + 4)
    assert stats.new_bytes < 120_000
    assert len(packs_of(tmp_path / "vault")) == packs + 1
    assert record.data_bytes == first.data_bytes + BLOCK
    with repository.reader() as reader:
        assert reader.read_range(record, changed[1], 512) == b"n" * 512
        assert reader.read_range(record, changed[1] - 1024, 1024) == reader.read_range(first, changed[1] - 1024, 1024)
        assert reader.read_range(record, changed[2], BLOCK) == b"n" * 512 + bytes(BLOCK - 512)
        assert reader.read_range(record, written[9] * BLOCK, BLOCK) == reader.read_range(
            first, written[9] * BLOCK, BLOCK
        )


def test_an_unchanged_disk_reads_nothing_and_stores_nothing(tmp_path: Path):
    storage = CountingStorage(tmp_path / "vault")
    (tmp_path / "vault").mkdir()
    repository = Repository.create_in(storage, block_bytes=BLOCK)
    parent = back_up(repository, mixed_disk(2000))
    storage.reads = 0
    with repository.writer("a test") as writer:
        writer.lean_on(parent)
        old = parent.manifest.disks[0]
        disk = writer.disk("vda", old.size_bytes, "raw", parent=old)
        disk.same(0, 2001)
        record = disk.finish("nothing changed")

        assert (record.map_root, record.data_bytes) == (old.map_root, old.data_bytes)
        assert (storage.reads, writer.stats.new_blocks) == (0, 0)


def test_what_is_taken_over_into_a_changed_block_is_checked_first(repository: Repository, tmp_path: Path):
    content = os.urandom(10 * BLOCK)
    parent = back_up(repository, content)
    for pack in packs_of(tmp_path / "vault"):
        damaged = bytearray(pack.read_bytes())
        at = damaged.find(content[3 * BLOCK : 3 * BLOCK + 64])
        if at >= 0:
            damaged[at] ^= 1
            pack.write_bytes(damaged)

    with (
        pytest.raises(RepositoryDamaged, match="cannot be read"),
        Repository.open(tmp_path / "vault").writer("a test") as writer,
    ):
        write_changes(writer, parent, content, [ChangedRange(3 * BLOCK, SECTOR)])
    assert [point.id for point in repository.points()] == [parent.id]


def test_a_parent_must_be_of_a_point_that_is_leant_on(repository: Repository):
    parent = back_up(repository, mixed_disk(10))
    with repository.writer("a test") as writer:
        with pytest.raises(ValueError, match="leans on"):
            writer.disk("vda", 10 * BLOCK, "raw", parent=parent.manifest.disks[0])
        with pytest.raises(ValueError, match="not in its parent"):
            writer.disk("vda", 10 * BLOCK, "raw").same(0, 1)


def test_a_point_that_was_dropped_cannot_be_leant_on(repository: Repository, tmp_path: Path):
    parent = back_up(repository, mixed_disk(10))
    back_up(repository, mixed_disk(10, 2), moment=later(1))
    with repository.collector("a test") as collector:
        collector.drop([parent])

    with repository.writer("a test") as writer, pytest.raises(NotFound, match="dropped"):
        writer.lean_on(parent)
    assert not list((tmp_path / "vault/pending").iterdir())


def test_blocks_of_a_parent_that_is_dropped_meanwhile_are_kept(repository: Repository, tmp_path: Path):
    # Packs of which little is needed are condemned before the writer begins, while another one keeps them there.
    full = bytearray(os.urandom(160 * BLOCK))
    old = back_up(repository, bytes(full))
    sparse = bytearray(160 * BLOCK)
    for block in range(0, 160, 5):
        sparse[block * BLOCK : (block + 1) * BLOCK] = full[block * BLOCK : (block + 1) * BLOCK]
    parent = back_up(repository, bytes(sparse), moment=later(1))
    back_up(repository, os.urandom(BLOCK), moment=later(2))
    with Repository.open(tmp_path / "vault").writer("a witness"):
        with repository.collector("a test") as collector:
            collector.drop([old])
            assert collector.collect().waiting_packs > 5
        writer = Repository.open(tmp_path / "vault").writer("a test", limits=SMALL)
        writer.__enter__()

    changed = bytes(sparse[: 159 * BLOCK]) + os.urandom(BLOCK)
    record = write_changes(writer, parent, changed, [ChangedRange(159 * BLOCK, BLOCK)])
    with repository.collector("a test") as collector:
        collector.drop([parent])
        collected = collector.collect()
    commit(writer, (record,), later(3))
    writer.__exit__(None, None, None)

    assert collected.deleted_packs > 5
    assert restored(Repository.open(tmp_path / "vault"), record) == changed
    assert not list((tmp_path / "vault/pending").iterdir())
