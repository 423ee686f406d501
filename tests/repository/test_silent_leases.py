"""Leases of holders that nobody hears of any more, and clocks that are years off."""

from __future__ import annotations

import os
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from msgspec import json
from msgspec.structs import replace

from engine.errors import Conflict
from engine.repository import Collected, Repository
from engine.repository.directory_storage import DirectoryStorage
from engine.repository.frame import FrameCodec, FrameKind, encode_frame
from engine.repository.lease import HeldLease, Lease
from tests.repository.building import BLOCK, SMALL, back_up, later, packs_of, write_disk

YEARS = timedelta(days=3650)


def collect(folder: Path) -> Collected:
    with Repository.open(folder).collector("a test", limits=SMALL) as collector:
        return collector.collect()


def left_elsewhere(folder: Path, lease: Lease, *, kind: str = "writer", off: timedelta = timedelta()) -> Path:
    """What a holder on another machine leaves that was switched off, and whose clock was wrong."""
    storage = DirectoryStorage(folder)
    found = replace(
        lease, boot_id="another", kind=kind, sequence=0, created=lease.created + off, expires=lease.expires + off
    )
    content = encode_frame(found.key, FrameKind.LEASE, json.encode(found), codec=FrameCodec.STORED)
    storage.delete(found.key)
    storage.create(found.key, content)
    return folder / found.key


def long_ago(lease: Path) -> None:
    """By the clock of the storage."""
    os.utime(lease, (0, 0))


def begun_and_never_committed(repository: Repository, folder: Path, off: timedelta) -> Path:
    """Packs of a writer on another machine that died; its lease."""
    back_up(repository, b"needed", moment=later(0))
    with repository.writer("on another machine", limits=SMALL) as writer:
        write_disk(writer, "vda", random.Random(1).randbytes(40 * BLOCK))
        lease = writer._lease.lease  # pyright: ignore[reportPrivateUsage]
    return left_elsewhere(folder, lease, off=off)


@pytest.mark.parametrize("off", [timedelta(), YEARS, -YEARS], ids=["right", "ahead", "behind"])
def test_what_a_writer_left_that_died_on_another_machine_is_freed_whatever_its_clock_said(
    repository: Repository, folder: Path, off: timedelta
):
    lease = begun_and_never_committed(repository, folder, off)
    before = len(packs_of(folder))

    collect(folder)
    assert len(packs_of(folder)) == before
    assert lease.exists()

    long_ago(lease)
    collect(folder)
    collect(folder)
    assert len(packs_of(folder)) < before
    assert not lease.exists()
    assert list(folder.glob("condemned/*")) + list(folder.glob("witnesses/*")) == []


def test_a_holder_that_was_not_watched_by_an_earlier_run_keeps_its_lease(repository: Repository, folder: Path):
    lease = begun_and_never_committed(repository, folder, timedelta())
    long_ago(lease)

    collect(folder)

    assert lease.exists()


def test_a_collector_that_died_elsewhere_with_its_clock_years_ahead_is_passed_once_it_was_silent(
    repository: Repository, folder: Path
):
    held = HeldLease(DirectoryStorage(folder), "collector", "on another machine", 900)
    held.release()
    lease = left_elsewhere(folder, held.lease, kind="collector", off=YEARS)

    with pytest.raises(Conflict, match="on another machine"):
        collect(folder)

    long_ago(lease)
    collect(folder)
    assert not lease.exists()


def test_a_clock_of_ours_that_is_years_ahead_takes_no_lease_from_a_writer_that_renews(
    repository: Repository, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    ahead(monkeypatch)
    lease = begun_and_never_committed(repository, folder, timedelta())

    for _ in range(3):
        collect(folder)

    assert lease.exists()


def test_a_clock_of_ours_that_is_years_ahead_ends_no_protection(
    repository: Repository, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    old = back_up(repository, b"protected", moment=later(0))
    back_up(repository, b"newer", moment=later(1))
    repository.protect(old, until=datetime.now(UTC) + timedelta(days=30), why="the law", by="a test")
    ahead(monkeypatch)

    with (
        pytest.raises(Conflict, match="protected until"),
        Repository.open(folder).collector("a test", limits=SMALL) as collector,
    ):
        collector.drop([old])


def ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    class Ahead(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return datetime.now(UTC) + YEARS

    monkeypatch.setattr("engine.repository.collection.datetime", Ahead)
