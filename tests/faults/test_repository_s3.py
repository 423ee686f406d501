"""A store that is slow, refuses, cuts its answers or forgets its conditions: tried again, or stopped with a reason."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import json, structs

from engine.errors import NewhopeError, NoSpace
from engine.repository import Repository, StorageFailed, Verdict, try_storage
from engine.repository.errors import ObjectExists
from engine.repository.frame import FrameCodec, FrameKind, encode_frame
from engine.repository.lease import leases
from engine.repository.patience import Patience
from engine.repository.probe import try_out
from engine.repository.s3_address import S3Address
from engine.repository.s3_storage import S3Storage
from tests.repository.building import BLOCK, back_up, later, mixed_disk, restored
from tests.repository.misbehaving_s3 import Proxy, Rule, misbehaving
from tests.repository.s3_server import CREDENTIALS, S3Server

QUICK = Patience(first_pause_s=0.02, longest_pause_s=0.1, give_up_after_s=600, most_tries=6)
SLOW_S = 3.0


@pytest.fixture
def proxy(moto: S3Server) -> Iterator[Proxy]:
    with misbehaving(moto) as proxy:
        yield proxy


@pytest.fixture
def storage(proxy: Proxy, bucket: str) -> S3Storage:
    return S3Storage(S3Address(bucket, "vault", proxy.endpoint), patience=QUICK)


def reached_past(rule: Rule, proxy: Proxy, bucket: str) -> S3Storage:
    """The storage, with less patience for one answer than a rule keeps it waiting, if it does."""
    timeout_s = SLOW_S / 3 if rule.delay_s else 30.0
    return S3Storage(S3Address(bucket, "vault", proxy.endpoint), patience=QUICK, timeout_s=timeout_s)


BURST = [
    Rule("*", times=3, refuse=(503, "SlowDown")),
    Rule("*", times=2, refuse=(500, "InternalError")),
    Rule("*", times=1, refuse=(429, "TooManyRequests")),
    Rule("*", times=1, delay_s=SLOW_S),
    Rule("*", times=2, cut=True),
]


@pytest.mark.parametrize("rule", BURST, ids=["busy", "broken", "throttled", "slow", "cut"])
def test_trouble_that_passes_is_not_noticed(proxy: Proxy, bucket: str, rule: Rule):
    storage = reached_past(rule, proxy, bucket)
    for key in ("records/a/1", "records/a/2"):
        storage.create(key, key.encode() * 100)

    for work in (
        lambda: storage.create("records/a/3", b"new"),
        lambda: storage.read("records/a/1", 5, 50),
        lambda: storage.map("records/a/1"),
        lambda: storage.size("records/a/1"),
        lambda: list(storage.list("records/")),
        lambda: storage.delete("records/a/2"),
    ):
        proxy.rules[:] = [
            Rule(rule.method, rule.path, rule.times, rule.refuse, rule.after_doing, rule.cut, rule.delay_s)
        ]
        work()
        proxy.rules.clear()

    assert [entry.key for entry in storage.list("records/")] == ["records/a/1", "records/a/3"]
    assert storage.read("records/a/3") == b"new"
    assert storage.read("records/a/1") == b"records/a/1" * 100


def test_a_listing_of_many_pages_that_is_cut_goes_on_where_it_was(
    storage: S3Storage, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
):
    keys = [f"records/a/{number:04}" for number in range(17)]
    for key in reversed(keys):
        storage.create(key, b"")
    proxy.keys_a_page = 5
    monkeypatch.setattr("engine.repository.s3_storage.PAGE", 5)
    listing = storage.list("records/")
    seen = [next(listing).key for _ in range(5)]
    proxy.rules.append(Rule("GET", "list-type", times=2, cut=True))

    assert seen + [entry.key for entry in listing] == keys
    assert proxy.rules[0].times == 0
    assert any("start-after=" in request for request in proxy.requests)


@pytest.mark.parametrize(
    "spoilt",
    [
        Rule("PUT", after_doing=True, refuse=(500, "InternalError")),
        Rule("PUT", after_doing=True, refuse=(503, "ServiceUnavailable")),
        Rule("PUT", after_doing=True, cut=True),
        Rule("PUT", delay_s=SLOW_S),
    ],
    ids=["500", "503", "cut", "slow"],
)
@pytest.mark.parametrize("size", [0, 7, 1 << 20])
def test_a_create_that_meets_itself_is_done(proxy: Proxy, bucket: str, spoilt: Rule, size: int):
    storage = reached_past(spoilt, proxy, bucket)
    # The server stored the object, but its answer was lost; the second try is refused with 412.
    spoilt.times = 1
    proxy.rules.append(spoilt)
    new = storage.open_new()
    new.write(b"x" * size)

    new.finish("packs/ab/abcd")

    assert storage.read("packs/ab/abcd") == b"x" * size
    puts = sum(request.startswith("PUT") for request in proxy.requests)
    assert puts == 2 or (spoilt.delay_s and puts > 2)
    spoilt.times = 0


def test_a_create_that_meets_another_s_object_after_a_lost_answer_is_refused(storage: S3Storage, proxy: Proxy):
    storage.create("leases/one", b"theirs")
    proxy.rules.append(Rule("PUT", refuse=(500, "InternalError")))

    with pytest.raises(ObjectExists):
        storage.create("leases/one", b"mine!!")

    assert storage.read("leases/one") == b"theirs"


def test_a_create_whose_every_answer_is_lost_is_done_if_it_can_be_seen(storage: S3Storage, proxy: Proxy):
    proxy.rules.append(Rule("PUT", times=99, after_doing=True, cut=True))

    storage.create("leases/one", b"mine")

    assert storage.read("leases/one") == b"mine"


def test_trouble_that_stays_ends_in_a_clear_stop_after_some_tries(storage: S3Storage, proxy: Proxy):
    storage.create("records/a/1", b"x")
    proxy.rules.append(Rule("GET", times=99, refuse=(503, "SlowDown")))
    begun = time.monotonic()

    with pytest.raises(StorageFailed) as caught:
        storage.read("records/a/1")

    assert "503 SlowDown" in caught.value.what
    assert "6 times tried" in caught.value.what
    assert "load" in caught.value.next_step
    assert "never shown" not in str(caught.value)
    assert proxy.requests[1:] == [proxy.requests[1]] * QUICK.most_tries
    assert time.monotonic() - begun > sum(QUICK.pause_s(failures, lambda: 0.0) for failures in range(1, 6))


def test_a_create_that_nobody_knows_the_end_of_says_so(storage: S3Storage, proxy: Proxy):
    proxy.rules.append(Rule("*", times=99, cut=True))

    with pytest.raises(StorageFailed) as caught:
        storage.create("points/x/1", b"x")

    assert "is not known" in caught.value.untouched
    assert "whole or not at all" in caught.value.untouched


@pytest.mark.parametrize(
    ("answer", "kind", "advice"),
    [
        ((403, "RequestTimeTooSkewed"), StorageFailed, "clock"),
        ((403, "SignatureDoesNotMatch"), StorageFailed, "AWS_SECRET_ACCESS_KEY"),
        ((403, "InvalidAccessKeyId"), StorageFailed, "AWS_ACCESS_KEY_ID"),
        ((400, "ExpiredToken"), StorageFailed, "expired"),
        ((403, "AccessDenied"), StorageFailed, "s3:PutObject"),
        ((301, "PermanentRedirect"), StorageFailed, "region"),
        ((501, "NotImplemented"), StorageFailed, "conditionally"),
        ((507, "XMinioStorageFull"), NoSpace, "quota"),
        ((403, "QuotaExceeded"), NoSpace, "quota"),
        ((418, "Teapot"), StorageFailed, "S3 server"),
    ],
)
def test_an_answer_that_will_not_change_stops_at_once_and_says_what_to_do(
    storage: S3Storage, proxy: Proxy, answer: tuple[int, str], kind: type[NewhopeError], advice: str
):
    proxy.rules.append(Rule("PUT", times=99, refuse=answer))

    with pytest.raises(kind) as caught:
        storage.create("records/a/1", b"x")

    assert advice in caught.value.next_step
    assert str(answer[0]) in caught.value.what
    assert len(proxy.requests) == 1
    for secret in CREDENTIALS.values():
        assert secret not in str(caught.value)


def test_a_writer_gets_through_a_store_that_stumbles_all_the_time(proxy: Proxy, storage: S3Storage):
    disk = mixed_disk(300)
    repository = Repository.create_in(storage, block_bytes=BLOCK)
    proxy.rules += [
        Rule("PUT", "packs/", times=2, refuse=(503, "SlowDown")),
        Rule("PUT", "packs/", times=2, after_doing=True, cut=True),
        Rule("PUT", "index/", after_doing=True, refuse=(500, "InternalError")),
        Rule("PUT", "points/", after_doing=True, cut=True),
        Rule("GET", "list-type", times=2, refuse=(503, "SlowDown")),
        Rule("DELETE", "leases/", refuse=(503, "SlowDown")),
    ]

    point = back_up(repository, disk)

    proxy.rules[:] = [Rule("GET", "packs/", times=3, cut=True), Rule("GET", "packs/", times=2, refuse=(500, "Oh"))]
    found = Repository.open_in(storage)
    assert [each.id for each in found.points()] == [point.id]
    assert restored(found, point.manifest.disks[0]) == disk
    assert found.info().writers == 0


def test_a_backup_into_a_store_that_goes_away_lists_nothing_and_the_next_one_succeeds(proxy: Proxy, storage: S3Storage):
    repository = Repository.create_in(storage, block_bytes=BLOCK)
    proxy.rules.append(Rule("PUT", "packs/", times=99, refuse=(503, "SlowDown")))

    with pytest.raises(StorageFailed, match="packs/"):
        back_up(repository, mixed_disk(300))
    assert repository.points() == ()

    proxy.rules.clear()
    point = back_up(repository, mixed_disk(300))
    assert restored(repository, point.manifest.disks[0]) == mixed_disk(300)


def test_a_store_that_lets_a_second_create_win_is_refused_and_left_empty(proxy: Proxy, bucket: str):
    location = f"s3://{bucket}/vault?endpoint={proxy.endpoint}"
    proxy.forget_conditions = True

    with pytest.raises(StorageFailed, match="If-None-Match") as caught:
        Repository.create(location)

    assert "test-storage" in caught.value.next_step
    assert list(S3Storage(S3Address.parse(location)).list("")) == []


def test_a_second_create_that_stumbles_is_not_mistaken_for_one_that_wins(proxy: Proxy, storage: S3Storage):
    proxy.rules.append(Rule("PUT", "newhope-repository", times=2, after_doing=True, refuse=(500, "InternalError")))

    assert Repository.create_in(storage).points() == ()


def test_the_test_of_a_good_store_finds_every_property_and_leaves_nothing(storage: S3Storage):
    found = try_out(storage)

    assert found.fit
    assert {check.name: check.verdict for check in found.checks} == {
        "read-after-write": Verdict.HOLDS,
        "no-overwrite": Verdict.HOLDS,
        "one-winner": Verdict.HOLDS,
        "whole-objects": Verdict.HOLDS,
        "listing": Verdict.HOLDS,
        "deletion": Verdict.HOLDS,
        "clock": Verdict.HOLDS,
        "durability": Verdict.UNKNOWN,
    }
    assert list(storage.list("")) == []


def test_the_test_finds_a_store_without_conditions(storage: S3Storage, proxy: Proxy):
    proxy.forget_conditions = True
    found = try_out(storage)

    assert not found.fit
    failing = [check.name for check in found.checks if check.verdict is Verdict.FAILS]
    assert failing == ["no-overwrite", "one-winner"]


def test_rights_without_deletion_are_fit_for_appending(storage: S3Storage, proxy: Proxy):
    proxy.rules.append(Rule("DELETE", times=999, refuse=(403, "AccessDenied")))
    found = try_out(storage)

    assert found.fit
    assert [check.name for check in found.checks if check.verdict is Verdict.FAILS] == ["deletion"]


def test_a_property_that_could_not_be_tried_to_the_end_is_no_success(storage: S3Storage, proxy: Proxy):
    proxy.rules.append(Rule("GET", "list-type", times=999, refuse=(403, "AccessDenied")))
    found = try_out(storage)

    assert not found.fit
    untried = {check.name: check.evidence for check in found.checks if check.verdict is Verdict.UNTRIED}
    assert set(untried) == {"whole-objects", "listing"}
    assert "AccessDenied" in untried["listing"]


def test_a_store_that_refuses_everything_is_one_error(storage: S3Storage, proxy: Proxy):
    proxy.rules.append(Rule("*", times=999, refuse=(403, "AccessDenied")))

    with pytest.raises(StorageFailed, match="AccessDenied"):
        try_out(storage)


def test_a_folder_is_tried_too_and_left_empty(tmp_path: Path):
    found = try_storage(tmp_path)

    assert found.fit
    assert {check.verdict for check in found.checks[:-1]} == {Verdict.HOLDS}
    assert list(tmp_path.iterdir()) == []
    Repository.create(tmp_path)


def test_without_the_right_to_delete_backups_go_on(proxy: Proxy, storage: S3Storage):
    repository = Repository.create_in(storage, block_bytes=BLOCK)
    proxy.rules.append(Rule("DELETE", times=999, refuse=(403, "AccessDenied")))

    first = back_up(repository, mixed_disk(50))
    # The lease that could not be given back: later its process is gone.
    (left,), _ = leases(storage)
    dead = structs.replace(left, id="0" * 16, pid_started=1)
    storage.create(dead.key, encode_frame(dead.key, FrameKind.LEASE, json.encode(dead), codec=FrameCodec.STORED))
    second = back_up(Repository.open_in(storage), mixed_disk(50, seed=2), moment=later(60))

    assert dead.dead()

    assert {point.id for point in repository.points()} == {first.id, second.id}


def test_a_store_that_fails_before_it_was_found_out_holds_no_repository(proxy: Proxy, storage: S3Storage):
    proxy.rules.append(Rule("GET", "newhope-repository", times=99, refuse=(403, "AccessDenied")))

    with pytest.raises(StorageFailed, match="AccessDenied"):
        Repository.create_in(storage)
    assert list(storage.list("")) == []
