from __future__ import annotations

from pathlib import Path

import pytest

from engine.hosts.domain_xml import read_vm
from engine.hosts.model import AgentState, Disk, Nic, Vm
from engine.hosts.xml_tree import parse

DOMAINS = Path(__file__).parent / "domains"


def vm_of(name: str) -> Vm:
    return read_vm(parse((DOMAINS / f"{name}.xml").read_bytes()), host="alderaan")


def vm_from(inner: str) -> Vm:
    return read_vm(parse(f"<domain type='qemu'><name>n</name><uuid>u</uuid>{inner}</domain>"), host="alderaan")


def test_identity_size_and_machine_are_read() -> None:
    vm = vm_of("plain")

    assert (vm.name, vm.uuid, vm.host) == ("plain", "4cf57f92-4da2-4fe4-8582-d303a651aa5f", "alderaan")
    assert (vm.vcpus, vm.memory_bytes) == (2, 64 * 1024 * 1024)
    assert (vm.arch, vm.machine, vm.virt_type) == ("x86_64", "pc-q35-7.2", "qemu")
    assert (vm.cpu_mode, vm.cpu_model) == ("custom", "qemu64")
    assert (vm.firmware, vm.nvram, vm.tpm) == ("bios", None, False)


@pytest.mark.parametrize(
    ("memory", "size_bytes"),
    [
        ("<memory>1024</memory>", 1024**2),
        ("<memory unit='KiB'>1024</memory>", 1024**2),
        ("<memory unit='b'>1048576</memory>", 1024**2),
        ("<memory unit='MB'>1</memory>", 1000**2),
        ("<memory unit='GiB'>3</memory>", 3 * 1024**3),
    ],
)
def test_memory_is_read_in_every_unit(memory: str, size_bytes: int) -> None:
    assert vm_from(memory).memory_bytes == size_bytes


def test_disks_are_read_with_their_kind_format_and_source() -> None:
    disks = vm_of("plain").disks

    assert disks[0] == Disk(
        target="vda",
        device="disk",
        source_kind="file",
        source="/srv/pool/plain.qcow2",
        format="qcow2",
        bus="virtio",
        capacity_bytes=0,
        allocation_bytes=0,
    )
    assert (disks[1].source_kind, disks[1].source, disks[1].format) == ("volume", "default/plain-2.raw", "raw")
    assert (disks[2].device, disks[2].source, disks[2].read_only) == ("cdrom", "/srv/iso/install.iso", True)


def test_only_qcow2_that_is_written_to_can_keep_bitmaps() -> None:
    assert [disk.bitmaps_possible for disk in vm_of("plain").disks] == [True, False, False]


def test_layers_below_an_image_are_listed_nearest_first() -> None:
    disk = vm_of("live").disks[0]

    assert disk.source == "/pool/web-top.qcow2"
    assert disk.backing == ("/pool/web-middle.qcow2", "/dev/vg0/base")
    assert disk.encrypted


def test_network_block_and_empty_drives_have_a_printable_source_or_none() -> None:
    disks = vm_of("live").disks

    assert [disk.source for disk in disks[1:]] == ["rbd://mon1/pool/image", "/dev/mapper/lun0", None]
    assert [disk.device for disk in disks] == ["disk", "disk", "lun", "cdrom"]


def test_network_cards_are_read_in_order_with_small_letters() -> None:
    assert vm_of("plain").nics == (
        Nic(mac="52:54:00:f0:e4:70", kind="network", source="default", model="virtio"),
        Nic(mac="52:54:00:00:00:02", kind="bridge", source="br0", model="e1000e"),
    )
    assert vm_of("live").nics[0].source == "eth0"


@pytest.mark.parametrize(
    ("inner", "firmware", "nvram"),
    [
        ("<os firmware='efi'/>", "efi", None),
        ("<os><loader type='pflash'>/f</loader><nvram>/n</nvram></os>", "efi", "/n"),
        ("<os><loader type='pflash'>/f</loader><nvram type='file'><source file='/n2'/></nvram></os>", "efi", "/n2"),
        ("<os><loader type='rom'>/f</loader></os>", "bios", None),
        ("<os firmware='bios'/>", "bios", None),
        ("", "bios", None),
    ],
)
def test_firmware_is_efi_by_choice_or_by_its_loader(inner: str, firmware: str, nvram: str | None) -> None:
    vm = vm_from(inner)

    assert (vm.firmware, vm.nvram) == (firmware, nvram)


@pytest.mark.parametrize(
    ("channel", "state"),
    [
        ("", AgentState.ABSENT),
        ("<channel type='unix'><target name='com.redhat.spice.0'/></channel>", AgentState.ABSENT),
        ("<channel type='unix'><target name='org.qemu.guest_agent.0'/></channel>", AgentState.DISCONNECTED),
        (
            "<channel type='unix'><target name='org.qemu.guest_agent.0' state='disconnected'/></channel>",
            AgentState.DISCONNECTED,
        ),
        (
            "<channel type='unix'><target name='org.qemu.guest_agent.0' state='connected'/></channel>",
            AgentState.CONNECTED,
        ),
    ],
)
def test_the_agents_state_is_that_of_its_channel(channel: str, state: AgentState) -> None:
    assert vm_from(f"<devices>{channel}</devices>").agent is state


@pytest.mark.parametrize(
    ("cpu", "mode", "model"),
    [
        ("", "", None),
        ("<cpu mode='host-passthrough'/>", "host-passthrough", None),
        ("<cpu match='exact'><model>Haswell</model></cpu>", "custom", "Haswell"),
        ("<cpu><topology sockets='1' cores='2' threads='1'/></cpu>", "", None),
    ],
)
def test_a_cpu_that_names_a_model_without_a_mode_is_custom(cpu: str, mode: str, model: str | None) -> None:
    vm = vm_from(cpu)

    assert (vm.cpu_mode, vm.cpu_model) == (mode, model)


def test_boot_files_host_devices_and_tpm_are_named() -> None:
    assert vm_of("plain").boot_files == ("/srv/boot/vmlinuz", "/srv/boot/initrd")
    assert vm_of("live").tpm
    assert vm_of("live").host_devices == (
        "pci 0000:01:00.0",
        "usb 046d:c52b",
        "usb bus 1 device 3",
        "mdev c2177883-f1bb-47f0-914d-32a22e3a8804",
        "pci 0000:3b:02.1",
    )


def test_what_is_not_xml_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="not XML"):
        parse("<domain>")


@pytest.mark.parametrize(
    ("metadata", "tags"),
    [
        ("", ()),
        ("<metadata/>", ()),
        (
            "<metadata><newhope:tags xmlns:newhope='urn:newhope:tags'> gold\nnobackup </newhope:tags></metadata>",
            ("gold", "nobackup"),
        ),
        ("<metadata><x:tags xmlns:x='urn:newhope:tags'>a,b, a</x:tags></metadata>", ("a", "b")),
        ("<metadata><x:tags xmlns:x='urn:somebody:else'>gold</x:tags></metadata>", ()),
        ("<metadata><x:tags xmlns:x='urn:newhope:tags'/></metadata>", ()),
    ],
)
def test_tags_are_read_from_the_metadata_of_our_namespace_only(metadata: str, tags: tuple[str, ...]) -> None:
    assert vm_from(metadata).tags == tags
