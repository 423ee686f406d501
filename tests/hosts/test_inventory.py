from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from engine.errors import NotFound
from engine.hosts import HostLane, HostUnreachable, find_vm, inventory, start, suspend, take_snapshot
from engine.hosts.model import AgentState, HostSnapshot, HostStatus, Vm, VmState
from engine.lab.daemon import qemu_processes
from engine.settings import Host
from tests.waiting import wait_for

MIB = 1024 * 1024
AGENT = "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"


def disk(path: Path, target: str = "vda", image_format: str = "qcow2") -> str:
    return (
        f"<disk type='file' device='disk'><driver name='qemu' type='{image_format}'/><source file='{path}'/>"
        f"<target dev='{target}' bus='virtio'/></disk>"
    )


def put(lane: HostLane, xml: str) -> str:
    return lane.run(lambda connection: connection.defineXML(xml).UUIDString())


def seen(lane: HostLane, name: str = "tiny") -> Vm:
    return find_vm(take_snapshot(lane, timeout_s=30), name)


def test_an_empty_host_tells_its_facts_pools_and_networks(lane: HostLane) -> None:
    snapshot = take_snapshot(lane, timeout_s=30)

    assert (snapshot.status, snapshot.host, snapshot.reason) == (HostStatus.ONLINE, "bare", None)
    facts = snapshot.facts
    assert facts is not None
    assert facts.local
    machine_id = Path("/etc/machine-id")
    assert facts.machine_id == (machine_id.read_text().strip() if machine_id.exists() else None)
    assert facts.arch == "x86_64"
    assert "q35" in facts.machines
    assert {"maximum", "custom"} <= set(facts.cpu_modes)
    assert "qemu64" in facts.cpu_models
    assert 0 < facts.memory_free_bytes <= facts.memory_bytes
    assert facts.libvirt_version.count(".") == 2
    (pool,) = snapshot.pools
    assert (pool.name, pool.kind, pool.active) == ("default", "dir", True)
    assert 0 < pool.available_bytes <= pool.capacity_bytes
    assert snapshot.vms == ()


def test_a_vm_that_is_off_is_seen_with_the_sizes_of_its_disks(lane, bare_host, tiny_vm) -> None:
    image, plain = bare_host.image("a.qcow2"), bare_host.image("b.raw", image_format="raw", size="8M")
    put(lane, tiny_vm(devices=disk(image) + disk(plain, "vdb", "raw") + AGENT))

    vm = seen(lane)

    assert (vm.state, vm.agent, vm.job) == (VmState.OFF, AgentState.DISCONNECTED, None)
    assert [d.capacity_bytes for d in vm.disks] == [64 * MIB, 8 * MIB]
    assert 0 < vm.disks[0].allocation_bytes < MIB
    assert vm.disks[1].allocation_bytes <= 4096
    assert [d.bitmaps_possible for d in vm.disks] == [True, False]
    assert vm.persistent
    assert not vm.autostart


def test_a_running_vm_is_seen_with_what_its_images_take_up(lane, bare_host, tiny_vm) -> None:
    image, plain = bare_host.image("a.qcow2"), bare_host.image("b.raw", image_format="raw", size="8M")
    uuid = put(lane, tiny_vm(devices=disk(image) + disk(plain, "vdb", "raw")))
    start(lane, uuid)

    vm = seen(lane)

    assert (vm.state, vm.agent) == (VmState.RUNNING, AgentState.ABSENT)
    assert [d.capacity_bytes for d in vm.disks] == [64 * MIB, 8 * MIB]
    assert vm.disks[1].allocation_bytes <= 4096
    suspend(lane, uuid)
    assert seen(lane).state is VmState.PAUSED


def test_a_running_vm_is_said_to_have_the_cpu_that_was_asked_for(lane, tiny_vm) -> None:
    uuid = put(lane, tiny_vm(extra="<cpu mode='host-model'/>"))
    start(lane, uuid)

    # The live definition spells the model out, as mode custom.
    assert seen(lane).cpu_mode == "host-model"


def test_qcow2_of_version_two_cannot_keep_bitmaps(lane, bare_host, tiny_vm) -> None:
    old = bare_host.image("old.qcow2", "-o", "compat=0.10")
    put(lane, tiny_vm(devices=disk(old)))

    assert not seen(lane).disks[0].bitmaps_possible


def test_layers_of_a_running_vms_image_are_listed(lane, bare_host, tiny_vm) -> None:
    base = bare_host.image("base.qcow2")
    top = bare_host.image("top.qcow2", "-b", str(base), "-F", "qcow2")
    uuid = put(lane, tiny_vm(devices=disk(top)))
    start(lane, uuid)

    assert seen(lane).disks[0].backing == (str(base),)


def test_a_volume_is_resolved_to_its_path_and_sizes(lane, bare_host, tiny_vm) -> None:
    image = bare_host.image("v.raw", image_format="raw", size="8M")
    lane.run(lambda connection: connection.storagePoolLookupByName("default").refresh())
    volume = (
        "<disk type='volume' device='disk'><driver name='qemu' type='raw'/>"
        "<source pool='default' volume='v.raw'/><target dev='vda' bus='virtio'/></disk>"
    )
    put(lane, tiny_vm(devices=volume))

    (only,) = seen(lane).disks

    assert (only.source_kind, only.source, only.capacity_bytes) == ("volume", str(image), 8 * MIB)


def test_a_vm_whose_image_is_missing_hides_no_other_vm(lane, bare_host, tiny_vm) -> None:
    put(lane, tiny_vm("broken", devices=disk(bare_host.layout.pool / "missing.qcow2")))
    put(lane, tiny_vm("whole", devices=disk(bare_host.image("a.qcow2"))))

    snapshot = take_snapshot(lane, timeout_s=30)

    assert [(vm.name, vm.disks[0].capacity_bytes) for vm in snapshot.vms] == [("broken", 0), ("whole", 64 * MIB)]


