"""The restore journal: entries outlive their process, nobody else reads them, and their end is theirs to say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from msgspec import structs

from engine.errors import Conflict, NotFound
from engine.restore import AtEnd, Entry, Phase, Request, RestoreJournal, Settlement, hangs, overdue, refuse
from engine.restore.journal import KEPT_ENTRIES, Mark
from engine.restore.model import RestoredDisk
from engine.restore.rates import Rates
from engine.restore.steps import StepKind
from tests.builders import NOW


def entry_of(identity: str, phase: Phase = Phase.UNDER_WAY, **changes: object) -> Entry:
    request = Request("vault", "uuid", "point", "coruscant", name="web-restored", id=identity)
    return structs.replace(Entry(identity, "web", NOW, request, phase, NOW, NOW), **changes)


def test_what_was_saved_is_found_by_any_process_and_read_by_nobody_else(tmp_path: Path):
    saved = RestoreJournal(tmp_path).save(entry_of("3f9a0001"))

    assert RestoreJournal(tmp_path).find("3f9a") == saved
    assert (tmp_path / "restores" / "3f9a0001.json").stat().st_mode & 0o077 == 0


def test_an_id_that_is_not_one_restores_is_refused(tmp_path: Path):
    journal = RestoreJournal(tmp_path)
    journal.save(entry_of("3f9a0001"))
    journal.save(entry_of("3f9a0002"))

    with pytest.raises(Conflict, match="2 restores"):
        journal.find("3f9a")
    with pytest.raises(NotFound):
        journal.find("77")


def test_a_damaged_file_hides_no_other_entry(tmp_path: Path):
    journal = RestoreJournal(tmp_path)
    journal.save(entry_of("3f9a0001"))
    (tmp_path / "restores" / "aaaaaaaa.json").write_bytes(b"{ half")

    assert [entry.id for entry in journal.entries()] == ["3f9a0001"]


def test_only_what_is_over_is_ever_forgotten(tmp_path: Path):
    journal = RestoreJournal(tmp_path)
    journal.save(entry_of("ffffffff", Phase.KEPT, created=NOW - timedelta(days=900)))
    for number in range(KEPT_ENTRIES + 3):
        journal.save(entry_of(f"{number:08x}", Phase.COMMITTED, created=NOW + timedelta(seconds=number)))

    journal.forget_oldest()

    left = {entry.id for entry in journal.entries()}
    assert len(left) == KEPT_ENTRIES + 1
    assert "ffffffff" in left
    assert "00000000" not in left


@pytest.mark.parametrize(
    ("phase", "end", "fine"),
    [
        (Phase.UNDER_WAY, AtEnd.UNDO, True),
        (Phase.UNDER_WAY, AtEnd.COMMIT, False),
        (Phase.KEPT, AtEnd.UNDO, True),
        (Phase.KEPT, AtEnd.COMMIT, True),
        (Phase.UNDOING, AtEnd.COMMIT, False),
        (Phase.COMMITTING, AtEnd.UNDO, False),
        (Phase.COMMITTED, AtEnd.UNDO, False),
        (Phase.UNDONE, AtEnd.COMMIT, False),
    ],
)
def test_an_end_that_a_restore_cannot_come_to_is_refused(phase: Phase, end: AtEnd, fine: bool):
    entry = entry_of("3f9a0001", phase)

    if fine:
        refuse(entry, end)
    else:
        with pytest.raises(Conflict):
            refuse(entry, end)


def test_a_vm_that_still_hangs_on_its_recovery_point_can_be_undone_and_not_committed():
    disk = RestoredDisk("vda", "/pool/web.qcow2", "qcow2", 1, 1, "root", overlay="/pool/web.layer.qcow2")
    hanging = entry_of("3f9a0001", Phase.KEPT, disks=(disk,))

    refuse(hanging, AtEnd.UNDO)
    with pytest.raises(Conflict, match="not in their place") as refused:
        refuse(hanging, AtEnd.COMMIT)
    assert "newhope restores resume 3f9a0001" in refused.value.next_step


@pytest.mark.parametrize("started", [True, False])
def test_a_vm_hangs_on_a_restore_from_its_start_until_its_disks_are_in_their_place(started: bool):
    disk = RestoredDisk("vda", "/pool/web.qcow2", "qcow2", 1, 1, "root", overlay="/pool/web.layer.qcow2")
    marks = (Mark("start", "start it", NOW),) if started else ()

    assert hangs(entry_of("3f9a0001", disks=(disk,), marks=marks)) is started
    assert not hangs(entry_of("3f9a0001", Phase.UNDONE, disks=(disk,), marks=marks))
    assert not hangs(entry_of("3f9a0001", disks=(structs.replace(disk, overlay=""),), marks=marks))


def test_what_was_agreed_for_a_restore_is_due_when_its_time_is_over_and_not_before(tmp_path: Path):
    now = datetime.now(UTC)
    kept = entry_of("3f9a0001", Phase.KEPT, keep_until=now)
    agreed = structs.replace(kept, request=structs.replace(kept.request, at_end=AtEnd.UNDO))

    assert overdue([agreed], now) == (Settlement("3f9a0001", AtEnd.UNDO),)
    assert overdue([agreed], now - timedelta(seconds=1)) == ()
    assert overdue([kept], now) == ()
    assert overdue([structs.replace(agreed, phase=Phase.COMMITTED)], now) == ()


def test_the_expected_time_of_a_step_follows_what_was_measured_on_its_host():
    measured = Rates().measured("yavin", StepKind.WRITE, 100 << 20, "qcow2", 2.0)

    assert measured.expected_s("yavin", StepKind.WRITE, 200 << 20, "qcow2") == pytest.approx(4.0)
    assert measured.expected_s("yavin", StepKind.WRITE, 200 << 20, "raw") is None
    assert measured.expected_s("coruscant", StepKind.WRITE, 200 << 20, "qcow2") is None
    slower = measured.measured("yavin", StepKind.WRITE, 100 << 20, "qcow2", 4.0)
    assert slower.expected_s("yavin", StepKind.WRITE, 100 << 20, "qcow2") == pytest.approx(2.4)
