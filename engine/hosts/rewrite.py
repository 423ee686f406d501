"""A definition turned into that of another VM, on another host. Pure: a definition and choices in, a definition out.

1. Identity: name, UUID, and what repeats them (SMBIOS, generation id).
2. Disks: each restored one points to its new image, without the layers, keys and locks of the old one; a disk that
   was not restored is left out, for it would be the original's; drives lose media that are not on the new host.
3. Network cards: MAC as chosen, network as chosen.
4. Boot: NVRAM of its own, kernel and initial RAM disk where they are now, firmware chosen by the new host.
   A TPM's state is where the new host keeps such states, by the new UUID, and never the original's.
5. Machine, virtualisation type and CPU where the new host needs others.
6. What tied the VM to the old host is cut (`host_ties`).
"""

from __future__ import annotations

import secrets
from enum import StrEnum
from xml.etree.ElementTree import Element, SubElement

import msgspec
from msgspec import Struct

from engine.hosts.domain_xml import read_vm
from engine.hosts.host_ties import cut_host_ties, drop, drop_accelerator_features
from engine.hosts.model import Definition, HostFacts, Vm
from engine.hosts.xml_tree import attribute_of, parse, text_of, to_bytes


class NetworkKind(StrEnum):
    """What a network card of the new VM is plugged into."""

    KEEP = "keep"
    """What it was plugged into before, by name."""
    NETWORK = "network"
    """A network of the new host."""
    BRIDGE = "bridge"
    """A bridge of the new host."""
    USER = "user"
    """QEMU's own address translation, which needs nothing of the host."""
    UNPLUGGED = "unplugged"
    """The card is there, its cable is not: the guest sees the same hardware and reaches nobody."""
    REMOVED = "removed"
    """No card."""


class NetworkChoice(Struct, frozen=True):
    """What to do with one network card."""

    kind: NetworkKind = NetworkKind.KEEP
    name: str | None = None
    """Of the network or bridge."""


class ServedBelow(Struct, frozen=True):
    """What an image is a layer over: an export of an NBD server on a Unix socket of the host."""

    socket: str
    export: str


class CpuChoice(Struct, frozen=True):
    """The CPU that the new VM asks for: `host-model`, `maximum`, or `custom` with a model."""

    mode: str
    model: str | None = None


class Rewrite(Struct, frozen=True):
    """What becomes different. None and absent keys mean: as it was."""

    name: str
    uuid: str
    disk_paths: dict[str, tuple[str, str]]
    """Path and format of the new image, by target. Disks that are not here are left out."""
    block_disks: frozenset[str] = frozenset()
    """Targets of disks whose new image is a block device rather than a file."""
    served: dict[str, ServedBelow] = {}
    """By target, what a new image is a layer over. Such a disk pauses its guest where it cannot be read or written: a
    guest that is told of an error gives its file system up, and a server that has died may come back."""
    keep_media: frozenset[str] = frozenset()
    """Targets of drives whose media are on the new host too; all others are ejected."""
    macs: tuple[str, ...] | None = None
    """One for each network card, in order."""
    networks: dict[int, NetworkChoice] = {}
    """By number of the network card, from 0."""
    nvram_path: str | None = None
    """The new VM's own; None lets libvirt make one from the firmware's template, named after the VM."""
    kernel_path: str | None = None
    initrd_path: str | None = None
    machine: str | None = None
    virt_type: str | None = None
    """`kvm` or `qemu`."""
    cpu: CpuChoice | None = None
    host_devices: bool = False
    """Keep what is passed through from the host: PCI and USB devices, folders."""
    host_tuning: bool = False
    """Keep pinning to the host's CPUs and memory nodes, and huge pages."""


def rewrite(definition: Definition, changes: Rewrite, target: HostFacts | None = None) -> Definition:
    """The definition of the new VM; what `changes` leaves open is fitted to what the `target` host offers.

    Raises ValueError for choices that do not fit the definition.
    """
    domain = parse(definition.inactive)
    if target is not None:
        changes = fitted(changes, read_vm(domain, host=""), target)
    _set_identity(domain, changes)
    _set_disks(domain, changes)
    _set_nics(domain, changes)
    _set_boot(domain, changes)
    _set_tpm(domain)
    _set_machine(domain, changes)
    cut_host_ties(domain, host_devices=changes.host_devices, host_tuning=changes.host_tuning)
    return Definition(live=None, inactive=to_bytes(domain))


