"""Verification goes on where it was stopped, reads first what waited longest, and remembers what it found."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import patch

import msgspec
import pytest

from engine.repository import (
    Extent,
    Repository,
    Severity,
    Stage,
    Verification,
    Verifier,
    VerifyLimits,
    VerifyProgress,
    VerifyRequest,
    verify_history,
    verify_reading,
)
from engine.repository.directory_storage import DirectoryStorage
from engine.repository.identity import IDENTITY_KEY, decode_identity
from engine.repository.pack import pack_id_of
from engine.repository.verify_history import VerifyRecord, read_history
from engine.repository.verify_pack import check_pack
from tests.repository.building import BLOCK, back_up, later, mixed_disk, packs_of

FULL = VerifyRequest(Extent.FULL)
QUICK = VerifyRequest(Extent.QUICK)
ONE_BY_ONE = VerifyLimits(workers=1, batch_packs=1)


class Vault:
    """A repository of a good dozen packs, and a clock that the tests turn."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
        self.storage = DirectoryStorage(folder)
        back_up(Repository.create(folder, block_bytes=BLOCK), mixed_disk(300))

    @property
    def packs(self) -> set[bytes]:
        return {bytes.fromhex(path.name) for path in packs_of(self.folder)}

    def verifier(self, request: VerifyRequest, limits: VerifyLimits = ONE_BY_ONE) -> Verifier:
        identity = decode_identity(self.storage.read(IDENTITY_KEY), "vault")
        return Verifier(self.storage, identity, "vault", request, limits, lambda: self.now)

    def verify(self, request: VerifyRequest, limits: VerifyLimits = ONE_BY_ONE) -> Verification:
        return self.verifier(request, limits).run()

    def read_by(self, request: VerifyRequest) -> list[bytes]:
        """The packs that a verification reads, in its order."""
        read: list[bytes] = []

        def spy(storage: object, index: object, pack: bytes, *more: object) -> str | None:
            read.append(pack)
            return check_pack(storage, index, pack, *more)  # type: ignore[arg-type]

        with patch.object(verify_reading, "check_pack", spy):
            self.verify(request)
        return read

    def pass_time(self, **duration: float) -> None:
        self.now += timedelta(**duration)

    def stopped_after(self, packs: int, request: VerifyRequest = FULL, limits: VerifyLimits = ONE_BY_ONE) -> None:
        """A verification that somebody interrupts."""
        with pytest.raises(KeyboardInterrupt):
            self.verifier(request, limits).run(_after(packs, _interrupt))

    def records(self) -> list[VerifyRecord]:
        repository = Repository.open(self.folder)
        return [
            msgspec.json.decode(repository.record("verify", name), type=VerifyRecord)
            for name in repository.records("verify")
        ]


def _interrupt() -> None:
    raise KeyboardInterrupt


def _after(packs: int, do: Callable[[], None]) -> Callable[[VerifyProgress], None]:
    seen = 0

    def tell(progress: VerifyProgress) -> None:
        nonlocal seen
        if progress.stage is Stage.PACKS and progress.done:
            seen += 1
            if seen == packs:
                do()

    return tell


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    yield Vault(tmp_path / "vault")


def test_an_interrupted_full_verification_goes_on_where_it_stopped(vault: Vault):
    total = len(vault.packs)
    began = vault.now
    vault.stopped_after(5)
    vault.pass_time(hours=3)

    plan = vault.verifier(FULL).plan()
    found = vault.verify(FULL)

    assert plan.resumes == found.resumed == began
    assert plan.packs_to_read == found.packs_read == total - 5
    assert found.findings == ()
    vault.pass_time(hours=1)
    assert vault.verify(FULL).packs_read == total


def test_a_killed_full_verification_goes_on_after_its_last_batch(vault: Vault):
    total = len(vault.packs)
    child = os.fork()
    if child == 0:
        limits = VerifyLimits(workers=1, batch_packs=3)
        try:
            vault.verifier(FULL, limits).run(_after(8, lambda: os.kill(os.getpid(), signal.SIGKILL)))
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL

    found = vault.verify(FULL)

    assert found.packs_read == total - 6
    assert found.findings == ()
    assert {pack for record in vault.records() for group in record.sound for pack in group.packs} == {
        pack.hex() for pack in vault.packs
    }


