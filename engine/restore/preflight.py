"""What stands in the way of a restore, found before anything is touched."""

from __future__ import annotations

from collections.abc import Mapping

from engine.fleet import CheckState, FitnessCheck, Fleet, fitness, format_bytes
from engine.hosts.model import HostSnapshot, HostStatus, VmState
from engine.hosts.volumes import holds_files
from engine.repository import Point, doubts
from engine.repository.model import Consistency
from engine.restore.decide import UNPLUGGED, holds_memory, leads_nowhere
from engine.restore.model import Mode, Request


def preflight(fleet: Fleet, point: Point, target: HostSnapshot, request: Request) -> tuple[FitnessCheck, ...]:
    """Every check of a decided request against the target host as it was last seen; failures first."""
    sizes = {disk.target: disk.data_bytes for disk in point.manifest.disks}
    fit = fitness(
        point.manifest.vm,
        target,
        pool=request.pool,
        needed_bytes=sum(sizes[disk.target] for disk in request.disks if disk.pool == request.pool),
        networks=tuple(mapping.to for mapping in request.networks),
    )
    checks = [
        *(check for check in fit.checks if request.defines or check.name in _OF_DISKS),
        *_other_pools(target, request, sizes),
        *_devices(target, request),
        _consistency(point),
        *_memory(fleet, point, request),
        *_doubt(fleet, point),
        *_salvage(request),
        *_verification(request),
        *_instant(target, point, request),
    ]
    if request.defines:
        checks += [
            _name_is_free(target, request),
            _uuid_is_free(fleet, point, request),
            _addresses_are_free(fleet, request),
            _original(fleet, point, request),
            *_reaches_nobody(target, request),
        ]
    order = (CheckState.FAIL, CheckState.WARN, CheckState.PASS, CheckState.SKIP)
    return tuple(sorted(checks, key=lambda check: order.index(check.state)))


_OF_DISKS = ("host", "pool")
"""Checks of a host's fitness that matter for disks without a VM."""


def _other_pools(target: HostSnapshot, request: Request, sizes: Mapping[str, int]) -> list[FitnessCheck]:
    """The pools of single disks; that of all others is among the host's checks."""
    checks: list[FitnessCheck] = []
    for name in dict.fromkeys(disk.pool for disk in request.disks if disk.pool not in ("", request.pool)):
        needed = sum(sizes[disk.target] for disk in request.disks if disk.pool == name)
        pool = next((each for each in target.pools if each.name == name), None)
        if pool is None or not pool.active:
            known = ", ".join(each.name for each in target.pools if each.active) or "none"
            evidence = f"{target.host} has no active pool {name}; active are: {known}"
            checks.append(FitnessCheck(f"pool {name}", CheckState.FAIL, evidence, "choose another pool", True))
            continue
        enough = pool.available_bytes >= needed
        evidence = f"{format_bytes(needed)} to write, {format_bytes(pool.available_bytes)} free in pool {name}"
        state, remedy = (CheckState.PASS, "") if enough else (CheckState.FAIL, f"make room in pool {name}")
        checks.append(FitnessCheck(f"pool {name}", state, evidence, remedy, changeable=not enough))
    return checks


def _devices(target: HostSnapshot, request: Request) -> list[FitnessCheck]:
    checks: list[FitnessCheck] = []
    for device in (disk.device for disk in request.disks if disk.device):
        owners = [vm.name for vm in target.vms if any(disk.source == device for disk in vm.disks)]
        if request.through_libvirt:
            evidence = f"{target.host} runs no qemu-nbd for us, through which alone {device} could be written"
            checks.append(FitnessCheck("device", CheckState.FAIL, evidence, "choose a pool"))
        elif owners:
            evidence = f"{device} on {target.host} is a disk of {', '.join(owners)}"
            checks.append(FitnessCheck("device", CheckState.FAIL, evidence, "choose another device, or a pool"))
        else:
            evidence = f"all of {device} on {target.host} is overwritten, whatever it holds"
            checks.append(FitnessCheck("device", CheckState.WARN, evidence, f"be sure: `lsblk -f {device}`"))
    return checks


def _name_is_free(target: HostSnapshot, request: Request) -> FitnessCheck:
    aside = request.aside
    moves = aside.uuid if aside is not None and aside.host == target.host else ""
    taken = any(vm.name == request.name and vm.uuid != moves for vm in target.vms)
    original = f"{request.name} is the original's name, which is put aside" if moves else ""
    return FitnessCheck(
        name="name",
        state=CheckState.FAIL if taken else CheckState.PASS,
        evidence=original
        if original and not taken
        else f"{target.host} has {'a' if taken else 'no'} VM named {request.name}",
        remedy=f"choose another name: --name {request.name}-2" if taken else "",
    )


def _uuid_is_free(fleet: Fleet, point: Point, request: Request) -> FitnessCheck:
    if request.new_uuid != point.manifest.vm.uuid:
        return FitnessCheck("UUID", CheckState.PASS, "it gets one of its own")
    moves = request.aside.uuid if request.aside is not None else ""
    for snapshot in fleet.snapshots:
        for vm in snapshot.vms:
            if vm.uuid != request.new_uuid or vm.uuid == moves:
                continue
            if snapshot.status is not HostStatus.ONLINE:
                evidence = f"{vm.name} has it too, on {snapshot.host}, which does not answer and may come back"
                return FitnessCheck("UUID", CheckState.WARN, evidence, "give it a new one: --uuid new")
            evidence = f"{vm.name} on {snapshot.host} has it: nobody could tell the two apart"
            return FitnessCheck("UUID", CheckState.FAIL, evidence, "give it a new one: --uuid new, or --mode replace")
    return FitnessCheck("UUID", CheckState.PASS, "it keeps its own, which no other VM that can be seen has")


