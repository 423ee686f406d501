"""The VMs of a host, as they are now.

1. One call lists them; those that run are asked whether their QEMU is busy, which needs no answer of QEMU itself.
2. One call gets state and disk sizes of all whose QEMU can be asked (domain statistics).
3. One call a VM reads its definition, and that is all that is asked of one that is off: over the network each call
   costs a round trip. A running one is also asked for its job, and for the definition it will start with next, because
   the live one no longer says what CPU was asked for.
4. Volumes of pools are resolved to paths; sizes that QEMU could not be asked for come from the pools too.
5. One look at the heads of all images tells which of them can keep dirty bitmaps.

A VM that goes away in between is left out.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from engine.hosts.domain_xml import read_vm
from engine.hosts.jobs_of_vm import SILENT, current_job, qemu_is_busy
from engine.hosts.model import Disk, Vm, VmState
from engine.hosts.qcow2_header import HEAD_BYTES, keeps_bitmaps
from engine.hosts.vm_state import from_libvirt
from engine.hosts.xml_tree import parse

if TYPE_CHECKING:
    import libvirt

    from engine.hosts.files_of_host import HostFiles

    Stats = dict[str, int | str | bool]


def read_vms(connection: libvirt.virConnect, host: str, files: HostFiles, *, ask_qemu: bool) -> tuple[Vm, ...]:
    """All VMs of the host, by name. Without `ask_qemu` no question goes to a running VM's QEMU, which could hang."""
    import libvirt

    autostart = {domain.UUIDString() for domain in _listed(connection, libvirt.VIR_CONNECT_LIST_DOMAINS_AUTOSTART)}
    persistent = {domain.UUIDString() for domain in _listed(connection, libvirt.VIR_CONNECT_LIST_DOMAINS_PERSISTENT)}
    saved = {domain.UUIDString() for domain in _listed(connection, libvirt.VIR_CONNECT_LIST_DOMAINS_MANAGEDSAVE)}
    active = {domain.UUIDString() for domain in _listed(connection, libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)}
    domains = connection.listAllDomains()
    busy = {uuid: uuid in active and (not ask_qemu or qemu_is_busy(domain)) for uuid, domain in _by_uuid(domains)}
    stats = _stats(connection, [domain for domain in domains if not busy[domain.UUIDString()]])
    found: list[Vm] = []
    for domain in domains:
        uuid = domain.UUIDString()
        try:
            vm = _read_one(connection, domain, stats.get(uuid), host)
        except libvirt.libvirtError:
            # It went away between the list and the question; its absence is the right answer.
            if connection.isAlive():
                continue
            raise
        found.append(
            msgspec.structs.replace(
                vm, autostart=uuid in autostart, persistent=uuid in persistent, managed_save=uuid in saved
            )
        )
    return _with_looked_at_images(files, sorted(found, key=lambda vm: vm.name))


def _with_looked_at_images(files: HostFiles, vms: list[Vm]) -> tuple[Vm, ...]:
    """With `bitmaps_possible` as the images have it, all asked for at once; one that cannot be read may have them."""
    qcow2 = {Path(disk.source) for vm in vms for disk in vm.disks if disk.bitmaps_possible and disk.source}
    heads = files.heads(sorted(qcow2), HEAD_BYTES)
    too_old = {str(image) for image, head in heads.items() if not keeps_bitmaps(head)}
    if not too_old:
        return tuple(vms)
    return tuple(
        msgspec.structs.replace(
            vm,
            disks=tuple(
                msgspec.structs.replace(disk, bitmaps_possible=disk.bitmaps_possible and disk.source not in too_old)
                for disk in vm.disks
            ),
        )
        for vm in vms
    )


def _by_uuid(domains: list[libvirt.virDomain]) -> list[tuple[str, libvirt.virDomain]]:
    return [(domain.UUIDString(), domain) for domain in domains]


def _listed(connection: libvirt.virConnect, flag: int) -> list[libvirt.virDomain]:
    return connection.listAllDomains(flag)


