"""Collection: what is freed, what stays, and what writers and collectors may do to each other at any moment."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.errors import Conflict
from engine.repository import LeaseLost, Point, Repository, RepositoryDamaged, StorageFailed
from engine.repository import lease as lease_module
from engine.repository.condemned import condemn, condemnations, witnesses
from engine.repository.directory_storage import DirectoryStorage
from engine.repository.lease import HeldLease, break_lease
from tests.repository.building import (
    BLOCK,
    DB,
    SMALL,
    back_up,
    commit,
    facts,
    later,
    mixed_disk,
    packs_of,
    restored,
    write_disk,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "vault"


@pytest.fixture
def repository(folder: Path) -> Repository:
    return Repository.create(folder, name="vault", block_bytes=BLOCK)


@pytest.fixture
def storage(folder: Path, repository: Repository) -> DirectoryStorage:
    return DirectoryStorage(folder)


def noise(blocks: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(blocks * BLOCK)


def stored(folder: Path) -> int:
    return sum(pack.stat().st_size for pack in packs_of(folder))


def drop(repository: Repository, *points: Point) -> int:
    with repository.collector("a test", limits=SMALL) as collector:
        return collector.drop(points)


def collect(folder: Path):
    with Repository.open(folder).collector("a test", limits=SMALL) as collector:
        return collector.collect()


def unneeded_packs(repository: Repository, seed: int = 70) -> bytes:
    """Packs that nobody needs: those of a point that was dropped. What was in them."""
    content = noise(50, seed)
    old = back_up(repository, content, moment=later(-200 + seed))
    back_up(repository, noise(3, seed + 1), moment=later(-199 + seed))
    drop(repository, old)
    return content


def remains(folder: Path) -> list[str]:
    below = ("condemned", "witnesses", "pending", "leases")
    return [str(path) for name in below for path in (folder / name).glob("*")]


def test_what_a_dropped_point_alone_needed_is_freed_and_all_others_are_whole(repository: Repository, folder: Path):
    contents = [noise(50, seed) for seed in range(4)]
    points = [back_up(repository, content, moment=later(number)) for number, content in enumerate(contents)]
    before = stored(folder)

    assert drop(repository, points[1], points[2]) == 2
    done = collect(folder)

    assert done.deleted_packs > 0
    assert done.freed_bytes == before - stored(folder)
    assert 0.45 * before < stored(folder) < 0.55 * before
    reopened = Repository.open(folder)
    assert [point.id for point in reopened.points()] == [points[3].id, points[0].id]
    for number in (0, 3):
        assert restored(reopened, points[number].manifest.disks[0]) == contents[number]
    assert (done.waiting_packs, done.waiting_for, done.kept, done.out_of_space) == (0, (), (), False)
    assert remains(folder) == []
    assert reopened.info().stored_bytes == stored(folder)


def test_a_second_collection_finds_nothing_to_do(repository: Repository, folder: Path):
    unneeded_packs(repository)
    collect(folder)
    before = packs_of(folder)
    done = collect(folder)

    assert (done.deleted_packs, done.freed_bytes, done.copied_bytes) == (0, 0, 0)
    assert packs_of(folder) == before


def test_blocks_that_another_point_shares_stay(repository: Repository, folder: Path):
    content = mixed_disk(300)
    first = back_up(repository, content)
    second = back_up(repository, content, moment=later(1), vm=facts(DB, "db"))
    third = back_up(repository, b"other", moment=later(2))
    drop(repository, first)
    collect(folder)

    assert restored(Repository.open(folder), second.manifest.disks[0]) == content
    assert restored(Repository.open(folder), third.manifest.disks[0]) == b"other"


def test_what_is_needed_in_a_wasteful_pack_is_copied_before_the_pack_goes(repository: Repository, folder: Path):
    content = noise(160, 1)
    old = back_up(repository, content)
    # Every fifth block stays: no pack is dead, and all are wasteful.
    kept = b"".join(content[number * BLOCK : (number + 1) * BLOCK] for number in range(0, 160, 5))
    new = back_up(repository, kept, moment=later(1))
    before = stored(folder)
    drop(repository, old)
    done = collect(folder)

    assert done.copied_bytes > 32 * BLOCK
    assert done.freed_bytes == before - stored(folder)
    assert stored(folder) < 0.4 * before
    assert restored(Repository.open(folder), new.manifest.disks[0]) == kept


def test_a_pack_of_which_most_is_needed_is_left_as_it_is(repository: Repository, folder: Path):
    content = noise(160, 1)
    old = back_up(repository, content)
    new = back_up(repository, content[: 150 * BLOCK], moment=later(1))
    drop(repository, old)
    full_packs = [pack for pack in packs_of(folder) if pack.stat().st_size > 16 * BLOCK]
    collect(folder)

    assert len(set(packs_of(folder)) & set(full_packs)) >= 9
    assert restored(Repository.open(folder), new.manifest.disks[0]) == content[: 150 * BLOCK]


def test_a_node_whose_bytes_are_also_data_is_walked_all_the_same(repository: Repository, folder: Path):
    content = noise(50, 1)
    with repository.writer("a test", limits=SMALL) as writer:
        disk = write_disk(writer, "vda", content)
        commit(writer, (disk,), later(0))
    with repository.reader() as reader:
        node = reader.block(bytes.fromhex(disk.map_root), 50 * 32, "the test")
    with repository.writer("a test", limits=SMALL) as writer:
        # The root of the second disk is, as data, the content of the first.
        as_data = write_disk(writer, "vda", node)
        same = write_disk(writer, "vdb", content)
        commit(writer, (as_data, same), later(1))
    drop(repository, repository.points()[1])
    collect(folder)

    assert restored(Repository.open(folder), same) == content


def test_packs_that_a_stopped_backup_left_are_collected(repository: Repository, folder: Path):
    back_up(repository, noise(20, 1))
    before = stored(folder)
    with repository.writer("a test", limits=SMALL) as writer:
        write_disk(writer, "vda", noise(60, 2))
    assert stored(folder) > before
    collect(folder)

    assert stored(folder) == before


def test_a_running_backup_keeps_its_packs_and_is_not_waited_for(repository: Repository, folder: Path):
    content = noise(60, 2)
    with repository.writer("a test", limits=SMALL) as writer:
        disk = write_disk(writer, "vda", content)
        assert packs_of(folder)
        done = collect(folder)
        point = commit(writer, (disk,))

    assert (done.deleted_packs, done.waiting_packs) == (0, 0)
    assert point.manifest.new_bytes < 1.1 * len(content)
    assert restored(Repository.open(folder), disk) == content


def test_a_backup_that_began_before_is_waited_for_and_what_it_leans_on_is_copied(repository: Repository, folder: Path):
    content = unneeded_packs(repository)
    running = Repository.open(folder)
    with running.writer("an early backup", limits=SMALL) as writer:
        disk = write_disk(writer, "vda", content)
        waiting = collect(folder)
        assert writer.stats.new_bytes < 10 * BLOCK
        commit(writer, (disk,), later(500))

    assert waiting.deleted_packs == 0
    assert waiting.waiting_packs > 0
    assert [name.split(" on ")[0] for name in waiting.waiting_for] == ["an early backup"]
    assert restored(Repository.open(folder), disk) == content
    done = collect(folder)
    assert done.copied_bytes > len(content)
    assert done.waiting_packs == 0
    assert restored(Repository.open(folder), disk) == content


def test_a_point_that_is_held_stays_whole_although_it_is_dropped_and_goes_afterwards(
    repository: Repository, folder: Path
):
    content = noise(50, 1)
    old = back_up(repository, content, moment=later(1))
    back_up(repository, noise(3, 2), moment=later(2))

    with Repository.open(folder).hold(old, "a restore") as unheld:
        assert unheld == ""
        drop(repository, old)
        for _ in range(3):
            collect(folder)
        assert restored(Repository.open(folder), old.manifest.disks[0]) == content

    while collect(folder).deleted_packs == 0:
        pass
    with pytest.raises(RepositoryDamaged):
        restored(Repository.open(folder), old.manifest.disks[0])
    assert remains(folder) == []


def test_a_point_of_a_repository_that_takes_nothing_new_is_read_all_the_same(
    repository: Repository, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    point = back_up(repository, noise(5, 1), moment=later(1))

    def refuse(self: DirectoryStorage, key: str, content: object) -> None:
        raise StorageFailed(f"{key} cannot be written: read-only file system.", next_step="remount it")

    monkeypatch.setattr(DirectoryStorage, "create", refuse)
    with Repository.open(folder).hold(point, "a restore") as unheld:
        assert "read-only" in unheld
        assert restored(repository, point.manifest.disks[0]) == noise(5, 1)


def test_a_backup_that_begins_later_leans_on_nothing_condemned_and_holds_nothing_up(
    repository: Repository, folder: Path
):
    content = unneeded_packs(repository)
    before = set(packs_of(folder))
    with repository.writer("an early backup", limits=SMALL):
        assert collect(folder).waiting_packs > 0
        late = Repository.open(folder).writer("a late backup", limits=SMALL)
        late.__enter__()
    disk = write_disk(late, "vda", content)
    done = collect(folder)
    assert done.waiting_packs == 0
    assert before - set(packs_of(folder))
    commit(late, (disk,), later(500))
    late.__exit__(None, None, None)

    assert late.stats.new_bytes > len(content)
    assert restored(Repository.open(folder), disk) == content


def test_a_repository_kept_open_for_months_does_not_lean_on_what_it_once_saw(repository: Repository, folder: Path):
    content = noise(50, 3)
    old = back_up(repository, content)
    back_up(repository, content, moment=later(1))  # looks at the packs, and remembers them
    new = back_up(repository, b"new", moment=later(2))
    elsewhere = Repository.open(folder)
    drop(elsewhere, *[point for point in elsewhere.points() if point.id != new.id])
    collect(folder)
    assert old.id not in {point.id for point in elsewhere.points()}

    again = back_up(repository, content, moment=later(3))

    assert restored(Repository.open(folder), again.manifest.disks[0]) == content


def silent(folder: Path) -> None:
    """Collect once, so that all leases are known, and let them be of long ago."""
    collect(folder)
    for lease in folder.glob("leases/*"):
        os.utime(lease, (0, 0))


def test_a_backup_that_was_silent_since_an_earlier_run_loses_its_lease_and_does_not_commit(
    repository: Repository, folder: Path, storage: DirectoryStorage, monkeypatch: pytest.MonkeyPatch
):
    content = unneeded_packs(repository)
    before = len(repository.points())
    with (
        pytest.raises(LeaseLost, match="removed it"),
        Repository.open(folder).writer("asleep", limits=SMALL) as writer,
    ):
        disk = write_disk(writer, "vda", content)
        silent(folder)
        assert collect(folder).waiting_packs == 0
        commit(writer, (disk,), later(500))

    assert len(Repository.open(folder).points()) == before


def test_a_clock_that_jumps_takes_no_lease_from_a_backup_that_renews(
    repository: Repository, folder: Path, storage: DirectoryStorage, monkeypatch: pytest.MonkeyPatch
):
    content = unneeded_packs(repository)
    with Repository.open(folder).writer("awake", limits=SMALL) as writer:
        disk = write_disk(writer, "vda", content)
        silent(folder)
        writer._lease.renew()  # pyright: ignore[reportPrivateUsage]
        assert collect(folder).waiting_packs > 0
        commit(writer, (disk,), later(500))

    assert restored(Repository.open(folder), disk) == content


def test_a_backup_that_sleeps_between_its_last_look_at_its_lease_and_its_commit_loses_nothing(
    repository: Repository, folder: Path, storage: DirectoryStorage, monkeypatch: pytest.MonkeyPatch
):
    content = unneeded_packs(repository)
    check = HeldLease.check

    def check_and_sleep(self: HeldLease) -> None:
        check(self)
        if self.lease.kind == "writer":
            done = collect(folder)
            # It lost its lease, and all it leans on was copied: the packs are gone.
            assert done.waiting_packs == 0
            assert done.copied_bytes > len(content)

    with Repository.open(folder).writer("asleep", limits=SMALL) as writer:
        disk = write_disk(writer, "vda", content)
        silent(folder)
        monkeypatch.setattr(HeldLease, "check", check_and_sleep)
        commit(writer, (disk,), later(500))

    assert restored(Repository.open(folder), disk) == content
    monkeypatch.undo()
    collect(folder)
    assert restored(Repository.open(folder), disk) == content
    assert remains(folder) == []


def interleaved(name: str, act: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let something happen right before the next delete of an object whose key begins so."""
    delete = DirectoryStorage.delete

    def at_once(self: DirectoryStorage, key: str) -> None:
        if key.startswith(name):
            monkeypatch.setattr(DirectoryStorage, "delete", delete)
            act()
        delete(self, key)

    monkeypatch.setattr(DirectoryStorage, "delete", at_once)


