"""A verification of a sound repository finds nothing, whatever happened to it before and whoever works beside."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from pathlib import Path

import pytest

from engine.repository import (
    Extent,
    Repository,
    Severity,
    Stage,
    Verification,
    VerifyProgress,
    VerifyRequest,
    WriterLimits,
)
from tests.repository.building import BLOCK, DB, back_up, facts, later, mixed_disk, packs_of

FIXTURE = Path(__file__).parent / "fixtures" / "v1"
EXTENTS = [VerifyRequest(Extent.QUICK), VerifyRequest(Extent.SAMPLE, 30), VerifyRequest(Extent.FULL)]
by_extent = pytest.mark.parametrize("request_", EXTENTS, ids=lambda request: request.extent.value)


def verify(folder: Path, request: VerifyRequest) -> Verification:
    return Repository.open(folder).verifier(request).run()


@pytest.fixture
def vault(tmp_path: Path) -> Repository:
    repository = Repository.create(tmp_path / "vault", block_bytes=BLOCK)
    disk = mixed_disk(300)
    back_up(repository, disk, mixed_disk(20, 2))
    back_up(repository, disk[: 200 * BLOCK] + mixed_disk(100, 5), bytes(3000), moment=later(10))
    back_up(repository, disk, b"", moment=later(20), vm=facts(DB, "db"))
    return repository


@by_extent
def test_a_sound_repository_has_no_findings(vault: Repository, tmp_path: Path, request_: VerifyRequest):
    found = verify(tmp_path / "vault", request_)

    assert found.findings == ()
    assert found.losses == ()
    assert found.sound
    assert found.unrecorded is None
    assert found.points == 3
    assert found.packs == len(packs_of(tmp_path / "vault"))


@by_extent
def test_an_empty_repository_has_no_findings(tmp_path: Path, request_: VerifyRequest):
    Repository.create(tmp_path / "vault")

    assert verify(tmp_path / "vault", request_).findings == ()


@by_extent
def test_the_repository_of_an_earlier_version_has_no_findings(tmp_path: Path, request_: VerifyRequest):
    shutil.copytree(FIXTURE, tmp_path / "vault")

    assert verify(tmp_path / "vault", request_).findings == ()


def test_a_full_verification_reads_every_pack_to_its_end(vault: Repository, tmp_path: Path):
    packs = packs_of(tmp_path / "vault")

    found = verify(tmp_path / "vault", VerifyRequest(Extent.FULL))

    assert found.packs_read == len(packs)
    assert found.bytes_read == sum(path.stat().st_size for path in packs)


@by_extent
def test_what_a_writer_left_that_gave_up_is_no_finding(vault: Repository, tmp_path: Path, request_: VerifyRequest):
    with (
        pytest.raises(RuntimeError, match="enough"),
        vault.writer("a test", limits=WriterLimits(pack_bytes=8 * BLOCK, index_every_blocks=10_000)) as writer,
    ):
        disk = writer.disk("vda", 100 * BLOCK, "raw")
        for number in range(60):
            buffer = disk.buffer()
            buffer[:] = os.urandom(BLOCK)
            disk.submit(number, buffer, BLOCK)
        raise RuntimeError("enough")

    assert verify(tmp_path / "vault", request_).findings == ()


@by_extent
def test_what_a_killed_writer_left_is_no_finding(vault: Repository, tmp_path: Path, request_: VerifyRequest):
    before = len(packs_of(tmp_path / "vault"))
    child = os.fork()
    if child == 0:
        with vault.writer("a test", limits=WriterLimits(pack_bytes=8 * BLOCK)) as writer:
            disk = writer.disk("vda", 100 * BLOCK, "raw")
            for number in range(99):
                buffer = disk.buffer()
                buffer[:] = os.urandom(BLOCK)
                disk.submit(number, buffer, BLOCK)
            while len(packs_of(tmp_path / "vault")) < before + 8:
                pass
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)

    found = verify(tmp_path / "vault", request_)

    assert found.packs >= before + 8
    assert list((tmp_path / "vault" / "leases").iterdir())
    assert found.findings == ()


def test_a_writer_at_work_beside_is_never_taken_for_damage(vault: Repository, tmp_path: Path):
    over = threading.Event()

    def write() -> None:
        repository = Repository.open(tmp_path / "vault")
        for minute in range(30, 42):
            back_up(repository, mixed_disk(120, minute), moment=later(minute))
        over.set()

    writer = threading.Thread(target=write)
    writer.start()
    verified = 0
    while not over.is_set() or verified < len(EXTENTS):
        found = verify(tmp_path / "vault", EXTENTS[verified % len(EXTENTS)])
        assert found.findings == ()
        verified += 1
    writer.join()


def test_points_that_are_collected_meanwhile_are_not_taken_for_lost_ones(vault: Repository, tmp_path: Path):
    folder = tmp_path / "vault"
    others = set(packs_of(folder))
    collected = back_up(vault, b"".join(os.urandom(BLOCK) for _ in range(80)), moment=later(50))
    mine = set(packs_of(folder)) - others

    def collect(progress: VerifyProgress) -> None:
        if progress.stage is Stage.PACKS and not progress.done:
            for path in folder.glob(f"points/*/*{collected.id}"):
                path.unlink()
            for path in mine:
                path.unlink()

    found = vault.verifier(VerifyRequest(Extent.FULL)).run(collect)

    assert len(mine) > 3
    assert found.sound
    assert {finding.severity for finding in found.findings} == {Severity.NOTE}
    assert found.losses == ()


def test_blocks_that_are_moved_to_another_pack_meanwhile_are_not_taken_for_lost_ones(vault: Repository, tmp_path: Path):
    folder = tmp_path / "vault"

    def move(progress: VerifyProgress) -> None:
        if progress.stage is Stage.PACKS and not progress.done:
            for path in packs_of(folder)[:3]:
                path.unlink()
            writing = Repository.open(folder)
            disk = mixed_disk(300)
            back_up(writing, disk, mixed_disk(20, 2), moment=later(90))
            back_up(writing, disk[: 200 * BLOCK] + mixed_disk(100, 5), bytes(3000), moment=later(91))

    found = vault.verifier(VerifyRequest(Extent.FULL)).run(move)

    assert found.sound
    assert found.losses == ()
    assert {finding.severity for finding in found.findings} == {Severity.NOTE}


@by_extent
def test_the_plan_says_what_will_be_read_and_reads_no_pack(vault: Repository, tmp_path: Path, request_: VerifyRequest):
    packs = packs_of(tmp_path / "vault")
    verifier = vault.verifier(request_)

    plan = verifier.plan()

    assert plan.points == 3
    assert plan.packs == plan.never_read == len(packs)
    assert plan.oldest is None
    assert plan.resumes is None
    assert vault.records("verify") == ()
    found = verifier.run()
    assert (found.packs_read, found.bytes_read) == (plan.packs_to_read, plan.bytes_to_read)


def test_a_repository_that_can_only_be_read_is_verified_all_the_same(vault: Repository, tmp_path: Path):
    (tmp_path / "vault" / "records").write_bytes(b"")
    (tmp_path / "vault" / "records").unlink()
    folder = tmp_path / "vault"
    folder.chmod(0o500)
    try:
        found = verify(folder, VerifyRequest(Extent.FULL))
    finally:
        folder.chmod(0o700)

    if os.geteuid():
        assert found.unrecorded
    assert found.findings == ()


def test_an_interrupted_look_costs_nothing_but_the_next_one(vault: Repository, tmp_path: Path):
    def stop(progress: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        vault.verifier(VerifyRequest(Extent.FULL)).run(stop)

    assert verify(tmp_path / "vault", VerifyRequest(Extent.FULL)).findings == ()


def test_points_and_records_that_are_gone_are_told_once_without_being_called_damage(vault: Repository, tmp_path: Path):
    folder = tmp_path / "vault"
    vault.put_record("restores", "one", b"report")
    verify(folder, VerifyRequest())
    point = next(iter(sorted(folder.glob("points/*/*"))))
    point.unlink()
    (folder / "records" / "restores" / "one").unlink()

    found = verify(folder, VerifyRequest())

    assert [(note.object, note.severity) for note in found.findings] == [
        (str(point.relative_to(folder)), Severity.NOTE),
        ("records/restores/one", Severity.NOTE),
    ]
    assert found.sound
    assert verify(folder, VerifyRequest()).findings == ()
