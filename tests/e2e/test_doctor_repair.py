"""`newhope doctor --repair`: what killed jobs have left goes, and nothing that is anybody else's."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import libvirt_qemu
import pytest

from engine.backup.vm_notes import VmNotes
from engine.hosts import HostLane, checkpoints, image, resume, suspend
from engine.hosts.model import Vm, VmState
from engine.hosts.power import vm_state
from engine.lab import Lab
from engine.settings import Method
from tests.command import newhope
from tests.e2e.conftest import Operator
from tests.e2e.killing import back_up_killed_after
from tests.hosts.live import files_in
from tests.waiting import wait_for

pytestmark = [pytest.mark.lab, pytest.mark.slow]


def doctor(lab: Lab, *words: str) -> tuple[int, dict[str, Any]]:
    command = newhope(lab.settings_file, "doctor", "--repair", "--json", *words)
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert "Traceback" not in done.stderr
    return done.returncode, json.loads(done.stdout)["repair"]


def redefine(lane: HostLane, vm: Vm, name: str) -> None:
    """Make libvirt know a checkpoint as it does after its records were lost: without a bitmap being made."""
    xml = (
        f"<domaincheckpoint><name>{name}</name><creationTime>1764306000</creationTime><disks>"
        f"<disk name='vda' checkpoint='bitmap' bitmap='{name}'/></disks></domaincheckpoint>"
    )
    lane.run(lambda connection: connection.lookupByUUIDString(vm.uuid).checkpointCreateXML(xml, 1))


def kill_the_second_process(vm: Vm) -> None:
    """What would bring the guest back at once dies as well, as it does with its machine."""
    found = subprocess.run(["pgrep", "-f", f"vm_guard .*{vm.uuid}"], capture_output=True, text=True).stdout
    for pid in found.split():
        os.kill(int(pid), signal.SIGKILL)


def bitmaps_in_qemu(lane: HostLane, vm: Vm) -> set[str]:
    """Names of all dirty bitmaps of a running VM, as QEMU itself tells."""
    ask = '{"execute": "query-named-block-nodes"}'
    told = lane.run(lambda connection: libvirt_qemu.qemuMonitorCommand(connection.lookupByUUIDString(vm.uuid), ask, 0))
    return {each["name"] for node in json.loads(told)["return"] for each in node.get("dirty-bitmaps", ())}


def begin_unrecorded_bitmap(lane: HostLane, vm: Vm, state: Path) -> str:
    """What a backup leaves whose libvirt dies after QEMU has begun the bitmap and before it has a record of it."""
    name = checkpoints.new_name()
    dying = os.fork()
    if dying == 0:
        VmNotes(state).begin_mark(vm.host, vm.uuid, name)
        os._exit(0)
    os.waitpid(dying, 0)
    xml = (
        f"<domaincheckpoint><name>{name}</name><disks><disk name='vda' checkpoint='bitmap'/></disks></domaincheckpoint>"
    )
    lane.run(lambda connection: connection.lookupByUUIDString(vm.uuid).checkpointCreateXML(xml))
    checkpoints.forget(lane, vm.uuid, name)
    assert name in bitmaps_in_qemu(lane, vm)
    return name


@pytest.mark.guests("db")
def test_what_killed_jobs_left_is_shown_then_put_right(operator: Operator, lab: Lab, tmp_path: Path) -> None:
    web, db = operator.vm("web"), operator.vm("db")
    lane = operator.lane("web")
    begin_unrecorded_bitmap(lane, web, lab.settings.state)
    parent = operator.back_up("web").manifest.checkpoint
    assert bitmaps_in_qemu(lane, web) == {parent}, "the next backup takes away what only QEMU knew"
    assert back_up_killed_after(operator, web, Method.HOT, "virDomainBackupBegin", tmp_path) == "virDomainBackupBegin"
    assert (
        back_up_killed_after(operator, db, Method.COLD, "virDomainShutdownFlags", tmp_path) == "virDomainShutdownFlags"
    )
    kill_the_second_process(db)
    assert wait_for(lambda: vm_state(lane, db.uuid) is VmState.OFF)

    status, shown = doctor(lab, "--dry-run")
    assert status == 13
    assert vm_state(lane, db.uuid) is VmState.OFF
    status, done = doctor(lab, "--yes")

    found = {(each["vm"], each["kind"]) for each in shown["leftovers"]}
    assert {("web", "backup job"), ("db", "guest left off")} <= found
    assert status == 0
    assert {job["state"] for job in done["jobs"]} == {"done"}
    assert vm_state(lane, db.uuid) is VmState.RUNNING
    assert files_in(lane.host.scratch) == []
    assert doctor(lab, "--dry-run") == (0, {"leftovers": [], "unseen": [], "waiting": []})
    # The checkpoint that the killed job had begun goes with its own; what the last point needs stays.
    assert checkpoints.own_checkpoints(lane, web.uuid) == (parent,)
    lab.wait_until_up(db.host, db.name)


def test_what_is_not_newhopes_is_no_leftover_and_a_bitmap_of_its_own_that_only_qemu_knows_is_one(
    operator: Operator, lab: Lab
) -> None:
    web = operator.vm("web")
    lane = operator.lane("web")
    theirs = (
        "<domaincheckpoint><name>virtnbdbackup.0</name><disks><disk name='vda' checkpoint='bitmap'/></disks>"
        "</domaincheckpoint>"
    )
    lane.run(lambda connection: connection.lookupByUUIDString(web.uuid).checkpointCreateXML(theirs))
    suspend(lane, web.uuid)
    try:
        before = bitmaps_in_qemu(lane, web)
        ours = begin_unrecorded_bitmap(lane, web, lab.settings.state)
        status, done = doctor(lab, "--yes")

        assert status == 0
        assert [(each["vm"], each["kind"], each["name"]) for each in done["leftovers"]] == [
            ("web", "dirty bitmap", ours)
        ]
        assert "virtnbdbackup.0" in before
        assert bitmaps_in_qemu(lane, web) == before
        assert vm_state(lane, web.uuid) is VmState.PAUSED
        assert [each.name for each in checkpoints.known_checkpoints(lane, web.uuid)].count("virtnbdbackup.0") == 1
    finally:
        resume(lane, web.uuid)
        lane.run(
            lambda connection: (
                connection.lookupByUUIDString(web.uuid).checkpointLookupByName("virtnbdbackup.0").delete()
            )
        )


def test_marks_that_no_point_needs_go_from_the_images_of_a_vm_that_is_off(operator: Operator, lab: Lab) -> None:
    build = operator.vm("build")
    lane = operator.lane("build")
    disk = build.disks[0]
    assert disk.source is not None
    known, lost, theirs = checkpoints.new_name(), checkpoints.new_name(), "somebody-elses"
    for name in (known, lost, theirs):
        subprocess.run(["qemu-img", "bitmap", "--add", disk.source, name], check=True)
    redefine(lane, build, known)

    status, done = doctor(lab, "--yes")

    found = {(each["kind"], each["name"]) for each in done["leftovers"]}
    assert {("checkpoint", known), ("dirty bitmap", lost)} == found
    assert status == 0
    assert [each.name for each in image.info(disk.source, disk.format).bitmaps] == [theirs]
    assert checkpoints.known_checkpoints(lane, build.uuid) == ()
    subprocess.run(["qemu-img", "bitmap", "--remove", disk.source, theirs], check=True)
