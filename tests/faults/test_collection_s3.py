"""A collection in a bucket: its requests are spoilt, its process is killed at some of them, clocks differ by years."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from engine.errors import Conflict
from engine.repository import Collected, LeaseLost, Point, Repository
from engine.repository.lease import break_lease, leases
from engine.repository.patience import Patience
from engine.repository.s3_address import S3Address
from engine.repository.s3_storage import S3Storage
from tests.faults.figures import Fault, count
from tests.repository.building import BLOCK, SMALL, back_up, commit, later, restored, write_disk
from tests.repository.misbehaving_s3 import Proxy, Rule, misbehaving
from tests.repository.s3_server import S3Server

QUICK = Patience(first_pause_s=0.01, longest_pause_s=0.05, give_up_after_s=60.0, most_tries=5)
NOISE = random.Random(1).randbytes(48 * BLOCK)
FOURTHS = b"".join(NOISE[at * BLOCK : (at + 1) * BLOCK] for at in range(0, 48, 4))
CONTENTS = {later(0): NOISE, later(1): FOURTHS, later(2): b"newest"}
"""The first is dropped; of its packs some blocks are still needed, which are copied."""


@pytest.fixture
def proxy(moto: S3Server) -> Iterator[Proxy]:
    with misbehaving(moto) as proxy:
        yield proxy


class Bucket:
    """A repository of three points in a bucket, as often as it is asked for."""

    def __init__(self, moto: S3Server, bucket: str, proxy: Proxy) -> None:
        self.moto = moto
        self.bucket = bucket
        self.proxy = proxy
        self.times = 0
        self.begin()

    def begin(self) -> None:
        self.times += 1
        self.direct = S3Storage(S3Address(self.bucket, f"vault{self.times}", self.moto.endpoint))
        self.spoilt = S3Storage(S3Address(self.bucket, f"vault{self.times}", self.proxy.endpoint), patience=QUICK)
        repository = Repository.create_in(self.direct, block_bytes=BLOCK)
        for moment, content in CONTENTS.items():
            back_up(repository, content, moment=moment)
        self.before = self.packs_bytes()

    def packs_bytes(self) -> int:
        return sum(entry.size_bytes for entry in self.direct.list("packs/"))

    def collect(self, storage: S3Storage) -> Collected:
        with Repository.open_in(storage).collector("a test", limits=SMALL) as collector:
            collector.drop(first_of(storage))
            return collector.collect()

    def check(self) -> None:
        repository = Repository.open_in(self.direct)
        points = repository.points()
        assert {point.manifest.moment for point in points} >= {later(1), later(2)}
        for point in points:
            assert restored(repository, point.manifest.disks[0]) == CONTENTS[point.manifest.moment]
        assert repository.damaged == ()

    def check_freed(self) -> None:
        self.check()
        assert first_of(self.direct) == []
        assert self.packs_bytes() < 0.5 * self.before
        for prefix in ("leases/", "condemned/", "witnesses/", "pending/"):
            assert list(self.direct.list(prefix)) == []


def first_of(storage: S3Storage) -> list[Point]:
    return [point for point in Repository.open_in(storage).points() if point.manifest.moment == later(0)]


@pytest.fixture
def vault(moto: S3Server, bucket: str, proxy: Proxy) -> Bucket:
    return Bucket(moto, bucket, proxy)


def test_a_collection_in_a_bucket_frees_what_no_point_needs(vault: Bucket):
    done = vault.collect(vault.spoilt)

    assert done.deleted_packs > 0
    assert done.copied_bytes > 0
    vault.check_freed()


@pytest.mark.parametrize(
    "spoil",
    [
        Rule("*", refuse=(503, "SlowDown")),
        Rule("*", refuse=(500, "InternalError"), after_doing=True),
        Rule("*", cut=True),
        Rule("*", cut=True, after_doing=True),
    ],
    ids=["busy", "done and failed", "cut", "done and cut"],
)
def test_every_request_of_a_collection_may_be_spoilt(vault: Bucket, proxy: Proxy, spoil: Rule):
    # Each of these rules lets some requests pass first: nearly every request is spoilt once.
    proxy.rules += [
        Rule(spoil.method, refuse=spoil.refuse, after_doing=spoil.after_doing, cut=spoil.cut, skip=skip)
        for skip in range(200)
    ]
    vault.collect(vault.spoilt)

    spoilt = sum(rule.times == 0 for rule in proxy.rules)
    assert spoilt > 60
    vault.check_freed()
    count(Fault.REQUEST, "collection", spoilt)


KILLED = """
import sys
from engine.repository import Repository
from tests.repository.building import BLOCK, SMALL, back_up, later
from tests.faults.test_collection_s3 import NOISE, first_of
from engine.repository.s3_address import S3Address
from engine.repository.s3_storage import S3Storage
storage = S3Storage(S3Address.parse(sys.argv[2]))
if sys.argv[1] == "backup":
    back_up(Repository.open_in(storage), NOISE[::-1], moment=later(3))
else:
    with Repository.open_in(storage).collector("a test", limits=SMALL) as collector:
        collector.drop(first_of(storage))
        collector.collect()