def fitted(changes: Rewrite, vm: Vm, target: HostFacts) -> Rewrite:
    """The changes, and those that the target host needs besides: emulation without KVM, a CPU that it has.

    A machine type is never replaced by another: the guest would find other hardware.
    """
    virt_type = changes.virt_type
    if virt_type is None and vm.virt_type == "kvm" and not target.kvm:
        virt_type = "qemu"
    cpu = changes.cpu
    if cpu is None and not _cpu_offered(vm, target):
        offered = [mode for mode in ("host-model", "maximum") if mode in target.cpu_modes]
        cpu = CpuChoice(offered[0]) if offered else None
    return msgspec.structs.replace(changes, virt_type=virt_type, cpu=cpu)


def _cpu_offered(vm: Vm, target: HostFacts) -> bool:
    if not vm.cpu_mode or not target.cpu_modes:
        return True
    if vm.cpu_mode not in target.cpu_modes:
        return False
    return vm.cpu_mode != "custom" or not target.cpu_models or vm.cpu_model in target.cpu_models


def new_mac() -> str:
    """A random address in QEMU's range."""
    return "52:54:00:" + ":".join(f"{byte:02x}" for byte in secrets.token_bytes(3))


def _set_identity(domain: Element, changes: Rewrite) -> None:
    _set_text(domain, "name", changes.name)
    old_uuid = text_of(domain, "uuid")
    _set_text(domain, "uuid", changes.uuid)
    for entry in domain.iterfind("sysinfo/system/entry[@name='uuid']"):
        # libvirt refuses a definition whose SMBIOS says another UUID.
        if (entry.text or "").strip() == old_uuid:
            entry.text = changes.uuid
    generation = domain.find("genid")
    if generation is not None:
        # A restored guest must learn that time went backwards: libvirt makes a new id for an empty one.
        generation.text = None


def _set_text(parent: Element, tag: str, text: str) -> None:
    element = parent.find(tag)
    if element is None:
        element = SubElement(parent, tag)
    element.text = text


def _set_disks(domain: Element, changes: Rewrite) -> None:
    devices = _devices(domain)
    targets = {attribute_of(disk, "target", "dev") for disk in devices.iterfind("disk")}
    unknown = set(changes.disk_paths) - targets
    if unknown:
        raise ValueError(f"The definition has no disk {', '.join(sorted(unknown))}.")
    for disk in devices.findall("disk"):
        target = attribute_of(disk, "target", "dev") or ""
        if target in changes.disk_paths:
            _point_to(disk, *changes.disk_paths[target], block=target in changes.block_disks)
            if target in changes.served:
                _put_over(disk, changes.served[target])
        elif disk.get("device", "disk") not in ("cdrom", "floppy"):
            devices.remove(disk)
        elif target not in changes.keep_media:
            _eject(disk)


def _point_to(disk: Element, path: str, image_format: str, *, block: bool) -> None:
    _forget_source(disk)
    disk.set("type", "block" if block else "file")
    if disk.get("device") == "lun":
        # A LUN passes SCSI commands to a device of the host; an image is a plain disk.
        disk.set("device", "disk")
    for attribute in ("sgio", "rawio"):
        disk.attrib.pop(attribute, None)
    driver = disk.find("driver")
    if driver is None:
        driver = Element("driver", name="qemu")
        disk.insert(0, driver)
    driver.set("type", image_format)
    position = list(disk).index(driver) + 1
    disk.insert(position, Element("source", dev=path) if block else Element("source", file=path))


def _put_over(disk: Element, below: ServedBelow) -> None:
    driver = disk.find("driver")
    if driver is not None:
        driver.set("error_policy", "stop")
        driver.set("rerror_policy", "stop")
    # Written out, libvirt need not look into the image for it, nor reach the server while the VM is defined.
    backing = Element("backingStore", type="network")
    SubElement(backing, "format", type="raw")
    source = SubElement(backing, "source", protocol="nbd", name=below.export)
    SubElement(source, "host", transport="unix", socket=below.socket)
    SubElement(backing, "backingStore")
    disk.insert([child.tag for child in disk].index("source") + 1, backing)


def _eject(disk: Element) -> None:
    _forget_source(disk)
    disk.set("type", "file")
    driver = disk.find("driver")
    if driver is not None:
        driver.attrib.pop("type", None)


def _forget_source(disk: Element) -> None:
    # The copy is plain: what it was read through had opened the encryption, and no layer is below it.
    for tag in ("source", "backingStore", "mirror", "encryption", "auth", "shareable", "transient"):
        drop(disk, tag)


