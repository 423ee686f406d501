"""Collection: what is freed, what stays, and what damage makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.errors import Conflict
from engine.repository import Repository, RepositoryDamaged, StorageFailed
from engine.repository.condemned import condemn, condemnations, witnesses
from engine.repository.directory_storage import DirectoryStorage
from engine.repository.lease import break_lease
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
from tests.repository.collecting import collect, drop, noise, remains, stored, unneeded_packs


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


def test_with_credentials_that_cannot_delete_backups_work_and_the_collector_clears_up(
    repository: Repository, folder: Path, monkeypatch: pytest.MonkeyPatch
):

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