"""


@pytest.mark.parametrize("what", ["backup", "collection"])
def test_a_process_killed_at_a_request_harms_no_point(vault: Bucket, proxy: Proxy, what: str):
    contents = {**CONTENTS, later(3): NOISE[::-1]}
    first, step = (3, 9) if what == "backup" else (5, 29)
    killed = 0
    while True:
        proxy.requests.clear()
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, what, vault.spoilt.location],
            cwd=Path(__file__).parents[2],
            stderr=subprocess.PIPE,
        )
        at = first + step * killed

        def kill(number: int, process: subprocess.Popen[bytes] = process, at: int = at) -> None:
            # The request is done by the server, and nobody is there any more to hear of it.
            if number == at:
                process.kill()

        proxy.on_request = kill
        said = process.communicate()[1]
        repository = Repository.open_in(vault.direct)
        for point in repository.points():
            assert restored(repository, point.manifest.disks[0]) == contents[point.manifest.moment]
        assert repository.damaged == ()
        if process.returncode == 0:
            break
        assert process.returncode == -9, said.decode()
        killed += 1
        count(Fault.KILL, f"{what} in a bucket")
        vault.begin()

    assert killed > 2


@pytest.mark.parametrize("hours", [-90000, 5])
def test_the_clock_of_the_server_may_be_years_off(vault: Bucket, proxy: Proxy, hours: int):
    proxy.clock_off_s = 3600.0 * hours
    points = Repository.open_in(vault.direct).points()
    Repository.open_in(vault.direct).protect(
        points[1], until=datetime.now(UTC) + timedelta(days=30), why="the law", by="ana"
    )

    with Repository.open_in(vault.spoilt).writer("a backup", limits=SMALL) as writer:
        disk = write_disk(writer, "vda", NOISE)
        for _ in range(2):
            assert vault.collect(vault.spoilt).waiting_packs > 0
        with (
            pytest.raises(Conflict, match="protected until"),
            Repository.open_in(vault.spoilt).collector("a test", limits=SMALL) as collector,
        ):
            collector.drop([points[1]])
        commit(writer, (disk,), later(0))

    vault.check()
    assert first_of(vault.direct) != []
    count(Fault.CLOCK, "collection in a bucket")


def test_a_manifest_on_its_way_for_long_after_the_last_look_at_the_lease_is_whole_when_it_arrives(
    vault: Bucket, proxy: Proxy
):
    may_go_on = threading.Event()
    held = Rule("PUT", "points/", wait_for=may_go_on)
    proxy.rules.append(held)
    patient = S3Storage(S3Address(vault.bucket, f"vault{vault.times}", proxy.endpoint))
    writing = threading.Thread(target=lambda: back_up(Repository.open_in(patient), NOISE, moment=later(0)))
    first = first_of(vault.direct)
    writing.start()
    try:
        assert held.arrived.wait(60)
        # Meanwhile its lease is taken away, what it leans on is dropped, and all is collected, twice.
        for lease in leases(vault.direct)[0]:
            break_lease(vault.direct, lease.id)
        for _ in range(2):
            with Repository.open_in(vault.direct).collector("a test", limits=SMALL) as collector:
                collector.drop(first)
                collector.collect()
        assert first_of(vault.direct) == []
    finally:
        may_go_on.set()
        writing.join()

    assert len(first_of(vault.direct)) == 1
    vault.check()
    count(Fault.SLEEP, "backup in a bucket")


def test_a_manifest_on_its_way_when_its_writer_died_is_whole_when_it_arrives(vault: Bucket, proxy: Proxy):
    may_go_on = threading.Event()
    held = Rule("PUT", "points/", wait_for=may_go_on)
    proxy.rules.append(held)
    first = first_of(vault.direct)
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, "backup", vault.spoilt.location], cwd=Path(__file__).parents[2]
    )
    try:
        assert held.arrived.wait(60)
        process.kill()
        process.wait()
        for _ in range(2):
            with Repository.open_in(vault.direct).collector("a test", limits=SMALL) as collector:
                collector.drop(first)
                collector.collect()
    finally:
        may_go_on.set()
        process.kill()
        process.wait()
    repository = Repository.open_in(vault.direct)
    while not (arrived := [point for point in repository.points() if point.manifest.moment == later(3)]):
        time.sleep(0.05)

    (new,) = arrived
    assert restored(repository, new.manifest.disks[0]) == NOISE[::-1]
    count(Fault.KILL, "backup in a bucket")


def test_a_writer_in_a_bucket_whose_lease_was_taken_away_commits_nothing(vault: Bucket):
    with (
        pytest.raises(LeaseLost),
        Repository.open_in(vault.direct).writer("asleep", limits=SMALL) as writer,
    ):
        disk = write_disk(writer, "vda", NOISE)
        break_lease(vault.direct, writer._lease.id)  # pyright: ignore[reportPrivateUsage]
        vault.collect(vault.direct)
        commit(writer, (disk,), later(9))

    vault.check_freed()
    count(Fault.SLEEP, "backup in a bucket")