def _set_nics(domain: Element, changes: Rewrite) -> None:
    devices = _devices(domain)
    nics = devices.findall("interface")
    if changes.macs is not None and len(changes.macs) != len(nics):
        raise ValueError(f"There are {len(nics)} network cards and {len(changes.macs)} addresses for them.")
    for number, nic in enumerate(nics):
        if changes.macs is not None:
            drop(nic, "mac")
            nic.insert(0, Element("mac", address=changes.macs[number]))
        choice = changes.networks.get(number, NetworkChoice())
        if choice.kind is NetworkKind.REMOVED:
            devices.remove(nic)
        elif choice.kind is not NetworkKind.KEEP:
            _plug(nic, choice)
        elif nic.get("type") == "hostdev" and not changes.host_devices:
            _plug(nic, NetworkChoice(NetworkKind.UNPLUGGED))


_PLUG_TAGS = (
    "source", "target", "virtualport", "filterref", "bandwidth", "vlan", "mtu", "guest", "script", "downscript",
    "backend", "portForward", "ip", "route", "driver", "teaming", "port", "tune",
)  # fmt: skip
"""What belongs to the old cable: a filter, a port of a switch, a tap device. The card itself (model, boot order, PCI
address, ROM) stays as the guest knows it."""


def _plug(nic: Element, choice: NetworkChoice) -> None:
    for tag in _PLUG_TAGS:
        drop(nic, tag)
    for attribute in ("managed", "trustGuestRxFilters"):
        nic.attrib.pop(attribute, None)
    kinds = {NetworkKind.NETWORK: "network", NetworkKind.BRIDGE: "bridge"}
    kind = kinds.get(choice.kind, "user")
    nic.set("type", kind)
    if kind != "user":
        if choice.name is None:
            raise ValueError(f"A network card is to be plugged into a {kind}, and none is named.")
        nic.insert(1, Element("source", {kind: choice.name}))
    if choice.kind is NetworkKind.UNPLUGGED:
        drop(nic, "link")
        SubElement(nic, "link", state="down")
    if nic.find("model") is None:
        SubElement(nic, "model", type="virtio")


def _set_boot(domain: Element, changes: Rewrite) -> None:
    system = domain.find("os")
    if system is None:
        return
    for tag, path in (("kernel", changes.kernel_path), ("initrd", changes.initrd_path)):
        element = system.find(tag)
        if element is not None and path is not None:
            element.text = path
    nvram = system.find("nvram")
    if nvram is not None:
        # Never the original's file: two VMs that write one NVRAM destroy it, and it is part of the point in time.
        drop(nvram, "source")
        nvram.attrib.pop("type", None)
        nvram.text = changes.nvram_path
    elif changes.nvram_path is not None:
        _set_text(system, "nvram", changes.nvram_path)
    if system.get("firmware") == "efi":
        _let_host_choose_firmware(system)
    nvram = system.find("nvram")
    if nvram is not None and not nvram.text and not nvram.attrib:
        system.remove(nvram)


def _set_tpm(domain: Element) -> None:
    for backend in domain.iterfind("devices/tpm/backend[@type='emulator']"):
        drop(backend, "source")


def _let_host_choose_firmware(system: Element) -> None:
    """`firmware='efi'` asks the host for a fitting image: the path that the old host had found must not stand."""
    loader = system.find("loader")
    if loader is not None:
        secure = loader.get("secure")
        system.remove(loader)
        if secure == "yes":
            system.insert(1, Element("loader", secure="yes"))
    nvram = system.find("nvram")
    if nvram is not None:
        nvram.attrib.pop("template", None)
        nvram.attrib.pop("templateFormat", None)


def _set_machine(domain: Element, changes: Rewrite) -> None:
    kind = domain.find("os/type")
    if changes.machine is not None and kind is not None:
        kind.set("machine", changes.machine)
    if changes.virt_type is not None and changes.virt_type != domain.get("type"):
        domain.set("type", changes.virt_type)
        if changes.virt_type == "qemu":
            drop_accelerator_features(domain)
    cpu = changes.cpu
    if cpu is None and domain.get("type") == "qemu" and attribute_of(domain, "cpu", "mode") == "host-passthrough":
        # Emulation has no host CPU to pass through; this is the richest that it offers.
        cpu = CpuChoice("maximum")
    if cpu is not None:
        _set_cpu(domain, cpu)


def _set_cpu(domain: Element, choice: CpuChoice) -> None:
    cpu = domain.find("cpu")
    if cpu is None:
        cpu = SubElement(domain, "cpu")
    kept = [child for child in cpu if child.tag in ("topology", "numa")]
    cpu.clear()
    cpu.set("mode", choice.mode)
    if choice.mode == "custom":
        if choice.model is None:
            raise ValueError("A custom CPU needs a model.")
        cpu.set("match", "exact")
        cpu.set("check", "partial")
        SubElement(cpu, "model", fallback="allow").text = choice.model
    cpu.extend(kept)


def _devices(domain: Element) -> Element:
    devices = domain.find("devices")
    return devices if devices is not None else SubElement(domain, "devices")
