"""What stands in the way of a restore, found before anything is touched."""

from __future__ import annotations

from engine.fleet import CheckState, FitnessCheck, Fleet, fitness
from engine.hosts.model import HostSnapshot, HostStatus, VmState
from engine.repository import Point
from engine.repository.model import Consistency
from engine.restore.model import Request


def preflight(fleet: Fleet, point: Point, target: HostSnapshot, request: Request) -> tuple[FitnessCheck, ...]:
    """Every check of a decided request against the target host as it was last seen; failures first."""
    fit = fitness(
        point.manifest.vm,
        target,
        pool=request.pool,
        needed_bytes=point.size_bytes,
        networks=tuple(mapping.to for mapping in request.networks),
    )
    checks = (
        *fit.checks,
        _name_is_free(target, request),
        _addresses_are_free(fleet, request),
        _original(fleet, point),
        _consistency(point),
        *_salvage(request),
    )
    order = (CheckState.FAIL, CheckState.WARN, CheckState.PASS, CheckState.SKIP)
    return tuple(sorted(checks, key=lambda check: order.index(check.state)))


def _name_is_free(target: HostSnapshot, request: Request) -> FitnessCheck:
    taken = any(vm.name == request.name for vm in target.vms)
    return FitnessCheck(
        name="name",
        state=CheckState.FAIL if taken else CheckState.PASS,
        evidence=f"{target.host} has {'a' if taken else 'no'} VM named {request.name}",
        remedy=f"choose another name: --name {request.name}-2" if taken else "",
    )


def _addresses_are_free(fleet: Fleet, request: Request) -> FitnessCheck:
    twins = [
        f"{nic.mac} is also {vm.name}'s on {snapshot.host}"
        for snapshot in fleet.snapshots
        for vm in snapshot.vms
        for nic in vm.nics
        if nic.mac in request.new_macs
    ]
    return FitnessCheck(
        name="MAC addresses",
        state=CheckState.WARN if twins else CheckState.PASS,
        evidence="; ".join(twins) or "no other VM that can be seen has them",
        remedy="keep the twin off, or give new addresses: --mac new" if twins else "",
    )


def _original(fleet: Fleet, point: Point) -> FitnessCheck:
    facts = point.manifest.vm
    for snapshot in fleet.snapshots:
        for vm in snapshot.vms:
            if vm.uuid != facts.uuid:
                continue
            if snapshot.status is not HostStatus.ONLINE:
                return FitnessCheck(
                    name="original",
                    state=CheckState.WARN,
                    evidence=f"{vm.name} was last seen on {snapshot.host}, which does not answer; it may come back",
                    remedy=f"make sure that {vm.name} stays off when {snapshot.host} returns",
                )
            if vm.state in (VmState.RUNNING, VmState.PAUSED):
                return FitnessCheck(
                    name="original",
                    state=CheckState.WARN,
                    evidence=f"{vm.name} is {vm.state.value} on {snapshot.host}: two VMs with the same identity inside",
                    remedy="keep the restored one off the original's network, or shut the original down first",
                )
            return FitnessCheck("original", CheckState.PASS, f"{vm.name} is {vm.state.value} on {snapshot.host}", "")
    return FitnessCheck("original", CheckState.PASS, f"{facts.name} is on no host that answers", "")


def _consistency(point: Point) -> FitnessCheck:
    manifest = point.manifest
    crash = manifest.consistency is Consistency.CRASH
    return FitnessCheck(
        name="consistency",
        state=CheckState.WARN if crash else CheckState.PASS,
        evidence=f"{manifest.consistency.value}: {manifest.consistency_note}",
        remedy="expect the guest to check its file systems at boot, as after a power cut" if crash else "",
    )


def _salvage(request: Request) -> tuple[FitnessCheck, ...]:
    if not request.salvage:
        return ()
    evidence = "what of its disks cannot be read any more will be zeroes; the report names every such range"
    remedy = "have the guest check its file systems, and bring back from elsewhere what it misses"
    return (FitnessCheck("salvage", CheckState.WARN, evidence, remedy),)