def test_a_backup_and_a_block_job_under_way_are_named(lane, bare_host, tiny_vm) -> None:
    uuid = put(lane, tiny_vm(devices=disk(bare_host.image("a.qcow2"))))
    start(lane, uuid)
    assert seen(lane).job is None

    socket = bare_host.layout.folder / "nbd.sock"
    backup = f"<domainbackup mode='pull'><server transport='unix' socket='{socket}'/></domainbackup>"
    lane.run(lambda connection: connection.lookupByUUIDString(uuid).backupBegin(backup, None), timeout_s=30)
    assert (seen(lane).job or "").startswith("a backup by another program")
    lane.run(lambda connection: connection.lookupByUUIDString(uuid).abortJob())
    assert wait_for(lambda: seen(lane).job is None)

    copy = f"<disk type='file'><driver type='qcow2'/><source file='{bare_host.layout.pool}/copy.qcow2'/></disk>"

    def begin_copy(connection) -> None:
        import libvirt

        domain = connection.lookupByUUIDString(uuid)
        domain.blockCopy("vda", copy, {}, libvirt.VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB)

    lane.run(begin_copy)
    assert seen(lane).job == "a block copy of vda"


def test_a_vm_whose_qemu_hangs_is_shown_as_such_beside_the_others(lane, bare_host, tiny_vm, monkeypatch) -> None:
    hung = put(lane, tiny_vm("hung", devices=disk(bare_host.image("a.qcow2"))))
    put(lane, tiny_vm("well", devices=disk(bare_host.image("b.qcow2"))))
    lane.run(lambda connection: connection.storagePoolLookupByName("default").refresh())
    start(lane, hung)
    take_snapshot(lane, timeout_s=30)
    (process,) = qemu_processes(bare_host.layout)
    asked: list[bool] = []
    ask = inventory._ask

    def ask_and_tell(lane: HostLane, timeout_s: float, *, ask_qemu: bool) -> HostSnapshot:
        asked.append(ask_qemu)
        return ask(lane, timeout_s, ask_qemu=ask_qemu)

    monkeypatch.setattr(inventory, "_ask", ask_and_tell)
    os.kill(process.pid, signal.SIGSTOP)
    try:
        first = take_snapshot(lane, timeout_s=8)
        second = take_snapshot(lane, timeout_s=60)
    finally:
        os.kill(process.pid, signal.SIGCONT)

    for snapshot in (first, second):
        assert [(vm.name, vm.state, vm.job) for vm in snapshot.vms] == [
            ("hung", VmState.RUNNING, "its QEMU does not answer"),
            ("well", VmState.OFF, None),
        ]
        assert [vm.disks[0].capacity_bytes for vm in snapshot.vms] == [64 * MIB, 64 * MIB]
    # Once without an answer and then around it; the second time it is known to be hung, and is not asked again.
    assert asked == [True, False, True]


def test_a_transient_vm_and_one_that_starts_by_itself_are_marked(lane, tiny_vm) -> None:
    lane.run(lambda connection: connection.createXML(tiny_vm("fleeting")).name(), timeout_s=30)
    uuid = put(lane, tiny_vm("early"))
    lane.run(lambda connection: connection.lookupByUUIDString(uuid).setAutostart(1))

    snapshot = take_snapshot(lane, timeout_s=30)

    assert not find_vm(snapshot, "fleeting").persistent
    assert find_vm(snapshot, "early").autostart


def test_two_hundred_vms_are_read_at_once(lane, bare_host, tiny_vm) -> None:
    for number in range(200):
        image = bare_host.layout.pool / f"{number}.qcow2"
        put(lane, tiny_vm(f"vm-{number:03}", devices=disk(image) + AGENT))
    template = bare_host.image("template.qcow2")
    for number in range(200):
        subprocess.run(["cp", str(template), str(bare_host.layout.pool / f"{number}.qcow2")], check=True)
        bare_host.account.own(bare_host.layout.pool / f"{number}.qcow2")
    take_snapshot(lane, timeout_s=30)

    started = time.monotonic()
    snapshot = take_snapshot(lane, timeout_s=30)
    took_s = time.monotonic() - started

    print(f"200 VMs in {took_s:.2f} s")
    assert len(snapshot.vms) == 200
    assert all(vm.disks[0].capacity_bytes == 64 * MIB for vm in snapshot.vms)


def test_a_vm_is_found_by_name_and_by_uuid_and_a_wrong_name_by_what_it_is_like(lane, tiny_vm) -> None:
    uuid = put(lane, tiny_vm("webserver"))
    snapshot = take_snapshot(lane, timeout_s=30)

    assert find_vm(snapshot, "webserver").uuid == find_vm(snapshot, uuid).uuid == find_vm(snapshot, uuid.upper()).uuid
    with pytest.raises(NotFound) as missing:
        find_vm(snapshot, "webservr")
    assert "webserver" in missing.value.next_step


def test_looking_for_a_vm_on_a_dead_host_says_why_the_host_is_dead() -> None:
    dead = take_snapshot(HostLane(Host(name="dead", uri="qemu+unix:///session?socket=/nonexistent")))

    with pytest.raises(HostUnreachable, match="/nonexistent"):
        find_vm(dead, "web")


def test_libvirts_own_practice_driver_can_be_read_too() -> None:
    snapshot = take_snapshot(HostLane(Host(name="practice", uri="test:///default")))

    assert snapshot.status is HostStatus.ONLINE
    assert [vm.name for vm in snapshot.vms] == ["test"]
