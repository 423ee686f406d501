"""A sync into a bucket whose store is slow, refuses, cuts its answers, or stops answering altogether."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.repository import Repository, StorageFailed, SyncRequest
from engine.repository.patience import Patience
from engine.repository.s3_address import S3Address
from engine.repository.s3_storage import S3Storage
from tests.faults.figures import Fault, count
from tests.repository.building import BLOCK, back_up, later
from tests.repository.misbehaving_s3 import Proxy, Rule, misbehaving
from tests.repository.s3_server import S3Server
from tests.repository.syncing import generations, held, sync

QUICK = Patience(first_pause_s=0.02, longest_pause_s=0.1, give_up_after_s=1.0, most_tries=6)


@pytest.fixture
def proxy(moto: S3Server) -> Iterator[Proxy]:
    with misbehaving(moto) as proxy:
        yield proxy


@pytest.fixture
def storage(proxy: Proxy, bucket: str) -> S3Storage:
    return S3Storage(S3Address(bucket, "vault", proxy.endpoint), patience=QUICK, timeout_s=2)


@pytest.fixture
def source(tmp_path: Path) -> Repository:
    repository = Repository.create(tmp_path / "here", block_bytes=BLOCK)
    for number, content in enumerate(generations(3, 60)):
        back_up(repository, content, moment=later(number))
    return repository


def test_trouble_that_passes_is_not_noticed(source: Repository, storage: S3Storage, proxy: Proxy):
    target = Repository.create_in(storage, block_bytes=16384)
    proxy.rules += [
        Rule("PUT", "packs", times=2, refuse=(503, "SlowDown")),
        Rule("PUT", "packs", times=2, after_doing=True, cut=True),
        Rule("PUT", "points", times=1, after_doing=True, refuse=(500, "InternalError")),
        Rule("PUT", "index", times=1, cut=True),
        Rule("GET", "packs", times=3, cut=True),
        Rule("*", times=3, refuse=(429, "TooManyRequests")),
    ]
    spoilt = sum(rule.times for rule in proxy.rules)

    sync(source, target, SyncRequest(verify=True))

    assert held(target) == held(source)
    assert all(rule.times == 0 for rule in proxy.rules)
    count(Fault.REQUEST, "sync", spoilt)


@pytest.mark.parametrize("path", ["packs", "index", "pending", "points", "leases"])
def test_a_store_that_stops_taking_stops_the_sync_and_the_next_run_goes_on(
    source: Repository, storage: S3Storage, proxy: Proxy, path: str
):
    target = Repository.create_in(storage, block_bytes=16384)
    refusal = Rule("PUT", f"vault/{path}", times=10_000, refuse=(503, "SlowDown"))
    proxy.rules.append(refusal)

    with pytest.raises(StorageFailed) as caught:
        sync(source, target)
    assert caught.value.next_step
    proxy.rules.clear()
    again = Repository.open_in(storage)
    assert again.points() == ()

    sync(source, again)
    assert held(again) == held(source)
    count(Fault.REQUEST, "sync", 10_000 - refusal.times)


def test_a_source_that_stops_answering_stops_the_sync_and_refuses_no_point(
    source: Repository, storage: S3Storage, proxy: Proxy, tmp_path: Path
):
    far = Repository.create_in(storage, block_bytes=16384)
    sync(source, far)
    near = Repository.create(tmp_path / "near", block_bytes=BLOCK)
    proxy.rules.append(Rule("GET", "vault/packs", times=10_000, refuse=(503, "SlowDown")))

    with pytest.raises(StorageFailed):
        sync(Repository.open_in(storage), near)
    proxy.rules.clear()

    assert near.points() == ()
    sync(Repository.open_in(storage), near)
    assert held(near) == held(source)
