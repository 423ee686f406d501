"""Guests that stand still for their moment: paused, paused with their memory kept, and off but opened by QEMU."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from engine.backup.vm_notes import VmNotes
from engine.fleet import open_repository
from engine.hosts import resume, suspend
from engine.hosts.model import Vm, VmState
from engine.hosts.power import vm_state
from engine.lab.journal import ask_journal
from engine.repository import Consistency, Point, as_disk
from engine.settings import Method
from tests.e2e.conftest import Operator
from tests.e2e.test_incremental import content_now, content_of, make_it_run
from tests.hosts.live import files_in, in_guest

pytestmark = pytest.mark.lab


@pytest.fixture
def web(operator: Operator) -> Iterator[Vm]:
    vm = operator.vm("web")
    yield vm
    make_it_run(operator, vm)


def test_a_paused_backup_costs_a_moment_and_the_guest_does_not_know_it(operator: Operator, web: Vm) -> None:
    lane = operator.lanes[web.host]
    before = ask_journal(lane, web.uuid)

    point = operator.back_up("web", Method.PAUSED)

    after = ask_journal(lane, web.uuid)
    assert point.manifest.consistency is Consistency.CRASH
    assert point.manifest.consistency_note == "the VM was paused for the moment"
    assert point.manifest.downtime_s > 0
    assert after.boot_id == before.boot_id
    assert vm_state(lane, web.uuid) is VmState.RUNNING
    assert VmNotes(operator.settings.state).kept() == ()


def test_the_memory_is_of_the_same_moment_as_the_disks_and_leaves_no_file(operator: Operator, web: Vm) -> None:
    lane = operator.lanes[web.host]
    in_guest(lane, web, "echo only-in-memory-4711 > /run/marker")

    point = operator.back_up("web", Method.MEMORY)

    assert point.manifest.consistency is Consistency.MEMORY
    assert vm_state(lane, web.uuid) is VmState.RUNNING
    assert files_in(lane.host.scratch) == []
    state = saved_state_of(operator, point)
    assert state.startswith(b"LibvirtQemudSave")
    assert b"only-in-memory-4711" in state


def test_a_vm_that_somebody_has_paused_stays_so(operator: Operator, web: Vm) -> None:
    lane = operator.lanes[web.host]
    suspend(lane, web.uuid)
    try:
        point = operator.back_up("web", Method.MEMORY)
        truth = content_now(operator, web)

        assert vm_state(lane, web.uuid) is VmState.PAUSED
    finally:
        resume(lane, web.uuid)
    assert point.manifest.downtime_s == 0
    assert content_of(operator, point) == truth
    assert point.manifest.consistency is Consistency.MEMORY


def saved_state_of(operator: Operator, point: Point) -> bytes:
    (record,) = [file for file in point.manifest.files if file.role == "saved-state"]
    with open_repository(operator.settings.repositories[0]) as repository, repository.reader() as reader:
        return reader.read_range(as_disk(record), 0, record.size_bytes)
