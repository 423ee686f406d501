"""A VM's definition and the small files beside its disks, read from a host."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import NewhopeError
from engine.hosts import tpm_state
from engine.hosts.domain_xml import read_vm
from engine.hosts.errors import HostRefused, MissingOnHost
from engine.hosts.host_file import read_file
from engine.hosts.lane import HostLane
from engine.hosts.model import BootFile, Definition, RelatedDefinition, Vm, VmState
from engine.hosts.nvram import find_nvram
from engine.hosts.rewrite import (
    CpuChoice,
    NetworkChoice,
    NetworkKind,
    Rewrite,
    new_mac,
    rewrite,
)
from engine.hosts.xml_tree import parse, text_of

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    import libvirt

__all__ = [
    "CpuChoice",
    "NetworkChoice",
    "NetworkKind",
    "Rewrite",
    "boot_files",
    "describe",
    "new_mac",
    "read",
    "related_definitions",
    "rewrite",
]


class BootFileUnreadable(NewhopeError):
    """A kernel, initial RAM disk or NVRAM without which the VM would not boot as it was cannot be read."""


def read(lane: HostLane, uuid: str, *, passwords: bool = True) -> Definition:
    """The definition as libvirt keeps it, with passwords where the connection may see them: treat it as a secret."""

    def work(connection: libvirt.virConnect) -> Definition:
        import libvirt

        domain = connection.lookupByUUIDString(uuid)
        return Definition(
            live=_xml(domain, 0, passwords=passwords) if domain.isActive() else None,
            inactive=_xml(domain, libvirt.VIR_DOMAIN_XML_INACTIVE, passwords=passwords),
        )

    return lane.run(work)


def describe(definition: Definition, host: str = "") -> Vm:
    """The VM that a definition would make: off, its disks without sizes."""
    return read_vm(parse(definition.inactive), host=host)


def boot_files(lane: HostLane, vm: Vm) -> tuple[BootFile, ...]:
    """NVRAM, kernel, initial RAM disk and TPM state of a VM, as they are now.

    A VM that never ran has no NVRAM and no TPM state yet; these are left out. Raises BootFileUnreadable.
    """
    root = parse(read(lane, vm.uuid).inactive)
    wanted = (
        ("nvram", lane.run(lambda connection: find_nvram(connection, vm.uuid))),
        ("kernel", text_of(root, "os/kernel")),
        ("initrd", text_of(root, "os/initrd")),
    )
    found: list[BootFile] = []
    for role, path in wanted:
        if path is None:
            continue
        try:
            content = read_file(lane, Path(path))
        except MissingOnHost as error:
            if role == "nvram" and vm.state is VmState.OFF:
                continue
            raise _unreadable(lane, vm, role, path, "it is not there") from error
        except HostRefused as error:
            raise _unreadable(lane, vm, role, path, error.text) from error
        except OSError as error:
            raise _unreadable(lane, vm, role, path, error.strerror or str(error)) from error
        found.append(BootFile(role=role, path=Path(path), content=content))
    if vm.tpm:
        try:
            state = tpm_state.read(lane, vm.uuid)
        except HostRefused as error:
            raise _unreadable(lane, vm, "tpm", "state", error.text) from error
        except OSError as error:
            raise _unreadable(lane, vm, "tpm", "state", error.strerror or str(error)) from error
        if state is not None:
            found.append(state)
    return tuple(found)


def related_definitions(lane: HostLane, vm: Vm) -> tuple[RelatedDefinition, ...]:
    """What of the host the VM refers to: its networks and their filters, the pools of its images, their layers and
    drives; and what the host can do."""
    networks = {nic.source for nic in vm.nics if nic.kind == "network" and nic.source}
    images = [path for disk in vm.disks for path in (disk.source, *disk.backing) if path]
    sources = [Path(path) for path in images if path.startswith("/")]
    filters = _filters(parse(read(lane, vm.uuid, passwords=False).inactive))

    def work(connection: libvirt.virConnect) -> tuple[RelatedDefinition, ...]:
        found = [RelatedDefinition(role="capabilities", name=vm.host, content=connection.getCapabilities().encode())]
        found += [
            RelatedDefinition(role="network", name=network.name(), content=network.XMLDesc().encode())
            for network in connection.listAllNetworks()
            if network.name() in networks
        ]
        for pool in connection.listAllStoragePools():
            xml = pool.XMLDesc()
            folder = text_of(parse(xml), "target/path")
            of_volume = any(image.startswith(f"{pool.name()}/") for image in images)
            if of_volume or (folder and any(source.is_relative_to(folder) for source in sources)):
                found.append(RelatedDefinition(role="pool", name=pool.name(), content=xml.encode()))
        if filters:
            found += [
                RelatedDefinition(role="filter", name=each.name(), content=each.XMLDesc().encode())
                for each in connection.listAllNWFilters()
                if each.name() in filters
            ]
        return tuple(found)

    return lane.run(work)


def _filters(domain: Element) -> set[str]:
    return {each.get("filter", "") for each in domain.iterfind("devices/interface/filterref")}


def _xml(domain: libvirt.virDomain, flags: int, *, passwords: bool) -> bytes:
    import libvirt

    if not passwords:
        return domain.XMLDesc(flags).encode()
    try:
        return domain.XMLDesc(flags | libvirt.VIR_DOMAIN_XML_SECURE).encode()
    except libvirt.libvirtError as error:
        # A connection that may not see passwords: without them is better than not at all.
        if error.get_error_code() not in (libvirt.VIR_ERR_OPERATION_DENIED, libvirt.VIR_ERR_ACCESS_DENIED):
            raise
        return domain.XMLDesc(flags).encode()


def _unreadable(lane: HostLane, vm: Vm, role: str, path: str, why: str) -> BootFileUnreadable:
    return BootFileUnreadable(
        f"The {role} {path} of VM {vm.name} on {lane.host.name} cannot be read: {why}.",
        next_step="Run newhope as a user who may read it, or put its folder into a storage pool of the host.",
    )
