"""A writer: what it stores once, how it stops, and that nothing is listed before it is whole."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from engine.errors import NoSpace
from engine.repository import LeaseLost, Repository, WriterLimits
from engine.repository.directory_storage import DirectoryStorage, NewFile
from tests.repository.building import BLOCK, DB, SMALL, back_up, commit, facts, later, mixed_disk, restored, write_disk


def objects(folder: Path, below: str) -> list[Path]:
    return [path for path in (folder / below).rglob("*") if path.is_file()]


def test_a_block_is_stored_once_however_often_it_comes(repository: Repository):
    content = os.urandom(BLOCK) * 500

    with repository.writer("a test", limits=SMALL) as writer:
        record = write_disk(writer, "vda", content)
        other = write_disk(writer, "vdb", content)
        commit(writer, (record, other))
        stats = writer.stats

    assert record.map_root == other.map_root
    # One data block, two leaves (the last is short), their root, and the definition with its map.
    assert stats.new_blocks == 6
    assert stats.read_bytes == 1000 * BLOCK + len(b"<domain/>")
    assert stats.new_bytes < 8 * BLOCK + 2 * 8192


def test_an_unchanged_disk_costs_nothing_the_second_time(repository: Repository, folder: Path):
    content = mixed_disk()
    first = back_up(repository, content)
    before = objects(folder, "packs")
    second = back_up(Repository.open(folder), content, moment=later(60))

    assert second.manifest.disks == first.manifest.disks
    assert second.manifest.new_bytes == 0
    assert objects(folder, "packs") == before
    assert len(repository.points()) == 2


def test_disks_of_different_vms_share_blocks(repository: Repository):
    content = mixed_disk()
    back_up(repository, content)
    other = back_up(repository, content, vm=facts(DB, "db"))

    assert other.manifest.new_bytes == 0
    assert repository.info().vms == 2


def test_zero_blocks_are_not_stored(repository: Repository, folder: Path):
    with repository.writer("a test") as writer:
        record = write_disk(writer, "vda", bytes(1000 * BLOCK + 17))

        assert writer.stats.zero_blocks == 1001
        assert (record.map_root, record.data_bytes) == ("", 0)


def test_the_figures_of_a_point_are_those_of_its_writer(repository: Repository, folder: Path):
    content = mixed_disk()
    point = back_up(repository, content)
    stored = sum(path.stat().st_size for path in objects(folder, "packs"))

    assert point.manifest.read_bytes == len(content) + len(b"<domain/>")
    assert 0.9 * stored < point.manifest.new_bytes < stored
    assert point.size_bytes == point.manifest.disks[0].data_bytes
    info = repository.info()
    assert (info.packs, info.stored_bytes) == (len(objects(folder, "packs")), stored)


def test_a_writer_left_without_a_commit_lists_nothing_and_holds_no_lease(repository: Repository, folder: Path):
    with repository.writer("a test", limits=SMALL) as writer:
        write_disk(writer, "vda", mixed_disk())

    assert repository.points() == ()
    assert objects(folder, "leases") == []
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []


def test_an_exception_lists_nothing_and_what_was_stored_spares_the_next_writer(repository: Repository, folder: Path):
    content = mixed_disk()
    with pytest.raises(KeyboardInterrupt), repository.writer("a test", limits=SMALL) as writer:
        write_disk(writer, "vda", content)
        raise KeyboardInterrupt

    assert repository.points() == ()
    point = back_up(Repository.open(folder), content)
    assert point.manifest.new_bytes < 25 * BLOCK
    assert restored(repository, point.manifest.disks[0]) == content


def test_a_writer_commits_once(repository: Repository):
    with repository.writer("a test") as writer:
        record = write_disk(writer, "vda", b"x" * 100)
        commit(writer, (record,))
        with pytest.raises(RuntimeError, match="once"):
            writer.commit(
                vm=facts(), moment=later(0), method="hot", consistency="crash", consistency_note="", disks=(record,),
                files=(), writer="",
            )  # fmt: skip

    assert len(repository.points()) == 1


def test_a_disk_with_a_gap_gets_no_record(repository: Repository):
    with repository.writer("a test") as writer:
        disk = writer.disk("vda", 10 * BLOCK, "raw")
        disk.zero(0, 9)

        with pytest.raises(ValueError, match="gaps"):
            disk.finish("full")


def test_a_block_of_the_wrong_length_is_refused_and_its_buffer_given_back(repository: Repository):
    with repository.writer("a test", limits=WriterLimits(held_buffers=1)) as writer:
        disk = writer.disk("vda", 10 * BLOCK + 5, "raw")
        for block, length in ((0, BLOCK - 1), (10, BLOCK), (11, 1), (10, 4)) * 10:
            with pytest.raises(ValueError, match="bytes, not"):
                disk.submit(block, disk.buffer(), length)


def test_buffers_given_back_unused_can_be_taken_again(repository: Repository):
    with repository.writer("a test", limits=WriterLimits(held_buffers=2)) as writer:
        disk = writer.disk("vda", BLOCK, "raw")
        for _ in range(100):
            disk.release(disk.buffer())


def test_a_failure_in_a_worker_reaches_the_producer_and_lists_nothing(
    repository: Repository, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(NoSpace, match="no space left") as caught, repository.writer("a test", limits=SMALL) as writer:
        disk = writer.disk("vda", 100_000 * BLOCK, "raw")
        monkeypatch.setattr(os, "writev", full)
        for number in range(100_000):
            buffer = disk.buffer()
            buffer[:] = number.to_bytes(4, "big") * (BLOCK // 4)
            disk.submit(number, buffer, BLOCK)
    monkeypatch.undo()

    assert "not listed" in caught.value.untouched
    assert repository.points() == ()
    assert list(folder.rglob(".new-*")) == []


def test_a_failure_of_the_last_block_is_raised_by_finish(repository: Repository, monkeypatch: pytest.MonkeyPatch):
    def broken(*_: object) -> None:
        raise OSError(5, "Input/output error")

    with repository.writer("a test") as writer:
        disk = writer.disk("vda", BLOCK, "raw")
        monkeypatch.setattr(os, "writev", broken)
        buffer = disk.buffer()
        buffer[:] = b"x" * BLOCK
        try:
            disk.submit(0, buffer, BLOCK)
        finally:
            with pytest.raises(Exception, match="Input/output error"):
                disk.finish("full")
        monkeypatch.undo()


def test_a_failing_sync_stops_the_commit(repository: Repository, monkeypatch: pytest.MonkeyPatch):
    fsync = os.fsync

    def broken(file: int) -> None:
        if ".new-" in os.readlink(f"/proc/self/fd/{file}") and os.fstat(file).st_size > 10 * BLOCK:
            raise OSError(5, "Input/output error")
        fsync(file)

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(Exception, match="Input/output error"):
        back_up(repository, mixed_disk())
    monkeypatch.undo()

    assert repository.points() == ()


def test_a_slow_disk_slows_the_producer_instead_of_filling_memory(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
):
    gate = threading.Event()
    finish = NewFile.finish

    def slow(self: NewFile, key: str) -> None:
        if key.startswith("packs/"):
            gate.wait(120)
        finish(self, key)

    monkeypatch.setattr(NewFile, "finish", slow)
    given = 0
    with repository.writer("a test", limits=SMALL) as writer:
        disk = writer.disk("vda", 2000 * BLOCK, "raw")

        def produce() -> None:
            nonlocal given
            for number in range(2000):
                buffer = disk.buffer()
                buffer[:] = os.urandom(BLOCK)
                disk.submit(number, buffer, BLOCK)
                given += 1

        producer = threading.Thread(target=produce)
        producer.start()
        while True:
            before = given
            time.sleep(0.3)
            if given == before:
                break
        # Three packs of 16 blocks (open, waiting, being synced) and the buffers of the pool, no more.
        assert given < 150
        gate.set()
        producer.join()
        commit(writer, (disk.finish("full"),))


def test_a_writer_whose_lease_was_broken_does_not_commit(repository: Repository, folder: Path):
    with pytest.raises(LeaseLost, match="removed it"), repository.writer("a test", limits=SMALL) as writer:
        record = write_disk(writer, "vda", mixed_disk())
        for lease in objects(folder, "leases"):
            lease.unlink()
        commit(writer, (record,))

    assert repository.points() == ()


def test_a_writer_that_slept_past_its_lease_does_not_commit(repository: Repository, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(LeaseLost, match="ran out"), repository.writer("a test", limits=SMALL) as writer:
        record = write_disk(writer, "vda", mixed_disk())
        clock = time.clock_gettime(time.CLOCK_BOOTTIME)
        monkeypatch.setattr(time, "clock_gettime", lambda _: clock + 3600)
        commit(writer, (record,))

    assert repository.points() == ()


def test_a_failing_merge_of_indexes_does_not_take_the_point_away(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
):
    for number in range(15):
        back_up(repository, mixed_disk(10, number), moment=later(number))
    open_new = DirectoryStorage.open_new
    merging = False

    def broken(self: DirectoryStorage) -> NewFile:
        if merging:
            raise NoSpace("full", next_step="x")
        return open_new(self)

    monkeypatch.setattr(DirectoryStorage, "open_new", broken)
    create = DirectoryStorage.create

    def created(self: DirectoryStorage, key: str, content: bytes) -> None:
        nonlocal merging
        create(self, key, content)
        merging = key.startswith("points/")

    monkeypatch.setattr(DirectoryStorage, "create", created)
    content = mixed_disk(60, 99)
    point = back_up(repository, content, moment=later(99))

    assert merging
    assert restored(repository, point.manifest.disks[0]) == content


def test_two_writers_at_once_both_commit(repository: Repository, folder: Path):
    contents = [mixed_disk(300, seed) + mixed_disk(300, 7) for seed in (1, 2)]
    failures: list[BaseException] = []

    def back_up_one(number: int) -> None:
        try:
            back_up(Repository.open(folder), contents[number], vm=facts((DB, "3" + DB[1:])[number]))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=back_up_one, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    points = {point.manifest.vm.uuid: point for point in repository.points()}
    assert restored(repository, points[DB].manifest.disks[0]) == contents[0]
    assert restored(repository, points["3" + DB[1:]].manifest.disks[0]) == contents[1]


def test_several_producers_may_feed_disks_of_one_point(repository: Repository):
    contents = [mixed_disk(200, seed) for seed in range(4)]
    records: dict[int, object] = {}
    with repository.writer("a test", limits=SMALL) as writer:

        def feed(number: int) -> None:
            records[number] = write_disk(writer, f"vd{number}", contents[number])

        threads = [threading.Thread(target=feed, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        point = commit(writer, tuple(records[number] for number in range(4)))  # type: ignore[misc]

    for record, content in zip(point.manifest.disks, contents, strict=True):
        assert restored(repository, record) == content
