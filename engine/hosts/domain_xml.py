"""A VM as its domain XML describes it (https://libvirt.org/formatdomain.html). Pure: XML in, values out.

What only a host can say (state, sizes, jobs) is left at rest here and filled in by the inventory.
"""

from __future__ import annotations

from xml.etree.ElementTree import Element

from engine.hosts.model import AgentState, Disk, Nic, Vm, VmState
from engine.hosts.xml_tree import attribute_of, size_of, text_of

AGENT_CHANNEL = "org.qemu.guest_agent.0"
TAGS_NAMESPACE = "urn:newhope:tags"
"""Of the element `<tags>` in the VM's metadata; `virsh metadata VM --uri urn:newhope:tags --key newhope --set ...`."""

_SOURCE_ATTRIBUTES = {"file": "file", "block": "dev", "dir": "dir", "vhostuser": "path", "vhostvdpa": "dev"}
_NIC_SOURCE_ATTRIBUTES = {
    "network": "network",
    "bridge": "bridge",
    "direct": "dev",
    "ethernet": "dev",
    "internal": "name",
    "vdpa": "dev",
    "vhostuser": "path",
}


def read_vm(domain: Element, *, host: str) -> Vm:
    """The VM of a `<domain>` element, with the state it has in a definition: off."""
    cpu = domain.find("cpu")
    return Vm(
        uuid=text_of(domain, "uuid") or "",
        name=text_of(domain, "name") or "",
        host=host,
        state=VmState.OFF,
        agent=read_agent(domain),
        disks=tuple(read_disk(disk) for disk in domain.iterfind("devices/disk")),
        nics=tuple(_read_nic(nic) for nic in domain.iterfind("devices/interface")),
        vcpus=int(text_of(domain, "vcpu") or 1),
        memory_bytes=size_of(domain, "memory", default_unit="KiB"),
        arch=attribute_of(domain, "os/type", "arch") or "",
        machine=attribute_of(domain, "os/type", "machine") or "",
        virt_type=domain.get("type", ""),
        cpu_mode=_cpu_mode(cpu),
        cpu_model=text_of(cpu, "model") if cpu is not None else None,
        firmware=_firmware(domain),
        nvram=nvram_path(domain),
        tpm=domain.find("devices/tpm") is not None,
        boot_files=tuple(path for tag in ("kernel", "initrd") if (path := text_of(domain, f"os/{tag}"))),
        host_devices=tuple(_host_devices(domain)),
        tags=_tags(domain),
    )


def read_agent(domain: Element) -> AgentState:
    """Whether the VM has an agent channel, and whether somebody in the guest holds it open now."""
    for target in domain.iterfind("devices/channel/target"):
        if target.get("name") == AGENT_CHANNEL:
            connected = target.get("state") == "connected"
            return AgentState.CONNECTED if connected else AgentState.DISCONNECTED
    return AgentState.ABSENT


def _tags(domain: Element) -> tuple[str, ...]:
    text = text_of(domain, f"metadata/{{{TAGS_NAMESPACE}}}tags") or ""
    return tuple(dict.fromkeys(text.replace(",", " ").split()))


def read_disk(disk: Element) -> Disk:
    """One `<disk>` element; sizes are for the inventory to fill in."""
    transient = disk.find("transient") is not None
    own = _below_transient_layer(disk) if transient else disk
    # Below a layer, the format stands in an element of its own.
    image_format = attribute_of(own, "format" if own is not disk else "driver", "type") or "raw"
    kind = own.get("type", "file")
    read_only = disk.find("readonly") is not None
    return Disk(
        target=attribute_of(disk, "target", "dev") or "",
        device=disk.get("device", "disk"),
        source_kind=kind,
        source=_disk_source(own.find("source"), kind),
        format=image_format,
        bus=attribute_of(disk, "target", "bus") or "",
        capacity_bytes=0,
        allocation_bytes=0,
        read_only=read_only,
        shareable=disk.find("shareable") is not None,
        transient=transient,
        encrypted=disk.find("encryption") is not None or disk.find("source/encryption") is not None,
        bitmaps_possible=image_format == "qcow2" and not read_only and not transient,
        backing=tuple(_backing(own)),
    )


