"""The practice guests: who they are, and their definitions for libvirt.

They differ on purpose: qcow2 and raw, one disk and two, BIOS and UEFI, with and without an agent, running and off. None
refers to a file outside its host's pool and boot folders, and none names a socket: restored beside the original, each
would otherwise reach for the other's.
"""

from __future__ import annotations

import uuid
from pathlib import Path
from xml.etree import ElementTree

from msgspec import Struct

from engine.lab.acceleration import Acceleration
from engine.lab.layout import HostLayout

MIB = 1024 * 1024
AGENT_CHANNEL = "org.qemu.guest_agent.0"


class DiskPlan(Struct, frozen=True):
    """One disk of a practice guest."""

    target: str
    format: str
    size_bytes: int
    label: str
    """Label of its ext4, by which the guest knows its purpose: `data` holds the journal, `second` its echo."""


class GuestPlan(Struct, frozen=True):
    """One practice guest."""

    name: str
    host: str
    disks: tuple[DiskPlan, ...]
    memory_bytes: int = 160 * MIB
    machine: str = "q35"
    firmware: str = "bios"
    agent: bool = True
    running: bool = True
    history_lines: int = 0
    """Journal lines already on the disk of a guest that has never been started here."""

    def file_name(self, disk: DiskPlan) -> str:
        """Name of the disk's file in the pool."""
        return f"{self.name}-{disk.target}.{'qcow2' if disk.format == 'qcow2' else 'img'}"


HOSTS = ("alderaan", "coruscant", "yavin")

_DATA = DiskPlan("vda", "qcow2", 512 * MIB, "data")

GUESTS = (
    GuestPlan("web", "alderaan", (_DATA,)),
    GuestPlan("db", "alderaan", (_DATA, DiskPlan("vdb", "raw", 256 * MIB, "second"))),
    GuestPlan("vault", "coruscant", (_DATA,), memory_bytes=192 * MIB, firmware="efi"),
    GuestPlan("legacy", "coruscant", (DiskPlan("vda", "raw", 384 * MIB, "data"),), machine="pc", agent=False),
    GuestPlan("build", "yavin", (DiskPlan("vda", "qcow2", 1024 * MIB, "data"),), running=False, history_lines=600),
)


def guest_uuid(folder: Path, name: str) -> str:
    """The guest's UUID: the same after every `up` of the same lab, different in two labs."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"newhope-lab:{folder}/{name}"))


def definition(guest: GuestPlan, host: HostLayout, lab_folder: Path, acceleration: Acceleration) -> str:
    """The guest's definition (libvirt formatdomain)."""
    domain = ElementTree.Element("domain", type=acceleration.value)
    _text(domain, "name", guest.name)
    _text(domain, "uuid", guest_uuid(lab_folder, guest.name))
    _text(domain, "title", f"newhope practice guest {guest.name}")
    _text(domain, "memory", str(guest.memory_bytes), unit="b")
    _text(domain, "vcpu", "1")
    _boot(domain, guest, host)
    features = ElementTree.SubElement(domain, "features")
    ElementTree.SubElement(features, "acpi")
    ElementTree.SubElement(features, "apic")
    _text(domain, "on_poweroff", "destroy")
    _text(domain, "on_reboot", "restart")
    _text(domain, "on_crash", "destroy")
    devices = ElementTree.SubElement(domain, "devices")
    for disk in guest.disks:
        _disk(devices, disk, host.pool / guest.file_name(disk))
    network_card = ElementTree.SubElement(devices, "interface", type="user")
    ElementTree.SubElement(network_card, "model", type="virtio")
    # Guests boot from their kernel file; the network boot program would only cost time, most of all under UEFI.
    ElementTree.SubElement(network_card, "rom", enabled="no")
    ElementTree.SubElement(ElementTree.SubElement(devices, "serial", type="pty"), "target", port="0")
    ElementTree.SubElement(ElementTree.SubElement(devices, "console", type="pty"), "target", type="serial", port="0")
    if guest.agent:
        channel = ElementTree.SubElement(devices, "channel", type="unix")
        ElementTree.SubElement(channel, "target", type="virtio", name=AGENT_CHANNEL)
    random = ElementTree.SubElement(devices, "rng", model="virtio")
    _text(random, "backend", "/dev/urandom", model="random")
    ElementTree.SubElement(devices, "memballoon", model="none")
    return ElementTree.tostring(domain, encoding="unicode")


def pool_definition(host: HostLayout) -> str:
    """The host's storage pool `default` (libvirt formatstorage)."""
    pool = ElementTree.Element("pool", type="dir")
    _text(pool, "name", "default")
    _text(ElementTree.SubElement(pool, "target"), "path", str(host.pool))
    return ElementTree.tostring(pool, encoding="unicode")


def network_definition(number: int) -> str:
    """The host's network `default` (libvirt formatnetwork), which a session daemon keeps but cannot start."""
    network = ElementTree.Element("network")
    _text(network, "name", "default")
    ElementTree.SubElement(network, "forward", mode="nat")
    ElementTree.SubElement(network, "bridge", name=f"nh-br{number}")
    address = ElementTree.SubElement(network, "ip", address=f"192.168.{150 + number}.1", netmask="255.255.255.0")
    dhcp = ElementTree.SubElement(address, "dhcp")
    ElementTree.SubElement(dhcp, "range", start=f"192.168.{150 + number}.2", end=f"192.168.{150 + number}.254")
    return ElementTree.tostring(network, encoding="unicode")


def _boot(domain: ElementTree.Element, guest: GuestPlan, host: HostLayout) -> None:
    attributes = {"firmware": "efi"} if guest.firmware == "efi" else {}
    system = ElementTree.SubElement(domain, "os", attributes)
    _text(system, "type", "hvm", arch="x86_64", machine=guest.machine)
    if guest.firmware == "efi":
        # Secure boot would want a signed path from firmware to kernel and SMM, which emulation makes very slow.
        firmware = ElementTree.SubElement(system, "firmware")
        ElementTree.SubElement(firmware, "feature", enabled="no", name="secure-boot")
    _text(system, "kernel", str(host.boot / "vmlinuz"))
    _text(system, "initrd", str(host.boot / "initrd"))
    # A loaded machine emulates the timer too late for the kernel, whose check of it ends in a panic now and then; after
    # any panic the guest boots again, as a server would. What protects a guest from others, and the kernel's tests of
    # its ciphers, are a tenth of an emulated boot.
    options = "console=ttyS0 quiet no_timer_check panic=2 mitigations=off nokaslr cryptomgr.notests"
    _text(system, "cmdline", f"{options} newhope.vm={guest.name}")


def _disk(devices: ElementTree.Element, disk: DiskPlan, path: Path) -> None:
    element = ElementTree.SubElement(devices, "disk", type="file", device="disk")
    ElementTree.SubElement(element, "driver", name="qemu", type=disk.format, discard="unmap")
    ElementTree.SubElement(element, "source", file=str(path))
    ElementTree.SubElement(element, "target", dev=disk.target, bus="virtio")


def _text(parent: ElementTree.Element, tag: str, text: str, **attributes: str) -> None:
    ElementTree.SubElement(parent, tag, attributes).text = text
