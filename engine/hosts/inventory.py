"""A snapshot of a host: its VMs, pools, networks and facts, as it answers now.

1. One call lists the VMs with state and disk sizes (domain statistics, NOWAIT: a VM whose QEMU hangs is listed
   without sizes instead of holding up the others).
2. One call a VM reads its definition; a running one is also asked for its job and for the definition it will start
   with next, because the live one no longer says what CPU was asked for.
3. Volumes of pools are resolved to paths; pools, networks and capabilities are read.

A VM that goes away in between is left out. A host that does not answer is a snapshot with the reason.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from engine.errors import NewhopeError
from engine.hosts import uri
from engine.hosts.domain_xml import read_vm
from engine.hosts.errors import HostUnreachable
from engine.hosts.facts import read_facts
from engine.hosts.jobs_of_vm import current_job
from engine.hosts.lane import HostLane
from engine.hosts.model import Disk, HostSnapshot, HostStatus, Network, Pool, Vm, VmState
from engine.hosts.names import not_found
from engine.hosts.qcow2_header import keeps_bitmaps
from engine.hosts.vm_state import from_libvirt
from engine.hosts.volumes import available_bytes
from engine.hosts.xml_tree import attribute_of, parse, text_of

if TYPE_CHECKING:
    import libvirt

    Stats = dict[str, int | str | bool]

_SPARE_S = 0.5


def take_snapshots(lanes: Iterable[HostLane], *, timeout_s: float = 10.0) -> tuple[HostSnapshot, ...]:
    """Snapshots of all hosts, taken side by side, in the order of `lanes`. Never raises for a host."""
    lanes = tuple(lanes)
    snapshots: dict[int, HostSnapshot] = {}

    def take(number: int) -> None:
        snapshots[number] = take_snapshot(lanes[number], timeout_s=timeout_s)

    threads = [threading.Thread(target=take, args=(number,), daemon=True) for number in range(len(lanes))]
    for thread in threads:
        thread.start()
    # Each bounds itself by its lane's time limit; the sum here is only a second wall.
    deadline = time.monotonic() + timeout_s + _SPARE_S
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return tuple(
        snapshots.get(number) or _offline(lane, _too_slow(lane, timeout_s)) for number, lane in enumerate(lanes)
    )


def take_snapshot(lane: HostLane, *, timeout_s: float = 10.0) -> HostSnapshot:
    """A snapshot of one host; an offline one, with the reason, if it does not answer within `timeout_s`."""
    try:
        return lane.run(lambda connection: _read_host(connection, lane), timeout_s=timeout_s)
    except NewhopeError as error:
        return _offline(lane, error)
    except Exception as error:
        # What we cannot read on one host must not take the other hosts off the screen.
        return _offline(
            lane,
            HostUnreachable(
                lane.host.name,
                f"newhope could not read its answer ({type(error).__name__}: {error})",
                next_step="This is a defect of newhope: please report it with this sentence.",
            ),
        )


def find_vm(snapshot: HostSnapshot, name_or_uuid: str) -> Vm:
    """The VM of that name or UUID. Raises NotFound with the nearest names, and the host's error if it is offline."""
    if snapshot.status is HostStatus.OFFLINE:
        raise HostUnreachable(
            snapshot.host,
            snapshot.reason or "it is offline",
            next_step=snapshot.next_step or "newhope hosts",
        )
    for vm in snapshot.vms:
        if name_or_uuid in (vm.name, vm.uuid) or name_or_uuid.lower() == vm.uuid:
            return vm
    raise not_found(
        f"VM on host {snapshot.host}",
        name_or_uuid,
        [vm.name for vm in snapshot.vms],
        next_step="See the VMs: newhope vms.",
    )


def _offline(lane: HostLane, error: NewhopeError) -> HostSnapshot:
    return HostSnapshot(
        host=lane.host.name,
        uri=lane.host.uri,
        status=HostStatus.OFFLINE,
        taken_at=datetime.now(UTC),
        reason=error.reason if isinstance(error, HostUnreachable) else error.what,
        next_step=error.next_step,
    )


def _too_slow(lane: HostLane, timeout_s: float) -> HostUnreachable:
    return HostUnreachable(
        lane.host.name,
        f"it did not finish within {timeout_s:.0f} s what it was asked",
        next_step="Check that its libvirt daemon is not stopped or overloaded.",
    )