def _below_transient_layer(disk: Element) -> Element:
    """The `<disk>` or `<backingStore>` of the image that a transient disk starts from.

    While the VM runs, libvirt has put a layer `<image>.TRANSIENT-<vm>` over it, which goes when the VM stops.
    """
    layer = disk.find("backingStore")
    laid_over = ".TRANSIENT" in (attribute_of(disk, "source", "file") or "")
    return layer if laid_over and layer is not None and layer.find("source") is not None else disk


def nvram_path(domain: Element) -> str | None:
    """Where the VM's UEFI variables lie, in either of the two ways to write it (`<source>` since libvirt 8.5)."""
    return text_of(domain, "os/nvram") or attribute_of(domain, "os/nvram/source", "file")


def _cpu_mode(cpu: Element | None) -> str:
    if cpu is None:
        return ""
    # Without a mode, a <cpu> that names a model means custom (formatdomain, "CPU model and topology").
    return cpu.get("mode") or ("custom" if cpu.find("model") is not None else "")


def _firmware(domain: Element) -> str:
    system = domain.find("os")
    if system is None:
        return "bios"
    if system.get("firmware") == "efi" or attribute_of(system, "loader", "type") == "pflash":
        return "efi"
    return "bios"


def _disk_source(source: Element | None, kind: str) -> str | None:
    if source is None:
        return None
    if kind == "volume":
        return f"{source.get('pool')}/{source.get('volume')}"
    if kind == "network":
        address = source.find("host")
        place = (address.get("name") or address.get("socket") or "") if address is not None else ""
        return f"{source.get('protocol')}://{place}/{source.get('name', '')}"
    if kind == "nvme":
        return "nvme " + _pci_address(source.find("address"))
    return source.get(_SOURCE_ATTRIBUTES.get(kind, "file"))


def _backing(disk: Element) -> list[str]:
    found: list[str] = []
    layer = disk.find("backingStore")
    while layer is not None:
        source = _disk_source(layer.find("source"), layer.get("type", "file"))
        if source:
            found.append(source)
        layer = layer.find("backingStore")
    return found


def _read_nic(nic: Element) -> Nic:
    kind = nic.get("type", "")
    source = nic.find("source")
    named = source.get(_NIC_SOURCE_ATTRIBUTES.get(kind, "")) if source is not None else None
    return Nic(
        mac=(attribute_of(nic, "mac", "address") or "").lower(),
        kind=kind,
        source=named,
        model=attribute_of(nic, "model", "type") or "",
    )


def _host_devices(domain: Element) -> list[str]:
    found: list[str] = []
    for device in domain.iterfind("devices/hostdev"):
        kind = device.get("type", device.get("mode", "device"))
        source = device.find("source")
        found.append(f"{kind} {_device_name(source, kind)}".strip())
    found.extend(
        "pci " + _pci_address(nic.find("source/address"))
        for nic in domain.iterfind("devices/interface[@type='hostdev']")
    )
    return found


def _device_name(source: Element | None, kind: str) -> str:
    if source is None:
        return ""
    if kind == "usb" and source.find("vendor") is not None:
        vendor, product = attribute_of(source, "vendor", "id") or "", attribute_of(source, "product", "id") or ""
        return f"{vendor.removeprefix('0x')}:{product.removeprefix('0x')}"
    address = source.find("address")
    if address is None:
        return attribute_of(source, "adapter", "name") or ""
    if kind == "usb":
        return f"bus {address.get('bus')} device {address.get('device')}"
    return address.get("uuid") or _pci_address(address)


def _pci_address(address: Element | None) -> str:
    if address is None:
        return ""
    domain, bus, slot, function = (int(address.get(part, "0"), 16) for part in ("domain", "bus", "slot", "function"))
    return f"{domain:04x}:{bus:02x}:{slot:02x}.{function:x}"
