"""What writers and collectors may do to each other at any moment: no point is hurt, and nobody waits without need."""

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
from engine.repository.condemned import condemn, witnesses
from engine.repository.directory_storage import DirectoryStorage
from engine.repository.lease import HeldLease, break_lease
from tests.repository.building import BLOCK, DB, SMALL, back_up, commit, facts, later, packs_of, restored, write_disk
from tests.repository.collecting import collect, drop, noise, remains, unneeded_packs


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


def test_a_lease_is_recorded_with_its_sequence(repository: Repository, storage: DirectoryStorage, folder: Path):
    held = HeldLease(storage, "writer", "a test", 60)
    held.renew()
    condemnation = condemn(storage, [bytes(32)])

    assert witnesses(storage, condemnation) == {held.id: 1}
    held.renew()
    assert witnesses(storage, condemnation) == {held.id: 1}
    held.release()
