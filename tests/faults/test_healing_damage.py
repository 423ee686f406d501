"""What a killed repair leaves in `healing/`: nobody decides without it what is needed; damage to it is not served."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from engine.errors import NewhopeError
from engine.repository import Extent, Passphrase, RepairRequest, Repository, RepositoryDamaged, VerifyRequest
from tests.faults.figures import Fault, count
from tests.faults.repository_scenario import fast_folder
from tests.repository.building import BLOCK, PASSPHRASE, SMALL, back_up, later, mixed_disk, restored, unlock

CONTENTS = {later(number): mixed_disk(20, seed=number + 1) for number in range(3)}
HALFWAY = {"manifest": "points/*/*", "guard": "guards/*/*"}


class Vault:
    """A repair was killed when it had deleted a damaged object and had not yet created the sound one."""

    def __init__(self, top: Path, passphrase: Passphrase | None) -> None:
        self.copy = top / "copy"
        self.folder = top / "vault"
        repository = Repository.create(self.copy, block_bytes=BLOCK, passphrase=passphrase)
        for moment, content in CONTENTS.items():
            back_up(repository, content, moment=moment)
        oldest = repository.points()[-1]
        repository.protect(oldest, until=datetime.now(UTC) + timedelta(days=9), why="the law", by="ana")

    def stop_halfway(self, kind: str, *, brought: bool = False) -> Path:
        """The object in `healing/`, of which the oldest point has need."""
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self.copy, self.folder)
        victim = sorted(self.folder.glob(HALFWAY[kind]))[0]
        healing = self.folder / "healing" / victim.relative_to(self.folder)
        healing.parent.mkdir(parents=True)
        shutil.copyfile(victim, healing)
        if not brought:
            victim.unlink()
        return healing

    def open(self) -> Repository:
        return Repository.open(self.folder, unlock=unlock)

    def repair(self, *, with_copy: bool = False) -> None:
        copy = Repository.open(self.copy, unlock=unlock)
        repairer = self.open().repairer("a test", [copy.source()] if with_copy else [], limits=SMALL)
        repairer.apply(repairer.plan(RepairRequest()))

    def check_all_is_there(self) -> None:
        repository = self.open()
        points = repository.points()
        assert {point.manifest.moment for point in points} == CONTENTS.keys()
        for point in points:
            assert restored(repository, point.manifest.disks[0]) == CONTENTS[point.manifest.moment]
        assert set(repository.guarded()) == {points[-1].id}
        assert repository.verifier(VerifyRequest(Extent.FULL)).run().sound
        assert [path for path in self.folder.glob("healing/**/*") if path.is_file()] == []


@pytest.fixture(params=[None, PASSPHRASE], ids=["plain", "encrypted"])
def vault(request: pytest.FixtureRequest) -> Iterator[Vault]:
    with fast_folder() as top:
        yield Vault(top, request.param)


@pytest.mark.parametrize("brought", [False, True], ids=["gone from its place", "in its place again"])
@pytest.mark.parametrize("kind", HALFWAY)
def test_nothing_is_dropped_or_collected_until_the_repair_has_gone_on(vault: Vault, kind: str, brought: bool):
    vault.stop_halfway(kind, brought=brought)
    repository = vault.open()
    oldest = repository.points()[-1]

    with repository.collector("a test", limits=SMALL) as collector:
        for work in (lambda: collector.drop([oldest]), collector.collect):
            with pytest.raises(RepositoryDamaged, match="A repair was stopped") as caught:
                work()
            assert "newhope repo repair" in caught.value.next_step

    vault.repair()
    vault.check_all_is_there()
    with vault.open().collector("a test", limits=SMALL) as collector:
        collector.collect()
    vault.check_all_is_there()


def cut(content: bytes) -> bytes:
    return content[:-20]


def empty(_: bytes) -> bytes:
    return b""


def flipped(content: bytes) -> bytes:
    return content[:40] + bytes([content[40] ^ 4]) + content[41:]


@pytest.mark.parametrize(
    ("damage", "fault"),
    [(cut, Fault.CUT), (empty, Fault.CUT), (flipped, Fault.FLIP), (None, Fault.EXCHANGED)],
    ids=["cut", "empty", "flipped", "exchanged"],
)
@pytest.mark.parametrize("kind", HALFWAY)
def test_what_is_damaged_in_healing_is_kept_aside_and_never_put_in_place(
    vault: Vault, kind: str, damage: Callable[[bytes], bytes] | None, fault: Fault
):
    healing = vault.stop_halfway(kind)
    another = vault.folder / "newhope-repository" if kind == "guard" else sorted(vault.folder.glob("points/*/*"))[0]
    spoilt = another.read_bytes() if damage is None else damage(healing.read_bytes())
    healing.write_bytes(spoilt)

    vault.repair(with_copy=True)

    vault.check_all_is_there()
    assert spoilt in [path.read_bytes() for path in vault.folder.glob("quarantine/healing/**/*") if path.is_file()]
    count(fault, "healing")


def test_what_lies_in_quarantine_may_be_damaged_or_deleted(vault: Vault):
    vault.stop_halfway("manifest").write_bytes(b"")
    vault.repair(with_copy=True)
    (kept,) = [path for path in vault.folder.glob("quarantine/**/*") if path.is_file()]
    for content in (b"anything", kept.read_bytes() * 2):
        kept.write_bytes(content)
        vault.check_all_is_there()
        count(Fault.CUT, "quarantine", harmless=1)
    kept.unlink()
    vault.check_all_is_there()
    count(Fault.MISSING, "quarantine", harmless=1)


@pytest.mark.parametrize("vault", [PASSPHRASE], indirect=True, ids=["encrypted"])
def test_a_key_that_was_taken_away_does_not_come_back_from_healing(vault: Vault):
    shutil.rmtree(vault.folder, ignore_errors=True)
    shutil.copytree(vault.copy, vault.folder)
    office = Passphrase(b"zeus barium otter")
    slot = vault.open().add_key("office", office)
    healing = vault.folder / "healing" / "keys" / slot.id
    healing.parent.mkdir(parents=True)
    shutil.copyfile(vault.folder / "keys" / slot.id, healing)

    vault.open().remove_key("office")
    vault.repair()

    with pytest.raises(NewhopeError):
        Repository.open(vault.folder, unlock=lambda *_: office)
    vault.check_all_is_there()