def test_a_verification_killed_again_and_again_comes_to_its_end(vault: Vault):
    runs = 0
    while vault.verifier(FULL).plan().packs_to_read > 2:
        vault.stopped_after(2)
        vault.pass_time(minutes=1)
        runs += 1

    found = vault.verify(FULL)

    assert runs == (len(vault.packs) - 1) // 2
    assert found.packs_read <= 2
    assert len({record.run for record in vault.records()}) == 1


def test_damage_found_before_an_interruption_is_in_the_findings_at_the_end(vault: Vault):
    first = vault.read_by(VerifyRequest(Extent.SAMPLE, 1))[0]
    for path in (vault.folder / "records" / "verify").iterdir():
        path.unlink()
    victim = next(path for path in packs_of(vault.folder) if path.name == first.hex())
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    vault.stopped_after(4)

    found = vault.verify(FULL)

    assert [finding.severity for finding in found.findings] == [Severity.LOSS]
    assert found.packs_read == len(vault.packs) - 3


def test_after_a_month_nobody_goes_on_with_what_was_interrupted(vault: Vault):
    vault.stopped_after(5)
    vault.pass_time(days=31)

    found = vault.verify(FULL)

    assert found.resumed is None
    assert found.packs_read == len(vault.packs)


def test_a_verification_can_be_asked_to_begin_anew(vault: Vault):
    vault.stopped_after(5)
    vault.pass_time(hours=1)

    found = vault.verify(VerifyRequest(Extent.FULL, anew=True))

    assert found.resumed is None
    assert found.packs_read == len(vault.packs)
    vault.pass_time(hours=1)
    assert vault.verifier(FULL).plan().resumes is None


def test_packs_that_came_meanwhile_are_read_too(vault: Vault):
    vault.stopped_after(5)
    before = len(vault.packs)
    vault.pass_time(hours=1)
    back_up(Repository.open(vault.folder), mixed_disk(60, 9), moment=later(60))
    assert len(vault.packs) > before

    assert vault.verify(FULL).packs_read == len(vault.packs) - 5


