"""What a host offers, from its capabilities (https://libvirt.org/formatcaps.html and formatdomaincaps.html)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element

from engine.errors import NewhopeError
from engine.hosts.errors import NO_SUPPORT
from engine.hosts.files_of_host import HostFiles
from engine.hosts.model import HostFacts
from engine.hosts.xml_tree import attribute_of, parse, text_of

if TYPE_CHECKING:
    import libvirt

    from engine.hosts.reach import Reach


def read_facts(connection: libvirt.virConnect, reach: Reach) -> HostFacts:
    """Ask the host for everything that decides whether a VM can run there."""
    capabilities = parse(connection.getCapabilities())
    arch = text_of(capabilities, "host/cpu/arch") or ""
    kvm = has_kvm(capabilities, arch)
    offers = _domain_capabilities(connection, arch, "kvm" if kvm else "qemu")
    info = connection.getInfo()
    memory_bytes, free_bytes = _memory(connection, int(info[1]) * 1024 * 1024)
    return HostFacts(
        hostname=connection.getHostname(),
        machine_id=reach.files.machine_id(),
        local=reach.local,
        libvirt_version=version(connection.getLibVersion()),
        qemu_version=version(connection.getVersion()),
        arch=arch,
        cpus=int(info[2]),
        cpu_model=text_of(capabilities, "host/cpu/model") or arch,
        memory_bytes=memory_bytes,
        memory_free_bytes=free_bytes,
        kvm=kvm,
        machines=machines(capabilities, arch),
        efi=offers is not None and "efi" in _enum(offers, "os", "firmware"),
        # <tpm supported='yes'> is said without swtpm too; only the versions tell (seen with libvirt 9.0).
        tpm=offers is not None and bool(_enum(offers, "devices/tpm", "backendVersion")),
        cpu_modes=cpu_modes(offers),
        cpu_models=cpu_models(offers),
        way=reach.way(),
        missing_programs=reach.files.missing_programs(),
        bridges=_bridges(connection),
        links=_links(reach.files),
        max_vcpus=_max_vcpus(offers),
        loaders=_values(offers, "os/loader"),
    )


def _bridges(connection: libvirt.virConnect) -> tuple[str, ...]:
    """Bridges of the host itself, and those that its networks make."""
    import libvirt

    found: set[str] = set()
    try:
        found = {
            each.name() for each in connection.listAllInterfaces() if parse(each.XMLDesc()).get("type") == "bridge"
        }
    except libvirt.libvirtError as error:
        # A host without an interface driver; one with several daemons may not run that one.
        if error.get_error_code() not in (NO_SUPPORT, libvirt.VIR_ERR_SYSTEM_ERROR, libvirt.VIR_ERR_INTERNAL_ERROR):
            raise
    for network in connection.listAllNetworks():
        bridge = attribute_of(parse(network.XMLDesc()), "bridge", "name")
        if bridge:
            found.add(bridge)
    return tuple(sorted(found))


def _links(files: HostFiles) -> tuple[str, ...] | None:
    if not files.reachable:
        return None
    try:
        return tuple(sorted(files.names(Path("/sys/class/net"))))
    except (OSError, NewhopeError):
        return None


def _max_vcpus(offers: Element | None) -> int:
    return int(attribute_of(offers, "vcpu", "max") or 0) if offers is not None else 0


def _values(offers: Element | None, path: str) -> tuple[str, ...]:
    if offers is None:
        return ()
    return tuple(value.text.strip() for value in offers.iterfind(f"{path}/value") if value.text)


def version(number: int) -> str:
    """libvirt's way to write a version as one number, undone: 7002022 is 7.2.22."""
    return f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}"


def has_kvm(capabilities: Element, arch: str) -> bool:
    """Whether guests of the host's own architecture can run on KVM."""
    return any(
        domain.get("type") == "kvm"
        for guest in capabilities.iterfind(f"guest/arch[@name='{arch}']")
        for domain in guest.iterfind("domain")
    )


def machines(capabilities: Element, arch: str) -> tuple[str, ...]:
    """Machine types for the host's own architecture, aliases and what they stand for."""
    found: dict[str, None] = {}
    for guest in capabilities.iterfind(f"guest/arch[@name='{arch}']"):
        for machine in guest.iter("machine"):
            for name in (machine.text, machine.get("canonical")):
                if name:
                    found[name.strip()] = None
    return tuple(found)


def cpu_modes(offers: Element | None) -> tuple[str, ...]:
    """CPU modes that a guest may ask for."""
    if offers is None:
        return ()
    return tuple(mode.get("name", "") for mode in offers.iterfind("cpu/mode") if mode.get("supported") == "yes")


def cpu_models(offers: Element | None) -> tuple[str, ...]:
    """CPU models that this host can really give to a guest."""
    if offers is None:
        return ()
    return tuple(
        model.text.strip()
        for model in offers.iterfind("cpu/mode[@name='custom']/model")
        if model.get("usable") == "yes" and model.text
    )


def _domain_capabilities(connection: libvirt.virConnect, arch: str, virt_type: str) -> Element | None:
    import libvirt

    try:
        return parse(connection.getDomainCapabilities(None, arch, None, virt_type))
    except libvirt.libvirtError as error:
        # libvirt's test driver has none, and a host without QEMU for its own architecture refuses.
        if error.get_error_code() in (NO_SUPPORT, libvirt.VIR_ERR_INVALID_ARG):
            return None
        raise


def _enum(offers: Element, path: str, name: str) -> tuple[str, ...]:
    parent = offers.find(path)
    if parent is None or parent.get("supported") != "yes":
        return ()
    return tuple(value.text or "" for value in parent.iterfind(f"enum[@name='{name}']/value"))


def _memory(connection: libvirt.virConnect, known_bytes: int) -> tuple[int, int]:
    """Total and free memory. What caches hold counts as free: the kernel gives it to a starting VM."""
    import libvirt

    try:
        stats = connection.getMemoryStats(-1)
    except libvirt.libvirtError:
        return known_bytes, connection.getFreeMemory()
    free_kib = sum(int(stats.get(part, 0)) for part in ("free", "buffers", "cached"))
    return int(stats.get("total", known_bytes // 1024)) * 1024, free_kib * 1024
