"""What comes along with a copy, and what goes when its point has gone: guards always, deletions only when asked for."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from engine.errors import Conflict
from engine.repository import Repository, SyncRequest
from engine.repository.manifest import point_key
from tests.repository.building import BLOCK, DB, WEB, back_up, facts, later
from tests.repository.syncing import held, soon, sync

DELETE = SyncRequest(delete=True)


@pytest.fixture
def source(tmp_path: Path) -> Repository:
    """Three points of web, one of db."""
    repository = Repository.create(tmp_path / "here", name="here", block_bytes=BLOCK)
    for number in range(3):
        back_up(repository, b"content %d" % number * 1000, moment=later(number))
    back_up(repository, b"rows" * 1000, moment=later(9), vm=facts(DB, "db"))
    return repository


@pytest.fixture
def target(tmp_path: Path) -> Repository:
    return Repository.create(tmp_path / "there", name="there", block_bytes=16384)


def drop(folder: Path, repository: Repository, *minutes: int, vm: str = WEB) -> None:
    for point in repository.points(vm):
        if point.manifest.moment in {later(each) for each in minutes}:
            (folder / point_key(point)).unlink()


def moments(repository: Repository, vm: str = WEB) -> list[int]:
    return [int((point.manifest.moment - later(0)) / timedelta(minutes=1)) for point in repository.points(vm)]


def test_a_protected_point_stays_protected(source: Repository, target: Repository):
    point = source.points(WEB)[1]
    until = soon(24)
    source.protect(point, until=until, why="audit", by="bo")
    source.pin(point, why="before the upgrade", by="ana")

    done = sync(source, target)

    assert sum(copied.guards for copied in done.copied) == 2
    (copy,) = (each for each in target.points() if each.original_id == point.id)
    reasons = target.guarded()[copy.id]
    assert [reason.split(" until")[0] for reason in reasons] == ["pinned by ana: before the upgrade", "protected"]
    with (
        target.collector("a test") as collector,
        pytest.raises(Conflict, match="protected until"),
    ):
        collector.drop([copy])


def test_a_guard_that_came_later_comes_along_and_comes_once(source: Repository, target: Repository):
    sync(source, target)
    source.pin(source.points(WEB)[0], why="kept", by="ana")

    assert [sync(source, target).guards for _ in range(3)] == [1, 0, 0]
    assert len(target.guards(WEB)) == 1


def test_a_protection_that_has_ended_does_not_come_along(source: Repository, target: Repository):
    source.protect(source.points(WEB)[0], until=soon(-1), why="over", by="bo")

    sync(source, target)

    assert target.guards(WEB) == []


def test_a_guard_that_cannot_be_read_guards_the_copy_too(source: Repository, target: Repository, tmp_path: Path):
    source.pin(source.points(WEB)[0], why="kept", by="ana")
    (guard,) = (path for path in (tmp_path / "here/guards").rglob("*") if path.is_file())
    guard.write_bytes(b"nothing")

    sync(source, target)

    ((reason,),) = target.guarded().values()
    assert "cannot be read" in reason


def test_what_the_source_lets_go_the_target_keeps(source: Repository, target: Repository, tmp_path: Path):
    sync(source, target)
    expected = held(target)
    drop(tmp_path / "here", source, 0, 1, 2)

    sync(source, target)

    assert held(target) == expected


def test_deletions_follow_when_they_are_asked_for(source: Repository, target: Repository, tmp_path: Path):
    sync(source, target)
    drop(tmp_path / "here", source, 0, 1)

    plan = source.sync_to(target, DELETE, "a test").plan()
    done = sync(source, target, DELETE)

    assert {point.manifest.moment for point in plan.drops} == {later(0), later(1)}
    assert len(done.dropped) == 2
    assert moments(target) == [2]
    assert moments(target, DB) == [9]


def test_the_newest_copy_of_a_vm_and_guarded_ones_stay(source: Repository, target: Repository, tmp_path: Path):
    sync(source, target)
    target.pin(target.points(WEB)[2], why="kept there", by="ana")
    drop(tmp_path / "here", source, 0, 1, 2)

    sync(source, target, DELETE)

    assert moments(target) == [2, 0]


def test_what_the_target_has_from_elsewhere_stays(source: Repository, target: Repository, tmp_path: Path):
    other = Repository.create(tmp_path / "other", block_bytes=BLOCK)
    back_up(other, b"other" * 100, moment=later(50))
    sync(source, target)
    sync(other, target)
    back_up(target, b"its own" * 100, moment=later(60))
    back_up(target, b"its own, again" * 100, moment=later(70))

    assert sync(source, target, DELETE).dropped == ()
    assert moments(target) == [70, 60, 50, 2, 1, 0]


def test_a_damaged_manifest_is_no_reason_to_drop_its_copy(source: Repository, target: Repository, tmp_path: Path):
    sync(source, target)
    (tmp_path / "here" / point_key(source.points(WEB)[2])).write_bytes(b"damaged")

    assert sync(Repository.open(tmp_path / "here"), target, DELETE).dropped == ()


def test_a_source_that_holds_nothing_at_all_empties_nothing(source: Repository, target: Repository, tmp_path: Path):
    sync(source, target)
    drop(tmp_path / "here", source, 0, 1, 2)
    drop(tmp_path / "here", source, 9, vm=DB)

    with pytest.raises(Conflict, match="holds no recovery point at all"):
        sync(source, target, DELETE)
    assert len(target.points()) == 4
