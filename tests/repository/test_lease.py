"""Leases: who is writing, who is gone, and who may no longer commit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

from engine.repository import LeaseLost, Repository
from engine.repository.directory_storage import DirectoryStorage
from engine.repository.errors import ObjectMissing
from engine.repository.lease import HeldLease, Lease, break_lease, lease_ids, leases
from tests.repository.building import back_up

WRITES_AND_WAITS = """
import sys, time
from engine.repository import Repository
with Repository.open(sys.argv[1]).writer("newhope backup web"):
    print("writing", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Repository.create(tmp_path / "vault", block_bytes=4096)
    return tmp_path / "vault"


@pytest.fixture
def storage(folder: Path) -> DirectoryStorage:
    return DirectoryStorage(folder)


def only(storage: DirectoryStorage) -> Lease:
    (lease,), damaged = leases(storage)
    assert damaged == ()
    return lease


def test_a_writer_holds_a_lease_that_says_who_it_is(folder: Path, storage: DirectoryStorage):
    repository = Repository.open(folder)
    with repository.writer("newhope backup web"):
        lease = only(storage)

        assert repository.info().writers == 1
        assert (lease.owner, lease.pid, lease.host) == ("newhope backup web", os.getpid(), os.uname().nodename)
        assert lease.expires - lease.created == timedelta(minutes=15)

    assert repository.info().writers == 0
    assert list(storage.list("leases/")) == []


def test_a_renewed_lease_is_one_lease_that_lasts_longer(storage: DirectoryStorage):
    held = HeldLease(storage, "writer", "a test", 60)
    first = only(storage)
    time.sleep(0.01)
    held.renew()
    second = only(storage)

    assert (second.id, second.sequence) == (first.id, 1)
    assert second.expires > first.expires
    assert [entry.key for entry in storage.list("leases/")] == [first.anchor, second.key]
    held.check()
    held.release()
    assert list(storage.list("leases/")) == []


def test_a_lease_is_renewed_while_its_holder_works(storage: DirectoryStorage, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("engine.repository.lease.RENEWALS_A_LEASE", 6000)
    held = HeldLease(storage, "writer", "a test", 600)
    while only(storage).sequence < 2:
        time.sleep(0.02)

    held.check()
    held.release()


def test_a_lease_that_was_broken_is_not_renewed_back_into_being(storage: DirectoryStorage):
    held = HeldLease(storage, "writer", "a test", 60)
    storage.delete(only(storage).key)

    with pytest.raises(Exception, match="is not in the repository"):
        held.renew()
    with pytest.raises(LeaseLost):
        held.check()
    assert list(storage.list("leases/")) == []
    held.release()


def test_an_expired_lease_is_not_held(storage: DirectoryStorage):
    held = HeldLease(storage, "writer", "a test", 60)
    lease = only(storage)

    assert lease.held(datetime.now(UTC))
    assert not lease.held(datetime.now(UTC) + timedelta(seconds=61))
    held.release()


def test_the_lease_of_a_killed_writer_is_dead_at_once_and_removed_by_the_next(folder: Path, storage: DirectoryStorage):
    child = subprocess.Popen([sys.executable, "-c", WRITES_AND_WAITS, str(folder)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    child.stdout.readline()
    repository = Repository.open(folder)
    assert repository.info().writers == 1

    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()

    assert repository.info().writers == 0
    assert only(storage).dead()
    back_up(repository, b"content")
    assert list(storage.list("leases/")) == []


def test_a_process_number_that_was_given_anew_does_not_keep_a_lease_alive(storage: DirectoryStorage):
    held = HeldLease(storage, "writer", "a test", 60)
    lease = only(storage)

    assert not lease.dead()
    assert replace(lease, pid_started=lease.pid_started - 1).dead()
    held.release()


@pytest.mark.parametrize("change", [{"boot_id": "another boot"}, {"process_namespace": "pid:[1]"}])
def test_a_holder_that_cannot_be_looked_at_is_believed(storage: DirectoryStorage, change: dict[str, str]):
    held = HeldLease(storage, "writer", "a test", 60)
    elsewhere = replace(only(storage), pid=1, pid_started=1, **change)

    assert not elsewhere.dead()
    assert elsewhere.held(datetime.now(UTC))
    held.release()


def test_a_damaged_lease_is_reported(folder: Path, storage: DirectoryStorage):
    repository = Repository.open(folder)
    held = HeldLease(storage, "writer", "a test", 60)
    file = folder / only(storage).key
    content = bytearray(file.read_bytes())
    content[40] ^= 1
    file.write_bytes(content)

    assert repository.info().writers == 0
    assert [found.key for found in repository.damaged] == [f"leases/{file.name}"]
    held.release()


def test_a_renewal_never_takes_the_first_object_away_so_that_no_listing_misses_the_lease(storage: DirectoryStorage):
    held = HeldLease(storage, "writer", "a test", 60)
    for _ in range(3):
        held.renew()

    assert [entry.key for entry in storage.list("leases/")] == [f"leases/{held.id}-0", f"leases/{held.id}-3"]
    assert lease_ids(storage) == {held.id}
    held.release()
    assert list(storage.list("leases/")) == []


def test_a_broken_lease_is_neither_renewed_nor_good_for_a_commit(storage: DirectoryStorage):
    held = HeldLease(storage, "writer", "a test", 60)
    held.renew()
    break_lease(storage, held.id)

    with pytest.raises(ObjectMissing):
        held.renew()
    with pytest.raises(LeaseLost, match="removed it"):
        held.check()
    assert lease_ids(storage) == frozenset()
    held.release()
