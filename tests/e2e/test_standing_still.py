"""Guests that stand still for their moment: paused, paused with their memory kept, and off but opened by QEMU."""

from __future__ import annotations

import os
import random
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import libvirt
import pytest

from engine.backup.vm_notes import VmNotes
from engine.fleet import CheckState, open_repository
from engine.hosts import resume, suspend
from engine.hosts.model import Vm, VmState
from engine.hosts.power import vm_state
from engine.lab import Lab
from engine.lab.journal import ask_journal
from engine.lab.layout import layout_of
from engine.repository import Consistency, Point, as_disk
from engine.settings import Method
from tests.e2e.conftest import Operator
from tests.e2e.test_incremental import content_now, content_of, make_it_run, reason
from tests.e2e.test_interruptions import pool_files
from tests.hosts.live import files_in, in_guest
from tests.waiting import wait_for

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
    last = operator.back_up("web")
    in_guest(lane, web, "echo only-in-memory-4711 > /run/marker")

    point = operator.back_up("web", Method.MEMORY)

    assert point.manifest.consistency is Consistency.MEMORY
    assert reason(point) == f"what was written since web@{last.id[:8]}"
    assert vm_state(lane, web.uuid) is VmState.RUNNING
    assert files_in(lane.host.scratch) == []
    state = saved_state_of(operator, point)
    assert state.startswith(b"LibvirtQemudSave")
    assert b"only-in-memory-4711" in state


def test_a_vm_that_somebody_has_paused_stays_so(operator: Operator, web: Vm) -> None:
    lane = operator.lanes[web.host]
    operator.back_up("web")
    suspend(lane, web.uuid)
    try:
        point = operator.back_up("web", Method.MEMORY)
        truth = content_now(operator, web)

        assert vm_state(lane, web.uuid) is VmState.PAUSED
    finally:
        resume(lane, web.uuid)
    assert point.manifest.downtime_s == 0
    assert reason(point).startswith("what was written since")
    assert content_of(operator, point) == truth
    assert point.manifest.consistency is Consistency.MEMORY


def saved_state_of(operator: Operator, point: Point) -> bytes:
    (record,) = [file for file in point.manifest.files if file.role == "saved-state"]
    with open_repository(operator.settings.repositories[0]) as repository, repository.reader() as reader:
        return reader.read_range(as_disk(record), 0, record.size_bytes)


def test_a_guest_goes_on_where_it_stood_on_another_host(operator: Operator, web: Vm, lab: Lab) -> None:
    """Its host dies after the backup; it comes back elsewhere with what was only in its memory."""
    lane = operator.lanes[web.host]
    in_guest(lane, web, "echo only-in-memory-4712 > /run/marker")
    point = operator.back_up("web", Method.MEMORY)
    before = ask_journal(lane, web.uuid)
    lane.run(lambda connection: connection.lookupByUUIDString(web.uuid).destroy() and None)
    definition = take_away(operator, web)
    try:
        restored = operator.restore(point, "coruscant")

        there = operator.lanes["coruscant"]
        now = ask_journal(there, restored.uuid)
        assert (restored.uuid, restored.name) == (web.uuid, "web")
        assert in_guest(there, restored, "cat /run/marker").strip() == "only-in-memory-4712"
        assert now.boot_id == before.boot_id
        assert wait_for(lambda: (ask_journal(there, restored.uuid).acked or 0) > (now.acked or 0))
        assert [name for name in pool_files(operator, "coruscant") if "memory" in name] == []
        assert reason(operator.back_up("web")).startswith("what was written since")
    finally:
        operator.remove_restored()
        lane.run(lambda connection: connection.defineXML(definition) and None)


def test_beside_its_original_a_guest_boots_from_its_disks_and_the_plan_says_so(operator: Operator, web: Vm) -> None:
    point = operator.back_up("web", Method.MEMORY)

    plan = operator.plan_restore(point, "coruscant")

    assert plan.request.memory is False
    (check,) = [each for each in plan.checks if each.name == "saved memory"]
    assert check.state is CheckState.WARN
    assert "web on alderaan" in check.evidence
    assert "--no-memory" in plan.command


def take_away(operator: Operator, vm: Vm) -> str:
    """Undefine a VM whose disks stay; its definition."""

    def work(connection: Any) -> str:
        domain = connection.lookupByUUIDString(vm.uuid)
        definition: str = domain.XMLDesc(2)
        domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA)
        return definition

    return operator.lanes[vm.host].run(work)


@pytest.fixture
def far_disk(operator: Operator, tmp_path: Path) -> Iterator[tuple[Vm, bytes]]:
    """A VM that is off, with a disk that only QEMU can open: it lies behind an NBD server."""
    content = random.Random(3).randbytes(3 << 20)
    image = tmp_path / "far.raw"
    image.write_bytes(content)
    listening = layout_of(operator.lab.folder).host("yavin").scratch / "far.sock"
    server = subprocess.Popen(["qemu-nbd", "-f", "raw", "-t", "-e", "8", "-x", "far", "-k", listening, image])
    lane = operator.lanes["yavin"]
    definition = (
        "<domain type='qemu'><name>far</name><memory unit='MiB'>32</memory><os><type arch='x86_64'>hvm</type></os>"
        "<devices><disk type='network' device='disk'><driver name='qemu' type='raw'/><source protocol='nbd' name='far'>"
        f"<host transport='unix' socket='{listening}'/></source><target dev='vda'/></disk></devices></domain>"
    )
    try:
        assert wait_for(listening.exists)
        listening.chmod(0o777)
        lane.run(lambda connection: connection.defineXML(definition) and None)
        yield operator.vm("far"), content
    finally:
        lane.run(lambda connection: connection.lookupByName("far").undefineFlags(16) and None)
        server.terminate()
        server.wait()
        listening.unlink(missing_ok=True)


def test_a_disk_that_only_qemu_can_open_is_read_from_a_vm_that_is_off_and_stays_off(
    operator: Operator, far_disk: tuple[Vm, bytes]
) -> None:
    vm, content = far_disk

    point = operator.back_up("far")

    assert vm_state(operator.lanes["yavin"], vm.uuid) is VmState.OFF
    assert "its CPUs did not run" in point.manifest.consistency_note
    assert point.manifest.consistency is Consistency.OFF
    with open_repository(operator.settings.repositories[0]) as repository, repository.reader() as reader:
        assert reader.read_range(point.manifest.disks[0], 0, len(content)) == content


def test_a_vm_that_was_started_to_be_read_is_off_again_when_its_backup_is_killed(
    operator: Operator, far_disk: tuple[Vm, bytes]
) -> None:
    vm, _ = far_disk
    lane = operator.lanes["yavin"]
    job = operator.start_backup("far")
    assert wait_for(lambda: vm_state(lane, vm.uuid) is VmState.PAUSED or operator.journal.job(job.id).state.over)

    pid = operator.journal.job(job.id).pid
    if pid is not None and not operator.journal.job(job.id).state.over:
        os.kill(pid, signal.SIGKILL)
    operator.finish(job)

    assert wait_for(lambda: vm_state(lane, vm.uuid) is VmState.OFF)
    operator.back_up("far")
    assert vm_state(lane, vm.uuid) is VmState.OFF
