"""What the note of a dead process still asks for, the VM being as it is found."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from engine.backup.leftovers import SHUTDOWN_WITHIN, LeftoverKind, what_is_left
from engine.hosts.backup_job import WorkOnVm
from engine.hosts.model import VmState
from engine.hosts.owner import Owner
from engine.hosts.vm_note import Act, VmNote

BEGAN = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)
SOON = BEGAN + timedelta(seconds=5)
LATER = BEGAN + SHUTDOWN_WITHIN + timedelta(seconds=1)


def note(act: Act) -> VmNote:
    return VmNote(act=act, owner=Owner("ffffff", 1, 1), domain_id=7, began=BEGAN)


def found(state: VmState, domain_id: int) -> WorkOnVm:
    return WorkOnVm(state=state, domain_id=domain_id, job=None, note=None)


@pytest.mark.parametrize(
    ("act", "state", "domain_id", "now", "left"),
    [
        (Act.FROZEN, VmState.RUNNING, 7, SOON, LeftoverKind.FROZEN),
        (Act.FROZEN, VmState.PAUSED, 7, LATER, LeftoverKind.FROZEN),
        # It was started anew since: nothing of the freeze can be left.
        (Act.FROZEN, VmState.RUNNING, 8, LATER, LeftoverKind.NOTE),
        (Act.FROZEN, VmState.OFF, -1, LATER, LeftoverKind.NOTE),
        (Act.PAUSED, VmState.PAUSED, 7, LATER, LeftoverKind.PAUSED),
        # Its owner has resumed it, or has paused a later run of it.
        (Act.PAUSED, VmState.RUNNING, 7, LATER, LeftoverKind.NOTE),
        (Act.PAUSED, VmState.PAUSED, 8, LATER, LeftoverKind.NOTE),
        (Act.PAUSED, VmState.OFF, -1, LATER, LeftoverKind.NOTE),
        # Asked to shut down, and may yet obey; then it has not.
        (Act.SHUT_DOWN, VmState.RUNNING, 7, SOON, LeftoverKind.SHUT_DOWN),
        (Act.SHUT_DOWN, VmState.RUNNING, 7, LATER, LeftoverKind.NOTE),
        (Act.SHUT_DOWN, VmState.OFF, -1, LATER, LeftoverKind.SHUT_DOWN),
        (Act.SHUT_DOWN, VmState.CRASHED, -1, LATER, LeftoverKind.SHUT_DOWN),
        # Started again, paused for the moment, and left so; or running as it should.
        (Act.SHUT_DOWN, VmState.PAUSED, 8, LATER, LeftoverKind.SHUT_DOWN),
        (Act.SHUT_DOWN, VmState.RUNNING, 8, SOON, LeftoverKind.NOTE),
        # Its owner has paused it before it could shut down.
        (Act.SHUT_DOWN, VmState.PAUSED, 7, SOON, LeftoverKind.NOTE),
        (Act.STARTED, VmState.PAUSED, 7, LATER, LeftoverKind.STARTED),
        (Act.STARTED, VmState.RUNNING, 7, LATER, LeftoverKind.NOTE),
        (Act.STARTED, VmState.OFF, -1, LATER, LeftoverKind.NOTE),
    ],
)
def test_only_what_newhope_did_and_nobody_has_undone_since_is_left(
    act: Act, state: VmState, domain_id: int, now: datetime, left: LeftoverKind
) -> None:
    assert what_is_left(note(act), found(state, domain_id), now) is left
