from __future__ import annotations

import os
import uuid

import pytest

from engine.hosts import define, definition, find_vm, power_off, start, take_snapshot, vm_state, volumes
from engine.hosts.files_of_host import NoFiles
from engine.hosts.host_file import read_file
from engine.hosts.model import Definition, Vm, VmState
from engine.hosts.xml_tree import parse

MIB = 1024 * 1024
VNC = "<graphics type='vnc' autoport='yes' passwd='sesame'/>"
AGENT = "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
NIC = "<interface type='user'><mac address='52:54:00:00:00:09'/><model type='virtio'/></interface>"


def disk(path: object) -> str:
    return (
        f"<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{path}'/>"
        "<target dev='vda' bus='virtio'/></disk>"
    )


def put(lane, xml: str) -> Vm:
    define(lane, Definition(live=None, inactive=xml.encode()))
    name = parse(xml).findtext("name") or ""
    return find_vm(take_snapshot(lane, timeout_s=30), name)


def test_a_vm_that_is_off_has_one_definition_and_a_running_one_has_two(lane, tiny_vm) -> None:
    vm = put(lane, tiny_vm())

    assert definition.read(lane, vm.uuid).live is None
    start(lane, vm.uuid)
    both = definition.read(lane, vm.uuid)

    assert both.live is not None
    assert parse(both.live).get("id") is not None
    assert parse(both.inactive).get("id") is None


def test_passwords_are_part_of_the_definition(lane, tiny_vm) -> None:
    vm = put(lane, tiny_vm(devices=VNC))

    assert b"passwd='sesame'" in definition.read(lane, vm.uuid).inactive


def test_a_definition_describes_the_vm_that_it_would_make(lane, tiny_vm, bare_host) -> None:
    vm = put(lane, tiny_vm(devices=disk(bare_host.image("a.qcow2")) + NIC + AGENT))

    described = definition.describe(definition.read(lane, vm.uuid), "elsewhere")

    assert (described.name, described.uuid, described.host) == (vm.name, vm.uuid, "elsewhere")
    assert (described.nics, described.machine, described.memory_bytes) == (vm.nics, vm.machine, vm.memory_bytes)


def test_kernel_initial_ram_disk_and_nvram_are_read_byte_for_byte(lane, tiny_vm, bare_host) -> None:
    kernel, initrd = bare_host.layout.folder / "kernel", bare_host.layout.folder / "initrd"
    kernel.write_bytes(os.urandom(70_001))
    initrd.write_bytes(os.urandom(3 * MIB))
    paths = f"<kernel>{kernel}</kernel><initrd>{initrd}</initrd>"
    direct = put(lane, tiny_vm("direct", os=paths))
    uefi = put(lane, tiny_vm("uefi").replace("<os>", "<os firmware='efi'>"))
    start(lane, uefi.uuid, paused=True)

    files = {file.role: file for file in definition.boot_files(lane, direct)}
    (nvram,) = definition.boot_files(lane, uefi)

    assert set(files) == {"kernel", "initrd"}
    assert files["kernel"].content == kernel.read_bytes()
    assert files["initrd"].content == initrd.read_bytes()
    assert (nvram.role, nvram.content) == ("nvram", nvram.path.read_bytes())
    assert nvram.path.name == "uefi_VARS.fd"


def test_nvram_of_a_vm_that_is_off_is_found_though_its_definition_does_not_name_it(lane, tiny_vm) -> None:
    uefi = put(lane, tiny_vm("uefi").replace("<os>", "<os firmware='efi'>"))
    start(lane, uefi.uuid, paused=True)
    power_off(lane, uefi.uuid)

    (nvram,) = definition.boot_files(lane, uefi)

    assert nvram.path.name == "uefi_VARS.fd"
    assert nvram.content == nvram.path.read_bytes()


def test_nvram_of_a_vm_that_is_off_is_found_though_its_bridge_is_not_there(lane, tiny_vm) -> None:
    uefi = put(lane, tiny_vm("uefi").replace("<os>", "<os firmware='efi'>"))
    start(lane, uefi.uuid, paused=True)
    power_off(lane, uefi.uuid)
    card = b"<interface type='bridge'><source bridge='nh-gone'/></interface></devices>"
    with_card = definition.read(lane, uefi.uuid).inactive.replace(b"</devices>", card).decode()
    lane.run(lambda connection: connection.defineXML(with_card).name())

    (nvram,) = definition.boot_files(lane, uefi)

    assert nvram.path.name == "uefi_VARS.fd"