def _verification(request: Request) -> list[FitnessCheck]:
    if not (request.verify and request.through_libvirt):
        return []
    evidence = f"{request.to_host} runs no qemu-nbd for us, so what is written cannot be read again"
    return [FitnessCheck("verification", CheckState.FAIL, evidence, "leave --verify out")]


def _instant(target: HostSnapshot, point: Point, request: Request) -> list[FitnessCheck]:
    """Whether the VM can start over the recovery point, as this machine serves it."""
    if not request.instant:
        return []
    kinds = {pool.name: pool.kind for pool in target.pools}
    reasons = {
        "only a VM can be started, and none is asked for": not request.defines,
        "a VM that is not started gains nothing by it": request.defines and not request.start,
        "it has no disk": not point.manifest.disks,
        "its memory belongs to disks that are whole": bool(request.memory),
        "what cannot be read would stop its guest, and is not skipped as a salvage does": request.salvage,
        "its disks are not there to be read again before it starts": request.verify,
        "a device of the host cannot be begun over the point": any(disk.device for disk in request.disks),
        f"{target.host} is another machine, which cannot connect to what this one serves": target.facts is not None
        and not target.facts.local,
        "the volumes of its pool are no files": any(
            disk.pool in kinds and not holds_files(kinds[disk.pool]) for disk in request.disks
        ),
    }
    against = [reason for reason, holds in reasons.items() if holds]
    if against:
        evidence = f"it cannot start at once: {'; '.join(against)}"
        remedy = "leave --instant out: its disks are written first, and then it starts"
        return [FitnessCheck("instant start", CheckState.FAIL, evidence, remedy)]
    evidence = f"until its disks are moved it needs this machine and repository {request.repository}"
    return [FitnessCheck("instant start", CheckState.PASS, f"{evidence}: without them its guest pauses, and waits")]


def _reaches_nobody(target: HostSnapshot, request: Request) -> list[FitnessCheck]:
    """A test is no test if its guest answers the original's users."""
    if request.mode is not Mode.TEST:
        return []
    quiet = {network.name for network in target.networks if leads_nowhere(network.forward)} | {UNPLUGGED}
    loud = [f"card {mapping.nic} on {mapping.to}" for mapping in request.networks if mapping.to not in quiet]
    if loud:
        evidence = f"a test reaches no real network, and it has {', '.join(loud)}"
        return [FitnessCheck("isolation", CheckState.FAIL, evidence, "leave --network out, or name an isolated one")]
    return [FitnessCheck("isolation", CheckState.PASS, "it reaches nobody; it does not start with its host")]


def _addresses_are_free(fleet: Fleet, request: Request) -> FitnessCheck:
    twins = [
        f"{nic.mac} is also {vm.name}'s on {snapshot.host}"
        for snapshot in fleet.snapshots
        for vm in snapshot.vms
        for nic in vm.nics
        if nic.mac in request.new_macs and (request.aside is None or vm.uuid != request.aside.uuid)
    ]
    return FitnessCheck(
        name="MAC addresses",
        state=CheckState.WARN if twins else CheckState.PASS,
        evidence="; ".join(twins) or "no other VM that can be seen has them",
        remedy="keep the twin off, or give new addresses: --mac new" if twins else "",
    )


def _original(fleet: Fleet, point: Point, request: Request) -> FitnessCheck:
    facts, aside = point.manifest.vm, request.aside
    if aside is not None:
        how = "is shut down and kept" if aside.runs else "is off, and is kept"
        return FitnessCheck("original", CheckState.PASS, f"{aside.name} on {aside.host} {how} as {aside.kept_name}")
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


def _memory(fleet: Fleet, point: Point, request: Request) -> tuple[FitnessCheck, ...]:
    if not holds_memory(point) or not request.defines or not request.start:
        return ()
    if request.memory:
        kept = "it goes on where it stood, with its name, UUID and addresses"
        return (FitnessCheck("saved memory", CheckState.PASS, kept, ""),)
    facts = point.manifest.vm
    twins = [f"{vm.name} on {each.host}" for each in fleet.snapshots for vm in each.vms if vm.uuid == facts.uuid]
    why = f"its UUID is that of {', '.join(twins)}" if twins else "its name, UUID and addresses are not all kept"
    evidence = f"its memory stays in the point, for {why}: it boots from its disks, as after a power cut"
    remedy = "to have it go on where it stood: --mode replace, or --memory to a host where no VM is its twin"
    return (FitnessCheck("saved memory", CheckState.WARN, evidence, remedy),)


def _consistency(point: Point) -> FitnessCheck:
    manifest = point.manifest
    crash = manifest.consistency is Consistency.CRASH
    return FitnessCheck(
        name="consistency",
        state=CheckState.WARN if crash else CheckState.PASS,
        evidence=f"{manifest.consistency.value}: {manifest.consistency_note}",
        remedy="expect the guest to check its file systems at boot, as after a power cut" if crash else "",
    )


def _doubt(fleet: Fleet, point: Point) -> tuple[FitnessCheck, ...]:
    why = doubts(fleet.points).get(point.original_id)
    if why is None:
        return ()
    remedy = "choose a newer point, or one from before it; else have the guest check its file systems and data"
    return (FitnessCheck("trust", CheckState.WARN, why, remedy),)


def _salvage(request: Request) -> tuple[FitnessCheck, ...]:
    if not request.salvage:
        return ()
    evidence = "what of its disks cannot be read any more will be zeroes; the report names every such range"
    remedy = "have the guest check its file systems, and bring back from elsewhere what it misses"
    return (FitnessCheck("salvage", CheckState.WARN, evidence, remedy),)
