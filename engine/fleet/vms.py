"""Looking things up in a fleet: hosts, VMs wherever they were seen, recovery points."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from engine.errors import NotFound
from engine.fleet.model import Fleet
from engine.hosts.model import AgentState, HostSnapshot, HostStatus, Vm, VmState
from engine.repository.model import Point, VmFacts

_STATUS_ORDER = (HostStatus.ONLINE, HostStatus.STALE, HostStatus.OFFLINE)


def find_snapshot(fleet: Fleet, host: str) -> HostSnapshot:
    """Return what is known of a host; raises `NotFound`, which names those that look alike."""
    names = [snapshot.host for snapshot in fleet.snapshots]
    if host in names:
        return fleet.snapshots[names.index(host)]
    alike = difflib.get_close_matches(host, names, n=3)
    step = f"did you mean {' or '.join(alike)}?" if alike else "`newhope hosts` lists every host."
    raise NotFound(f'There is no host "{host}".', next_step=step)


def known_vms(fleet: Fleet) -> tuple[Vm, ...]:
    """Return every VM that any host showed, each once, in the order of hosts.

    After a migration or while a host is away, one VM (one UUID) may be seen on two hosts. It is then shown where it
    runs on a host that answers, else where a host that answers has it, else where it was last seen.
    """
    best: dict[str, tuple[int, Vm]] = {}
    for snapshot in fleet.snapshots:
        for vm in snapshot.vms:
            runs = vm.state in (VmState.RUNNING, VmState.PAUSED)
            rank = 2 * _STATUS_ORDER.index(snapshot.status) + (0 if runs else 1)
            if vm.uuid not in best or rank < best[vm.uuid][0]:
                best[vm.uuid] = (rank, vm)
    return tuple(vm for _, vm in best.values())


def find_known_vm(fleet: Fleet, vm_uuid: str) -> Vm | None:
    """Return the VM of that UUID as `known_vms` shows it; None if no host showed it."""
    return next((vm for vm in known_vms(fleet) if vm.uuid == vm_uuid), None)


def points_of(fleet: Fleet, vm_uuid: str) -> tuple[Point, ...]:
    """Return the recovery points of a VM in all reachable repositories, newest first."""
    return tuple(point for point in fleet.points if point.manifest.vm.uuid == vm_uuid)


def newest_point(fleet: Fleet, vm_uuid: str) -> Point | None:
    """Return the newest recovery point of a VM that can be reached."""
    return next(iter(points_of(fleet, vm_uuid)), None)


def points_by_vm(fleet: Fleet) -> dict[str, tuple[Point, ...]]:
    """Return all points by the UUID of their VM, newest first: one pass, for whoever asks for every VM."""
    found: dict[str, list[Point]] = {}
    for point in fleet.points:
        found.setdefault(point.manifest.vm.uuid, []).append(point)
    return {vm_uuid: tuple(points) for vm_uuid, points in found.items()}


def gone_vms(fleet: Fleet) -> Iterator[VmFacts]:
    """Yield the VMs that no host showed and that recovery points still know, as their newest point has them."""
    seen = {vm.uuid for snapshot in fleet.snapshots for vm in snapshot.vms}
    for point in fleet.points:
        if point.manifest.vm.uuid not in seen:
            seen.add(point.manifest.vm.uuid)
            yield point.manifest.vm


def was_removed(fleet: Fleet, facts: VmFacts) -> bool:
    """Whether a VM that no host showed is gone for good, rather than hidden by a host that is silent.

    Its host answers without it; or its host is no longer configured, and all that are answer without it.
    """
    silent = {snapshot.host for snapshot in fleet.snapshots if snapshot.status is not HostStatus.ONLINE}
    if any(snapshot.host == facts.host for snapshot in fleet.snapshots):
        return facts.host not in silent
    return not silent


def facts_of(vm: Vm) -> VmFacts:
    """Return what must be known of a VM to choose a host for it, in the form that recovery points keep."""
    return VmFacts(
        name=vm.name,
        uuid=vm.uuid,
        host=vm.host,
        vcpus=vm.vcpus,
        memory_bytes=vm.memory_bytes,
        arch=vm.arch,
        machine=vm.machine,
        virt_type=vm.virt_type,
        cpu_mode=vm.cpu_mode,
        cpu_model=vm.cpu_model,
        firmware=vm.firmware,
        tpm=vm.tpm,
        agent=vm.agent is not AgentState.ABSENT,
        nics=tuple(f"{nic.kind}:{nic.source or ''}" for nic in vm.nics),
        macs=tuple(nic.mac for nic in vm.nics),
        host_devices=vm.host_devices,
        tags=vm.tags,
    )
