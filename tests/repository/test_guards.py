"""Pins and protections: points that are not dropped, whoever asks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from engine.errors import Conflict, NotFound
from engine.repository import GuardKind, Point, Repository
from tests.repository.building import SMALL, back_up, later

NOW = datetime.now(UTC)


@pytest.fixture
def old(repository: Repository) -> Point:
    point = back_up(repository, b"old")
    back_up(repository, b"new", moment=later(1))
    return point


def drop(repository: Repository, point: Point) -> int:
    with repository.collector("a test", limits=SMALL) as collector:
        return collector.drop([point])


def test_a_pinned_point_is_not_dropped_until_its_pin_is_taken_away(repository: Repository, old: Point, folder: Path):
    guard = repository.pin(old, why="before the upgrade", by="ana")

    assert (guard.kind, guard.until) == (GuardKind.PIN, None)
    assert repository.guarded() == {old.id: ("pinned by ana: before the upgrade",)}
    with pytest.raises(Conflict, match="pinned by ana: before the upgrade"):
        drop(repository, old)
    assert repository.unpin(old) == 1
    assert drop(repository, old) == 1
    assert list(folder.glob("guards/*/*")) == []


def test_a_point_that_is_not_pinned_cannot_be_unpinned(repository: Repository, old: Point):
    with pytest.raises(Conflict, match="not pinned"):
        repository.unpin(old)


def test_a_protected_point_is_not_dropped_before_its_time_whoever_asks(repository: Repository, old: Point):
    repository.protect(old, until=NOW + timedelta(days=30), why="audit", by="bo")

    with pytest.raises(Conflict, match=r"protected until .*: audit"):
        drop(repository, old)
    with pytest.raises(Conflict, match="not pinned"):
        repository.unpin(old)
    assert len(repository.points()) == 2


def test_a_protection_ends_at_its_time_and_goes_with_its_point(repository: Repository, old: Point, folder: Path):
    repository.protect(old, until=NOW - timedelta(seconds=1), why="audit", by="bo")

    assert repository.guarded() == {}
    assert drop(repository, old) == 1
    assert list(folder.glob("guards/*/*")) == []


def test_a_later_protection_can_only_add(repository: Repository, old: Point):
    repository.protect(old, until=NOW + timedelta(days=30), why="audit", by="bo")
    repository.protect(old, until=NOW - timedelta(days=1), why="shorter", by="eve")

    assert [reason.rpartition(": ")[2] for reason in repository.guarded()[old.id]] == ["audit"]


def test_a_damaged_guard_guards(repository: Repository, old: Point, folder: Path):
    repository.pin(old, why="x", by="ana")
    file = next(folder.glob("guards/*/*"))
    file.write_bytes(file.read_bytes()[:-1])

    with pytest.raises(Conflict, match="cannot be read"):
        drop(repository, old)


def test_a_guard_that_was_put_to_another_point_guards_that_one_too(repository: Repository, old: Point, folder: Path):
    newer = repository.points()[0]
    back_up(repository, b"newest", moment=later(2))
    repository.pin(old, why="x", by="ana")
    file = next(folder.glob("guards/*/*"))
    file.rename(file.with_name(f"{newer.id}-00000000"))

    assert "cannot be read" in repository.guarded()[newer.id][0]


def test_a_point_that_was_dropped_meanwhile_cannot_be_pinned(repository: Repository, old: Point):
    drop(repository, old)

    with pytest.raises(NotFound, match="dropped meanwhile"):
        repository.pin(old, why="x", by="ana")


def test_guards_of_one_point_do_not_keep_another(repository: Repository, old: Point):
    second = back_up(repository, b"newest", moment=later(2))
    repository.pin(second, why="x", by="ana")

    assert drop(repository, old) == 1