def test_a_backup_of_the_same_content_beside_the_very_delete_stores_it_anew(
    repository: Repository, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    content = unneeded_packs(repository)
    made: list[Point] = []
    interleaved(
        "packs/", lambda: made.append(back_up(Repository.open(folder), content, moment=later(500))), monkeypatch
    )
    collect(folder)

    assert restored(Repository.open(folder), made[0].manifest.disks[0]) == content


def test_a_collector_that_sleeps_before_a_delete_and_wakes_after_another_is_done_harms_nothing(
    repository: Repository, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    content = unneeded_packs(repository)
    made: list[Point] = []

    def another() -> None:
        for found in list(DirectoryStorage(folder).list("leases/")):
            break_lease(DirectoryStorage(folder), found.key.partition("/")[2].partition("-")[0])
        collect(folder)
        made.append(back_up(Repository.open(folder), content, moment=later(500)))

    interleaved("packs/", another, monkeypatch)
    with pytest.raises(LeaseLost, match="collector"):
        collect(folder)

    assert restored(Repository.open(folder), made[0].manifest.disks[0]) == content
    collect(folder)
    assert restored(Repository.open(folder), made[0].manifest.disks[0]) == content


def test_a_collector_looks_at_its_lease_before_each_delete(
    repository: Repository, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    unneeded_packs(repository)
    done: list[str] = []
    check, delete = HeldLease.check, DirectoryStorage.delete

    def checked(self: HeldLease) -> None:
        done.append("check")
        check(self)

    def deleted(self: DirectoryStorage, key: str) -> None:
        done.append(key.partition("/")[0])
        delete(self, key)

    monkeypatch.setattr(HeldLease, "check", checked)
    monkeypatch.setattr(DirectoryStorage, "delete", deleted)
    collected = collect(folder)

    deletes = [number for number, what in enumerate(done) if what == "packs"]
    assert len(deletes) == collected.deleted_packs > 2
    assert all(done[number - 1] == "check" for number in deletes)


def test_two_collectors_do_not_run_at_once(repository: Repository, folder: Path):
    with (
        repository.collector("the first", limits=SMALL),
        pytest.raises(Conflict, match="the first on"),
        Repository.open(folder).collector("the second", limits=SMALL),
    ):
        pass

    with repository.collector("the third", limits=SMALL):
        pass


def test_a_collector_that_was_killed_is_passed(
    repository: Repository, storage: DirectoryStorage, monkeypatch: pytest.MonkeyPatch
):
    held = HeldLease(storage, "collector", "killed", 900)
    monkeypatch.setattr(lease_module.Lease, "dead", lambda self: self.id == held.id)

    with repository.collector("the next", limits=SMALL):
        assert held.lease.anchor not in [entry.key for entry in storage.list("leases/")]


def test_the_newest_point_of_a_vm_is_not_dropped_whoever_asks(repository: Repository):
    point = back_up(repository, b"only")

    with pytest.raises(Conflict, match="newest usable"):
        drop(repository, point)
    assert len(repository.points()) == 1


def test_a_damaged_newer_point_does_not_count_as_the_newest(repository: Repository, folder: Path):
    point = back_up(repository, b"sound")
    back_up(repository, b"newer", moment=later(1))
    newer = sorted(folder.glob("points/*/*"))[-1]
    newer.write_bytes(newer.read_bytes()[:-1])

    with pytest.raises(Conflict, match="newest usable"):
        drop(Repository.open(folder), point)


def test_nothing_is_collected_while_a_point_cannot_be_read(repository: Repository, folder: Path):
    unneeded_packs(repository)
    manifest = sorted(folder.glob("points/*/*"))[0]
    manifest.write_bytes(manifest.read_bytes()[:-1])
    before = packs_of(folder)

    with pytest.raises(RepositoryDamaged, match=manifest.name):
        collect(folder)
    assert packs_of(folder) == before


def test_nothing_is_collected_while_a_map_cannot_be_read(repository: Repository, folder: Path):
    unneeded_packs(repository)
    newest = repository.points()[0].manifest.disks[0]
    place = repository._index.find(bytes.fromhex(newest.map_root))[0]  # pyright: ignore[reportPrivateUsage]
    pack = folder / "packs" / place.pack.hex()[:2] / place.pack.hex()
    content = bytearray(pack.read_bytes())
    content[place.offset + 60] ^= 1
    pack.write_bytes(content)
    before = packs_of(folder)

    with pytest.raises(RepositoryDamaged, match="cannot be read"):
        collect(folder)
    assert packs_of(folder) == before


def test_a_wasteful_pack_with_a_damaged_block_that_is_needed_is_left(repository: Repository, folder: Path):
    content = noise(48, 1)
    old = back_up(repository, content)
    back_up(repository, content[:BLOCK], moment=later(1))
    name = repository.points()[0].manifest.disks[0]
    with repository.reader() as reader:
        block = reader.block(bytes.fromhex(name.map_root), 32, "the test")
    place = repository._index.find(block)[0]  # pyright: ignore[reportPrivateUsage]
    pack = folder / "packs" / place.pack.hex()[:2] / place.pack.hex()
    damaged = bytearray(pack.read_bytes())
    damaged[place.offset + 60] ^= 1
    pack.write_bytes(damaged)
    drop(repository, old)
    done = collect(folder)

    assert pack.exists()
    assert [kept.key for kept in done.kept] == [f"packs/{pack.parent.name}/{pack.name}"]
    assert done.deleted_packs > 0


def test_a_pack_that_no_index_tells_of_and_that_is_damaged_is_left_for_a_repair(repository: Repository, folder: Path):
    unneeded_packs(repository)
    for index in folder.glob("index/*"):
        index.unlink()
    damaged = packs_of(folder)[0]
    damaged.write_bytes(damaged.read_bytes()[:-1])
    collect(folder)

    assert damaged.exists()


def test_a_damaged_condemnation_stops_a_collection_and_no_backup(
    repository: Repository, folder: Path, storage: DirectoryStorage
):
    content = unneeded_packs(repository)
    condemn(storage, [bytes.fromhex(packs_of(folder)[0].name)])
    file = next(folder.glob("condemned/*"))
    file.write_bytes(file.read_bytes()[:-1])

    with pytest.raises(RepositoryDamaged, match="condemned/"):
        collect(folder)
    point = back_up(Repository.open(folder), content, moment=later(500))
    assert point.manifest.new_bytes > len(content)
    assert restored(Repository.open(folder), point.manifest.disks[0]) == content


def test_a_condemnation_whose_witnesses_were_never_written_waits_for_all_that_are_there(
    repository: Repository, folder: Path, storage: DirectoryStorage
):
    unneeded_packs(repository)
    # A collector condemned, and was killed.
    condemn(storage, [bytes.fromhex(pack.name) for pack in packs_of(folder)])
    with repository.writer("a backup", limits=SMALL) as writer:
        assert collect(folder).waiting_packs > 0
        assert writer._lease.id in witnesses(storage, condemnations(storage)[0])  # pyright: ignore[reportPrivateUsage]
    done = collect(folder)

    assert done.waiting_packs == 0
    reopened = Repository.open(folder)
    for point in reopened.points():
        restored(reopened, point.manifest.disks[0])


def test_two_writers_and_a_collection_beside_each_other_for_a_while(repository: Repository, folder: Path):
    import threading

    failures: list[BaseException] = []
    pieces = [noise(6, seed) for seed in range(12)]
    enough = threading.Event()

    def write(vm: int) -> None:
        chance = random.Random(vm)
        number = 0
        try:
            while not enough.is_set():
                number += 1
                content = b"".join(chance.sample(pieces, 4))
                vm_facts = facts(f"{vm}" * 8 + DB[8:], f"vm{vm}")
                point = back_up(Repository.open(folder), content, moment=later(number), vm=vm_facts)
                assert restored(Repository.open(folder), point.manifest.disks[0]) == content
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(vm,)) for vm in (3, 4)]
    for thread in threads:
        thread.start()
    deleted = runs = 0
    gives_up = time.monotonic() + 120
    while (runs < 20 or not deleted) and not failures and time.monotonic() < gives_up:
        opened = Repository.open(folder)
        newest: set[str] = set()
        old: list[Point] = []
        for point in opened.points():
            (old.append(point) if point.manifest.vm.uuid in newest else newest.add(point.manifest.vm.uuid))
        with opened.collector("a test", limits=SMALL) as collector:
            collector.drop(old[1:])
            deleted += collector.collect().deleted_packs
            runs += 1
    enough.set()
    for thread in threads:
        thread.join()
    collect(folder)

    assert failures == []
    reopened = Repository.open(folder)
    for point in reopened.points():
        restored(reopened, point.manifest.disks[0])
    assert deleted > 0
    print(f"{runs} collections deleted {deleted} packs beside two writers; all points whole")


def test_the_forecast_is_what_is_freed(repository: Repository, folder: Path):
    contents = [noise(50, seed) for seed in range(3)]
    points = [back_up(repository, content, moment=later(number)) for number, content in enumerate(contents)]
    told = repository.forecast([points[0]])
    nothing = repository.forecast([])

    assert (nothing.frees_bytes, nothing.frees_anyway_bytes) == (0, 0)
    assert told.frees_anyway_bytes == 0
    assert told.unneeded_bytes >= told.frees_bytes
    drop(repository, points[0])
    assert repository.forecast([]).frees_anyway_bytes == told.frees_bytes
    done = collect(folder)
    # Tables and trailers of packs that are copied into are not counted before.
    assert told.frees_bytes == pytest.approx(done.freed_bytes, rel=0.02)


def test_a_forecast_changes_nothing(repository: Repository, folder: Path):
    point = back_up(repository, noise(50, 1))
    back_up(repository, noise(5, 2), moment=later(1))
    before = sorted(path for path in folder.rglob("*") if path.is_file())
    repository.forecast([point])

    assert sorted(path for path in folder.rglob("*") if path.is_file()) == before


def test_a_lease_is_recorded_with_its_sequence(repository: Repository, storage: DirectoryStorage, folder: Path):
    held = HeldLease(storage, "writer", "a test", 60)
    held.renew()
    condemnation = condemn(storage, [bytes(32)])

    assert witnesses(storage, condemnation) == {held.id: 1}
    held.renew()
    assert witnesses(storage, condemnation) == {held.id: 1}
    held.release()


def test_with_credentials_that_cannot_delete_backups_work_and_the_collector_clears_up(
    repository: Repository, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    from engine.repository import StorageFailed

    def refused(self: DirectoryStorage, key: str) -> None:
        raise StorageFailed(f"may not delete {key}", next_step="x")

    content = noise(50, 1)
    monkeypatch.setattr(DirectoryStorage, "delete", refused)
    first = back_up(repository, content)
    second = back_up(Repository.open(folder), content[: 40 * BLOCK], moment=later(1))
    repository.pin(second, why="release", by="ana")
    with pytest.raises(StorageFailed), repository.collector("a test", limits=SMALL) as collector:
        collector.drop([first])
    monkeypatch.undo()

    assert len(Repository.open(folder).points()) == 2
    for name in ("leases", "pending"):
        assert len(list((folder / name).glob("*"))) >= 2
    leases_of_this_process = [path.name.partition("-")[0] for path in (folder / "leases").glob("*")]
    for lease_id in leases_of_this_process:
        break_lease(DirectoryStorage(folder), lease_id)
    collect(folder)
    assert remains(folder) == []
    assert restored(Repository.open(folder), first.manifest.disks[0]) == content
