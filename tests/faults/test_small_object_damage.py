"""Bits flipped, ends cut, objects lost, doubled or exchanged, at every kind of object that is not about blocks.

Guards, leases, announcements, condemnations with their witnesses, the reserve: damage to them loses no byte of a point,
but it may mislead a collector into deleting what is needed. So a verification names what is damaged, a collector
deletes nothing that a point or a guard keeps, and both are tried after each damage.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from msgspec import json
from msgspec.structs import replace

from engine.errors import Conflict, NewhopeError
from engine.repository import Extent, Repository, RepositoryDamaged, Severity, VerifyRequest
from engine.repository.directory_storage import DirectoryStorage
from engine.repository.frame import FrameCodec, FrameKind, encode_frame
from engine.repository.lease import HeldLease, Lease
from engine.repository.pending import announce
from tests.faults.figures import Fault, count
from tests.faults.repository_scenario import fast_folder
from tests.repository.building import BLOCK, SMALL, back_up, commit, later, restored, write_disk

KINDS = ("guards", "leases", "pending", "condemned", "witnesses", "reserve")
UNREADABLE = ("reserve",)
"""Holds nothing: its bytes mean nothing."""
CONTENTS = {
    later(0): random.Random(1).randbytes(40 * BLOCK),
    later(1): random.Random(2).randbytes(20 * BLOCK),
    later(2): random.Random(3).randbytes(20 * BLOCK),
    later(3): random.Random(4).randbytes(20 * BLOCK),
}
PENDING = random.Random(5).randbytes(20 * BLOCK)
Damage = Callable[["Vault", Path], None]


class Vault:
    """A collection was interrupted: packs are condemned, a writer of another machine is there and about to commit."""

    def __init__(self, folder: Path) -> None:
        self.template = folder / "template"
        self.folder = folder / "vault"
        repository = Repository.create(self.template, block_bytes=BLOCK)
        for moment, content in CONTENTS.items():
            back_up(repository, content, moment=moment)
        _, middle, old, oldest = repository.points()
        repository.pin(old, why="a release", by="ana")
        repository.protect(middle, until=datetime.now(UTC) + timedelta(days=30), why="the law", by="ana")
        self.guarded = {old.manifest.moment, middle.manifest.moment}
        elsewhere = self._leave_a_writer_elsewhere(repository)
        with repository.collector("a test", limits=SMALL) as collector:
            collector.drop([oldest])
            collector.collect()
        storage = DirectoryStorage(self.template)
        with repository.writer("about to commit", limits=SMALL) as writer:
            disk = write_disk(writer, "vda", PENDING)
            written = commit(writer, (disk,), later(9))
        storage.delete(f"points/{written.manifest.vm.uuid}/{later(9):%Y%m%dT%H%M%SZ}-{written.id}")
        self.pending = announce(storage, elsewhere, written.manifest)
        self.mend()
        assert all(self.objects(kind) for kind in KINDS)

    def _leave_a_writer_elsewhere(self, repository: Repository) -> Lease:
        storage = DirectoryStorage(self.template)
        held = HeldLease(storage, "writer", "on another machine", 900)
        held.release()
        lease = replace(held.lease, boot_id="another")
        content = encode_frame(lease.key, FrameKind.LEASE, json.encode(lease), codec=FrameCodec.STORED)
        storage.create(lease.key, content)
        return lease

    def objects(self, kind: str) -> list[Path]:
        return sorted(path for path in self.folder.glob(f"{kind}/**/*") if path.is_file())

    def key(self, path: Path) -> str:
        return str(path.relative_to(self.folder))

    def mend(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self.template, self.folder)

    def check(self) -> set[str]:
        """Verify, collect, try to drop what is guarded; every point stays whole. What is damaged, by verification."""
        found = Repository.open(self.folder).verifier(VerifyRequest(Extent.FULL)).run()
        assert found.losses == ()
        self._collect()
        repository = Repository.open(self.folder)
        points = {point.manifest.moment: point for point in repository.points()}
        assert points.keys() == CONTENTS.keys() - {later(0)}
        for moment, point in points.items():
            assert restored(repository, point.manifest.disks[0]) == CONTENTS[moment]
        return {finding.object for finding in found.findings if finding.severity is not Severity.NOTE}

    def _collect(self) -> None:
        repository = Repository.open(self.folder)
        try:
            with repository.collector("a test", limits=SMALL) as collector:
                collector.collect()
        except (RepositoryDamaged, Conflict) as error:
            assert error.next_step

    def refuses_to_drop_what_is_guarded(self) -> bool:
        repository = Repository.open(self.folder)
        for point in repository.points():
            if point.manifest.moment not in self.guarded:
                continue
            try:
                with repository.collector("a test", limits=SMALL) as collector:
                    collector.drop([point])
            except NewhopeError:
                continue
            return False
        return True

    def commits_whole(self) -> bool:
        """Whether the point that is about to be committed would be whole if it were now."""
        repository = Repository.open(self.folder)
        try:
            return restored(repository, self.pending.manifest.disks[0]) == PENDING
        except NewhopeError:
            return False


@pytest.fixture(scope="module")
def vault() -> Iterator[Vault]:
    with fast_folder() as folder:
        yield Vault(folder)


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_bit_is_found_and_misleads_nobody(vault: Vault, kind: str):
    chance = random.Random(kind)
    for victim in vault.objects(kind):
        size = victim.stat().st_size
        for position in (0, 8, 11, 16, size // 2, size - 1, *(chance.randrange(size) for _ in range(4))):
            damaged = bytearray(victim.read_bytes())
            damaged[position] ^= 1 << chance.randrange(8)
            victim.write_bytes(damaged)
            _expect_found(vault, victim, Fault.FLIP, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_object_is_found_and_misleads_nobody(vault: Vault, kind: str):
    for victim in vault.objects(kind):
        content = victim.read_bytes()
        for length in (0, 1, 23, len(content) // 2, len(content) - 1):
            victim.write_bytes(content[:length])
            _expect_found(vault, victim, Fault.CUT, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_an_object_in_another_s_place_is_found_and_misleads_nobody(vault: Vault, kind: str):
    for victim in vault.objects(kind):
        for other in KINDS:
            for source in vault.objects(other):
                if victim != source:
                    victim.write_bytes(source.read_bytes())
                    _expect_found(vault, victim, Fault.EXCHANGED, kind)


def _expect_found(vault: Vault, victim: Path, fault: Fault, kind: str) -> None:
    key = vault.key(victim)
    refused = vault.refuses_to_drop_what_is_guarded()
    damaged = vault.check()
    vault_kept_pending = vault.commits_whole()
    vault.mend()
    assert refused
    assert damaged == (set() if kind in UNREADABLE else {key})
    assert vault_kept_pending
    count(fault, kind, harmless=kind in UNREADABLE)


@pytest.mark.parametrize("kind", KINDS)
def test_an_object_that_is_there_twice_does_no_harm(vault: Vault, kind: str):
    for victim in vault.objects(kind):
        name = victim.name
        shutil.copyfile(victim, victim.with_name(name[:-1] + ("0" if name[-1] != "0" else "1")))
        refused = vault.refuses_to_drop_what_is_guarded()
        vault.check()
        kept = vault.commits_whole()
        vault.mend()
        assert refused
        assert kept
        count(Fault.TWICE, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_an_object_that_is_missing_costs_no_listed_point(vault: Vault, kind: str):
    for victim in vault.objects(kind):
        victim.unlink()
        assert vault.check() == set()
        vault.mend()
        count(Fault.MISSING, kind)


def test_a_guard_that_is_missing_is_noted_by_the_next_verification(vault: Vault):
    Repository.open(vault.folder).verifier(VerifyRequest(Extent.FULL)).run()
    victim = vault.objects("guards")[0]
    victim.unlink()

    found = Repository.open(vault.folder).verifier(VerifyRequest(Extent.FULL)).run()
    vault.mend()
    assert {finding.object for finding in found.findings} == {vault.key(victim)}
