"""Credentials that may create, and neither delete nor overwrite: what a host that may be taken over should hold.

The server refuses every `DELETE`, and every `PUT` that is not conditional. All that a host needs goes on; what would
take something away stops before it has changed anything, and says which credentials it takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from msgspec import json
from msgspec.structs import replace

from engine.errors import Conflict
from engine.repository import (
    Collector,
    Extent,
    Passphrase,
    RepairRequest,
    Repository,
    StorageFailed,
    SyncRequest,
    VerifyRequest,
)
from engine.repository.frame import FrameCodec, FrameKind, encode_frame
from engine.repository.lease import leases
from engine.repository.s3_address import S3Address
from engine.repository.s3_storage import S3Storage
from tests.faults.figures import Fault, count
from tests.repository.building import BLOCK, PASSPHRASE, SMALL, back_up, later, mixed_disk, restored, unlock
from tests.repository.misbehaving_s3 import Proxy, Rule, misbehaving
from tests.repository.s3_server import S3Server
from tests.repository.syncing import held, sync

CONTENTS = {later(0): mixed_disk(40), later(1): mixed_disk(40, seed=2), later(2): mixed_disk(40, seed=3)}


@pytest.fixture
def proxy(moto: S3Server) -> Iterator[Proxy]:
    with misbehaving(moto) as proxy:
        yield proxy


@pytest.fixture
def appending(proxy: Proxy, bucket: str) -> S3Storage:
    """The bucket, as a host sees it."""
    proxy.rules += [
        Rule("DELETE", times=10**9, refuse=(403, "AccessDenied")),
        Rule("PUT", times=10**9, refuse=(403, "AccessDenied"), unless_header="if-none-match"),
    ]
    return S3Storage(S3Address(bucket, "vault", proxy.endpoint))


@pytest.fixture
def whole(moto: S3Server, bucket: str) -> S3Storage:
    """The same bucket, as the one machine sees it that may delete."""
    return S3Storage(S3Address(bucket, "vault", moto.endpoint))


@pytest.fixture
def repository(appending: S3Storage) -> Repository:
    repository = Repository.create_in(appending, block_bytes=BLOCK)
    for moment, content in CONTENTS.items():
        back_up(repository, content, moment=moment)
    return repository


def every_point_is_whole(storage: S3Storage) -> None:
    repository = Repository.open_in(storage)
    points = repository.points()
    assert {point.manifest.moment for point in points} == CONTENTS.keys()
    for point in points:
        assert restored(repository, point.manifest.disks[0]) == CONTENTS[point.manifest.moment]


def test_all_that_a_host_needs_goes_on(repository: Repository, appending: S3Storage):
    newest, _, oldest = repository.points()
    repository.pin(oldest, why="a release", by="ana")
    repository.protect(newest, until=datetime.now(UTC) + timedelta(days=30), why="the law", by="ana")
    repository.put_record("restores", "one", b"# Restored")
    found = repository.verifier(VerifyRequest(Extent.FULL)).run()

    assert found.sound
    assert repository.record("restores", "one") == b"# Restored"
    assert set(repository.guarded()) == {oldest.id, newest.id}
    assert repository.info().points == 3
    every_point_is_whole(appending)


def drop(repository: Repository, collector: Collector) -> None:
    collector.drop(repository.points()[1:])


def collect(_: Repository, collector: Collector) -> None:
    collector.collect()


@pytest.mark.parametrize("work", [drop, collect])
def test_dropping_and_collecting_stop_before_anything_has_changed(
    repository: Repository, appending: S3Storage, work: Callable[[Repository, Collector], None]
):
    before = {entry.key for entry in appending.list("")}

    with pytest.raises(StorageFailed) as caught, repository.collector("a host", limits=SMALL) as collector:
        work(repository, collector)

    assert "s3:DeleteObject" in caught.value.next_step
    assert "may only add" in caught.value.next_step
    assert {entry.key for entry in appending.list("")} == before
    every_point_is_whole(appending)
    count(Fault.REFUSED, "append-only use")


def test_taking_a_pin_away_is_refused_and_the_pin_stays(repository: Repository):
    point = repository.points()[0]
    repository.pin(point, why="a release", by="ana")

    with pytest.raises(StorageFailed) as caught:
        repository.unpin(point)

    assert "s3:DeleteObject" in caught.value.next_step
    assert point.id in repository.guarded()
    count(Fault.REFUSED, "append-only use")


def test_a_sync_brings_everything_and_a_second_one_has_nothing_to_do(appending: S3Storage, tmp_path: Path):
    source = Repository.create(tmp_path / "source", block_bytes=BLOCK)
    target = Repository.create_in(appending, block_bytes=BLOCK)
    for moment, content in list(CONTENTS.items())[:2]:
        back_up(source, content, moment=moment)

    for request in (SyncRequest(verify=True), SyncRequest()):
        done = sync(source, target, request)
        assert done.refused == ()

    assert held(Repository.open_in(appending)) == held(source)
    count(Fault.REFUSED, "sync")


def test_a_key_is_added_and_none_is_taken_away(appending: S3Storage):
    repository = Repository.create_in(appending, block_bytes=BLOCK, passphrase=PASSPHRASE)
    office = Passphrase(b"zeus barium otter")
    repository.add_key("office", office)

    with pytest.raises(StorageFailed) as caught:
        repository.remove_key("first")

    assert "s3:DeleteObject" in caught.value.next_step
    for secret in (unlock, lambda *_: office):
        assert len(Repository.open_in(appending, unlock=secret).keys()) == 2
    count(Fault.REFUSED, "key change")


def test_a_repair_stops_before_anything_has_changed(repository: Repository, appending: S3Storage, whole: S3Storage):
    index = next(iter(whole.list("index/"))).key
    content = whole.read(index)
    whole.delete(index)
    whole.create(index, content[:-20])
    repairer = Repository.open_in(appending).repairer("a host", limits=SMALL)
    plan = repairer.plan(RepairRequest())
    before = {entry.key for entry in appending.list("")}

    assert plan.steps
    with pytest.raises(StorageFailed) as caught:
        repairer.apply(plan)

    assert "s3:DeleteObject" in caught.value.next_step
    assert {entry.key for entry in appending.list("")} == before
    every_point_is_whole(appending)
    count(Fault.REFUSED, "repair")


def test_nothing_is_overwritten(repository: Repository, appending: S3Storage, proxy: Proxy):
    repository.put_record("restores", "one", b"the first")

    with pytest.raises(Conflict):
        repository.put_record("restores", "one", b"another")

    assert repository.record("restores", "one") == b"the first"
    assert all("if-none-match" in headers for method, headers in _puts(proxy) if method == "PUT")


def _puts(proxy: Proxy) -> Iterator[tuple[str, dict[str, str]]]:
    for request, headers in zip(proxy.requests, proxy.headers, strict=True):
        yield request.partition(" ")[0], headers


def test_the_machine_that_may_delete_clears_up_what_hosts_had_to_leave(repository: Repository, whole: S3Storage):
    for lease in leases(whole)[0]:
        # As of hosts that this machine knows nothing of.
        whole.delete(lease.key)
        there = replace(lease, boot_id="another", lasts_s=0.5)
        whole.create(there.key, encode_frame(there.key, FrameKind.LEASE, json.encode(there), codec=FrameCodec.STORED))
    assert len(leases(whole)[0]) == 3

    while leases(whole)[0]:
        with keeper(whole) as collector:
            collector.collect()

    assert list(whole.list("condemned/")) + list(whole.list("pending/")) == []
    every_point_is_whole(whole)


def test_a_protection_holds_against_the_machine_that_may_delete(repository: Repository, whole: S3Storage):
    oldest = repository.points()[-1]
    repository.protect(oldest, until=datetime.now(UTC) + timedelta(days=30), why="the law", by="ana")

    with pytest.raises(Conflict, match="protected until"), keeper(whole) as collector:
        collector.drop([oldest])
    every_point_is_whole(whole)


def keeper(storage: S3Storage) -> Collector:
    return Repository.open_in(storage).collector("the keeper", limits=SMALL)