def _read_host(connection: libvirt.virConnect, lane: HostLane) -> HostSnapshot:
    taken_at = datetime.now(UTC)
    local = uri.is_local(lane.host.uri)
    pools = _read_pools(connection, local=local)
    return HostSnapshot(
        host=lane.host.name,
        uri=lane.host.uri,
        status=HostStatus.ONLINE,
        taken_at=taken_at,
        facts=read_facts(connection, local=local),
        vms=_read_vms(connection, lane.host.name, local=local),
        pools=pools,
        networks=_read_networks(connection),
    )


def _read_vms(connection: libvirt.virConnect, host: str, *, local: bool) -> tuple[Vm, ...]:
    import libvirt

    autostart = {domain.UUIDString() for domain in _listed(connection, libvirt.VIR_CONNECT_LIST_DOMAINS_AUTOSTART)}
    persistent = {domain.UUIDString() for domain in _listed(connection, libvirt.VIR_CONNECT_LIST_DOMAINS_PERSISTENT)}
    found: list[Vm] = []
    for domain, stats in _with_stats(connection):
        try:
            vm = _read_one(connection, domain, stats, host, local=local)
        except libvirt.libvirtError:
            # It went away between the list and the question; its absence is the right answer.
            if connection.isAlive():
                continue
            raise
        uuid = domain.UUIDString()
        found.append(msgspec.structs.replace(vm, autostart=uuid in autostart, persistent=uuid in persistent))
    return tuple(sorted(found, key=lambda vm: vm.name))


def _listed(connection: libvirt.virConnect, flag: int) -> list[libvirt.virDomain]:
    return connection.listAllDomains(flag)


def _with_stats(connection: libvirt.virConnect) -> list[tuple[libvirt.virDomain, Stats]]:
    import libvirt

    wanted = libvirt.VIR_DOMAIN_STATS_STATE | libvirt.VIR_DOMAIN_STATS_BLOCK
    try:
        return connection.getAllDomainStats(wanted, libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT)
    except libvirt.libvirtError:
        # Drivers without statistics; and an image that one VM names and nobody can read must not hide all VMs.
        return [(domain, {"state.state": domain.state()[0]}) for domain in connection.listAllDomains()]


def _read_one(connection: libvirt.virConnect, domain: libvirt.virDomain, stats: Stats, host: str, *, local: bool) -> Vm:
    import libvirt

    state = from_libvirt(int(stats.get("state.state", libvirt.VIR_DOMAIN_NOSTATE)))
    vm = read_vm(parse(domain.XMLDesc()), host=host)
    running = state in (VmState.RUNNING, VmState.PAUSED)
    job = current_job(domain, vm) if running else None
    sizes = _sizes(stats)
    disks = tuple(_complete(connection, disk, sizes, local=local) for disk in vm.disks)
    if running and job is None:
        disks = tuple(_with_live_allocation(domain, disk) for disk in disks)
    if running and domain.isPersistent():
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


def _complete(connection: libvirt.virConnect, disk: Disk, sizes: dict[str, tuple[int, int]], *, local: bool) -> Disk:
    capacity, allocation = sizes.get(disk.target, (0, 0))
    source = disk.source
    if disk.source_kind == "volume" and source is not None:
        found = _resolve_volume(connection, source)
        if found is not None:
            source, volume_capacity, volume_allocation = found
            capacity, allocation = capacity or volume_capacity, allocation or volume_allocation
    bitmaps = disk.bitmaps_possible
    if bitmaps and local and source is not None:
        bitmaps = keeps_bitmaps(Path(source))
    return msgspec.structs.replace(
        disk,
        source=source,
        capacity_bytes=capacity,
        allocation_bytes=allocation,
        bitmaps_possible=bitmaps,
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


def _read_pools(connection: libvirt.virConnect, *, local: bool) -> tuple[Pool, ...]:
    found: list[Pool] = []
    for pool in connection.listAllStoragePools():
        root = parse(pool.XMLDesc())
        capacity = pool.info()[1]
        found.append(
            Pool(
                name=pool.name(),
                kind=root.get("type", ""),
                path=text_of(root, "target/path"),
                active=bool(pool.isActive()),
                capacity_bytes=capacity,
                available_bytes=available_bytes(pool, local=local),
            )
        )
    return tuple(sorted(found, key=lambda pool: pool.name))


def _read_networks(connection: libvirt.virConnect) -> tuple[Network, ...]:
    found: list[Network] = []
    for network in connection.listAllNetworks():
        root = parse(network.XMLDesc())
        forward = root.find("forward")
        found.append(
            Network(
                name=network.name(),
                active=bool(network.isActive()),
                forward=forward.get("mode", "nat") if forward is not None else "isolated",
                bridge=attribute_of(root, "bridge", "name"),
            )
        )
    return tuple(sorted(found, key=lambda network: network.name))