def _stats(connection: libvirt.virConnect, domains: list[libvirt.virDomain]) -> dict[str, Stats]:
    """State and disk sizes, by UUID, of the VMs whose QEMU may be asked."""
    import libvirt

    if not domains:
        return {}
    wanted = libvirt.VIR_DOMAIN_STATS_STATE | libvirt.VIR_DOMAIN_STATS_BLOCK
    try:
        found = connection.domainListGetStats(domains, wanted, libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT)
        return {domain.UUIDString(): stats for domain, stats in found}
    except libvirt.libvirtError:
        # A driver without statistics, or a VM that is gone: the others are read without.
        return {domain.UUIDString(): {} for domain in domains}


def _read_one(connection: libvirt.virConnect, domain: libvirt.virDomain, stats: Stats | None, host: str) -> Vm:
    import libvirt

    number = stats.get("state.state") if stats else None
    state = from_libvirt(domain.state()[0] if number is None else int(number))
    running = state in (VmState.RUNNING, VmState.PAUSED)
    vm = read_vm(parse(domain.XMLDesc()), host=host)
    sizes = _sizes(stats or {})
    disks = tuple(_complete(connection, disk, sizes) for disk in vm.disks)
    job = None
    if running:
        job = current_job(domain, vm) if stats is not None else SILENT
        if job is None:
            disks = tuple(_with_live_allocation(domain, disk) for disk in disks)
        if domain.isPersistent():
            asked = read_vm(parse(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)), host=host)
            vm = msgspec.structs.replace(vm, cpu_mode=asked.cpu_mode, cpu_model=asked.cpu_model)
    return msgspec.structs.replace(vm, state=state, disks=disks, job=job)


def _sizes(stats: Stats) -> dict[str, tuple[int, int]]:
    """Capacity and allocation by target, as the statistics have them."""
    found: dict[str, tuple[int, int]] = {}
    for number in range(int(stats.get("block.count", 0))):
        name = str(stats.get(f"block.{number}.name", ""))
        capacity = int(stats.get(f"block.{number}.capacity", 0))
        allocation = int(stats.get(f"block.{number}.allocation", 0))
        physical = int(stats.get(f"block.{number}.physical", 0))
        # Backing layers come with the name of their disk too; the first is the disk itself.
        found.setdefault(name, (capacity, allocation or physical))
    return found


def _complete(connection: libvirt.virConnect, disk: Disk, sizes: dict[str, tuple[int, int]]) -> Disk:
    capacity, allocation = sizes.get(disk.target, (0, 0))
    source = disk.source
    if disk.source_kind == "volume" and source is not None:
        found = _resolve_volume(connection, source)
        if found is not None:
            source, volume_capacity, volume_allocation = found
            capacity, allocation = capacity or volume_capacity, allocation or volume_allocation
    elif not capacity and source is not None and disk.source_kind in ("file", "block"):
        capacity, allocation = _sizes_of_volume(connection, source)
    return msgspec.structs.replace(
        disk,
        source=source,
        capacity_bytes=capacity,
        allocation_bytes=allocation,
    )


def _resolve_volume(connection: libvirt.virConnect, source: str) -> tuple[str, int, int] | None:
    import libvirt

    pool, _, name = source.partition("/")
    try:
        volume = connection.storagePoolLookupByName(pool).storageVolLookupByName(name)
        _, capacity, allocation = volume.info()
        return volume.path(), capacity, allocation
    except libvirt.libvirtError:
        return None


def _sizes_of_volume(connection: libvirt.virConnect, path: str) -> tuple[int, int]:
    import libvirt

    try:
        _, capacity, allocation = connection.storageVolLookupByPath(path).info()
    except libvirt.libvirtError:
        return 0, 0
    return capacity, allocation


def _with_live_allocation(domain: libvirt.virDomain, disk: Disk) -> Disk:
    """For a running VM the statistics have the highest offset written, not what the image takes up."""
    import libvirt

    if disk.source is None or disk.device != "disk":
        return disk
    try:
        capacity, allocation, _ = domain.blockInfo(disk.target)
    except libvirt.libvirtError:
        return disk
    return msgspec.structs.replace(disk, capacity_bytes=capacity, allocation_bytes=allocation)