def test_a_vm_that_never_ran_has_no_nvram_yet(lane, tiny_vm) -> None:
    uefi = put(lane, tiny_vm("uefi").replace("<os>", "<os firmware='efi'>"))

    assert definition.boot_files(lane, uefi) == ()


def test_a_kernel_that_is_missing_is_an_error_that_names_it(lane, tiny_vm) -> None:
    vm = put(lane, tiny_vm("direct", os="<kernel>/nonexistent/vmlinuz</kernel>"))

    with pytest.raises(definition.BootFileUnreadable, match="/nonexistent/vmlinuz"):
        definition.boot_files(lane, vm)


def test_files_that_only_the_host_may_read_come_through_a_pool_that_is_gone_after(
    lane, bare_host, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = bare_host.account.folder(bare_host.layout.folder / "private & more")
    file = folder / "VARS.fd"
    file.write_bytes(os.urandom(540_672))
    bare_host.account.own(file)
    # As for a host elsewhere, whose paths mean nothing here.
    monkeypatch.setattr(lane.reach, "files", NoFiles("bare", "nobody shows them"))

    assert read_file(lane, file) == file.read_bytes()
    assert [pool.name for pool in take_snapshot(lane, timeout_s=30).pools] == ["default"]
    in_pool = volumes.put_file(lane, "default", "kernel", b"kernel")
    assert read_file(lane, type(file)(in_pool)) == b"kernel"


def test_the_pools_and_networks_that_a_vm_uses_are_kept_with_it(lane, tiny_vm, bare_host) -> None:
    inside = put(lane, tiny_vm("inside", devices=disk(bare_host.image("a.qcow2"))))
    without = put(lane, tiny_vm("without"))

    capabilities, pool = definition.related_definitions(lane, inside)

    assert capabilities.role == "capabilities"
    assert b"<capabilities>" in capabilities.content
    assert (pool.role, pool.name) == ("pool", "default")
    assert parse(pool.content).findtext("target/path") == str(bare_host.layout.pool)
    assert [each.role for each in definition.related_definitions(lane, without)] == ["capabilities"]


def test_a_copy_beside_the_original_is_accepted_by_libvirt_and_runs_with_it(lane, tiny_vm, bare_host) -> None:
    kernel = bare_host.layout.folder / "kernel"
    devices = disk(bare_host.image("a.qcow2")) + NIC + AGENT + VNC
    tpm = "<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>"
    drive = (
        f"<disk type='file' device='cdrom'><source file='{kernel}'/><target dev='sda' bus='sata'/><readonly/></disk>"
    )
    kernel.write_bytes(b"media")
    xml = tiny_vm("original", devices=devices + tpm + drive).replace("<os>", "<os firmware='efi'>")
    original = put(lane, xml)
    start(lane, original.uuid)
    nvram, tpm_state = definition.boot_files(lane, original)
    assert (nvram.role, tpm_state.role) == ("nvram", "tpm")
    new_uuid = str(uuid.uuid4())

    changed = definition.rewrite(
        definition.read(lane, original.uuid),
        definition.Rewrite(
            name="copy",
            uuid=new_uuid,
            disk_paths={"vda": (volumes.create(lane, "default", "copy-vda.qcow2", "qcow2", 64 * MIB), "qcow2")},
            macs=(definition.new_mac(),),
            nvram_path=volumes.put_file(lane, "default", "copy-nvram.fd", nvram.content),
        ),
        take_snapshot(lane, timeout_s=30).facts,
    )
    define(lane, changed)
    start(lane, new_uuid)

    snapshot = take_snapshot(lane, timeout_s=30)
    copy, before = find_vm(snapshot, "copy"), find_vm(snapshot, "original")
    assert (copy.state, before.state) == (VmState.RUNNING, VmState.RUNNING)
    assert copy.nvram != before.nvram
    assert copy.disks[1].source is None
    assert (copy.machine, copy.memory_bytes, copy.tpm, copy.firmware) == (
        before.machine,
        before.memory_bytes,
        before.tpm,
        before.firmware,
    )
    assert copy.nics[0].mac != before.nics[0].mac
    power_off(lane, new_uuid)
    assert vm_state(lane, original.uuid) is VmState.RUNNING