def test_samples_read_what_waited_longest_and_so_come_around_to_every_pack(vault: Vault):
    quarter = VerifyRequest(Extent.SAMPLE, 25)
    rounds: list[list[bytes]] = []
    while not rounds or set().union(*rounds) != vault.packs:
        rounds.append(vault.read_by(quarter))
        vault.pass_time(days=1)

    assert len(rounds) == -(-len(vault.packs) // len(rounds[0]))
    first_round_again = vault.read_by(quarter)
    assert set(rounds[0]) - set(rounds[-1]) <= set(first_round_again)


def test_a_full_verification_reads_in_the_order_of_age(vault: Vault):
    sample = VerifyRequest(Extent.SAMPLE, 1)
    read_one_a_day: list[bytes] = []
    for _ in range(len(vault.packs)):
        read_one_a_day += vault.read_by(sample)
        vault.pass_time(days=1)

    assert len(set(read_one_a_day)) == len(vault.packs)
    assert vault.read_by(FULL) == read_one_a_day


def test_packs_that_were_never_read_come_first(vault: Vault):
    vault.verify(FULL)
    old = vault.packs
    vault.pass_time(days=300)
    back_up(Repository.open(vault.folder), mixed_disk(60, 9), moment=later(60))
    new = vault.packs - old

    plan = vault.verifier(FULL).plan()

    assert plan.never_read == len(new)
    assert plan.oldest == vault.now - timedelta(days=300)
    assert set(vault.read_by(FULL)[: len(new)]) == new


def test_a_verdict_of_the_future_does_not_make_a_pack_young(vault: Vault):
    vault.pass_time(days=400)
    vault.verify(FULL)
    vault.pass_time(days=-400)

    plan = vault.verifier(FULL).plan()

    assert plan.never_read == len(vault.packs)


def test_known_damage_is_looked_at_by_every_verification_until_it_is_mended(vault: Vault):
    victim = packs_of(vault.folder)[0]
    content = victim.read_bytes()
    victim.write_bytes(content[:-200] + bytes([content[-200] ^ 1]) + content[-199:])
    assert not vault.verify(FULL).sound
    vault.pass_time(days=1)

    for _ in range(3):
        found = vault.verify(QUICK)
        assert [finding.object for finding in found.findings] == [f"packs/{victim.parent.name}/{victim.name}"]
        vault.pass_time(days=1)
    victim.write_bytes(content)
    assert vault.verify(QUICK).packs_read == 1
    vault.pass_time(days=1)

    assert vault.verify(QUICK).packs_read == 0


def test_a_damaged_pack_that_is_gone_is_forgotten(vault: Vault):
    victim = packs_of(vault.folder)[0]
    victim.write_bytes(victim.read_bytes()[::-1])
    vault.verify(FULL)
    victim.unlink()

    found = vault.verify(QUICK)

    assert found.packs_read == 0
    assert [finding.what for finding in found.findings] == ["it is missing"]


def test_many_records_become_one_that_still_knows_every_age(vault: Vault):
    victim = packs_of(vault.folder)[0]
    victim.write_bytes(victim.read_bytes()[::-1])
    vault.verify(FULL)
    vault.pass_time(days=1)
    with patch.object(verify_history, "TOO_MANY_RECORDS", 12):
        vault.verify(VerifyRequest(Extent.SAMPLE, 40))
        vault.pass_time(days=1)

    (record,) = vault.records()
    after = read_history(vault.storage, vault.now, 30)
    ages = [(vault.now - verdict.at).days for verdict in after.verdicts.values()]
    assert len(record.replaces) >= len(vault.packs)
    assert set(after.verdicts) == vault.packs
    assert after.known_damaged() == {bytes.fromhex(victim.name)}
    assert ages.count(2) == len(vault.packs) - ages.count(1)
    assert ages.count(1) == math.ceil((len(vault.packs) - 1) * 0.4) + 1


def test_records_are_not_replaced_while_an_interrupted_run_waits_for_them(vault: Vault):
    with patch.object(verify_history, "TOO_MANY_RECORDS", 3):
        vault.stopped_after(5)
        vault.pass_time(hours=1)
        vault.verify(QUICK)

        found = vault.verify(FULL)

    assert found.packs_read == len(vault.packs) - 5


def test_records_that_cannot_be_removed_are_ignored_once_they_are_replaced(vault: Vault):
    with (
        patch.object(verify_history, "TOO_MANY_RECORDS", 3),
        patch.object(DirectoryStorage, "delete", lambda self, key: None),  # type: ignore[misc]
    ):
        vault.verify(FULL)
        vault.pass_time(days=1)

    history = read_history(vault.storage, vault.now, 30)
    assert len(history.names) > len(vault.packs)
    assert history.last is not None
    assert len(history.last.replaces) == len(history.names) - 1
    assert set(history.verdicts) == vault.packs


def test_a_damaged_record_of_a_verification_is_found_and_costs_only_its_ages(vault: Vault):
    vault.stopped_after(4)
    record = sorted((vault.folder / "records" / "verify").iterdir())[0]
    record.write_bytes(record.read_bytes()[:-1])

    found = vault.verify(FULL)

    assert [finding.object for finding in found.findings] == [f"records/verify/{record.name}"]
    assert found.packs_read == len(vault.packs) - 3


def test_the_findings_are_kept_with_the_points_they_hurt(vault: Vault):
    victim = packs_of(vault.folder)[0]
    victim.unlink()

    found = vault.verify(QUICK)

    last = vault.records()[-1]
    assert last.closes
    assert last.findings == found.findings
    assert last.findings[0].points
    assert pack_id_of(last.findings[0].object) == bytes.fromhex(victim.name)


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("window_bytes", [1, BLOCK, 1 << 22])
def test_any_number_of_workers_and_any_window_find_the_same(vault: Vault, workers: int, window_bytes: int):
    victim = packs_of(vault.folder)[3]
    content = bytearray(victim.read_bytes())
    content[1000] ^= 16
    victim.write_bytes(content)

    found = vault.verify(FULL, VerifyLimits(workers=workers, window_bytes=window_bytes))

    assert [pack_id_of(finding.object) for finding in found.findings] == [bytes.fromhex(victim.name)]
    assert found.packs_read == len(vault.packs)
