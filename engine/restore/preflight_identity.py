"""Whether the restored VM can be told from every other one: name, UUID, addresses, and where the original is. Pure.

Every configured host is looked at, also those that are silent: what they had when they last answered may come back,
and of one that was never seen nobody can tell.
"""

from __future__ import annotations

from collections.abc import Iterator

from engine.fleet import CheckState, FitnessCheck, Fleet
from engine.hosts.model import HostSnapshot, HostStatus, Vm, VmState
from engine.repository import Point
from engine.restore.decide import UNPLUGGED, leads_nowhere
from engine.restore.model import Mode, Request

_TWO_OF_ONE = (
    "two guests with one name and one set of addresses inside: users reach one or the other, and both write as if"
    " they were alone"
)


def identity_checks(fleet: Fleet, point: Point, target: HostSnapshot, request: Request) -> list[FitnessCheck]:
    """Every check of a request that defines a VM."""
    return [
        _name(target, request),
        _uuid(fleet, point, request),
        _addresses(fleet, request),
        _original(fleet, point, request),
        *_reaches_nobody(target, request),
    ]


def reaches_others(request: Request) -> bool:
    """Whether the restored VM, once it runs, is on a network with others: QEMU's own leads out and never in."""
    return request.start and any(mapping.to not in ("user", UNPLUGGED) for mapping in request.networks)


def _name(target: HostSnapshot, request: Request) -> FitnessCheck:
    aside = request.aside
    moves = aside.uuid if aside is not None and aside.host == target.host else ""
    if any(vm.name == request.name and vm.uuid != moves for vm in target.vms):
        return FitnessCheck(
            name="name",
            state=CheckState.FAIL,
            evidence=f"{target.host} has a VM named {request.name}",
            remedy=f"choose another name: --name {request.name}-2",
            meaning="libvirt refuses a second VM of that name, or would redefine the one that is there",
        )
    if moves:
        return FitnessCheck("name", CheckState.PASS, f"{request.name} is the original's name, which is put aside")
    return FitnessCheck("name", CheckState.PASS, f"{target.host} has no VM named {request.name}")


def _uuid(fleet: Fleet, point: Point, request: Request) -> FitnessCheck:
    if request.new_uuid != point.manifest.vm.uuid:
        return FitnessCheck("UUID", CheckState.PASS, "it gets one of its own")
    moves = request.aside.uuid if request.aside is not None else ""
    found = [(snapshot, vm) for snapshot, vm in _vms(fleet) if vm.uuid == request.new_uuid and vm.uuid != moves]
    for snapshot, vm in found:
        if snapshot.status is HostStatus.ONLINE:
            return FitnessCheck(
                name="UUID",
                state=CheckState.FAIL,
                evidence=f"{vm.name} on {snapshot.host} has it: nobody could tell the two apart",
                remedy="give it a new one: --uuid new, or --mode replace",
                meaning="on one host libvirt would redefine the VM that is there; on two, backups would mix them up",
            )
    for snapshot, vm in found:
        return FitnessCheck(
            name="UUID",
            state=CheckState.WARN,
            evidence=f"{vm.name} has it too, on {snapshot.host}, which does not answer and may come back",
            remedy="give it a new one: --uuid new",
            meaning=f"when {snapshot.host} returns there are two VMs that nobody can tell apart",
            by_name=True,
        )
    return FitnessCheck("UUID", CheckState.PASS, "it keeps its own, which no other VM that can be seen has")


def _addresses(fleet: Fleet, request: Request) -> FitnessCheck:
    twins = [
        f"{nic.mac} is also {vm.name}'s on {snapshot.host}"
        for snapshot, vm in _vms(fleet)
        for nic in vm.nics
        if nic.mac in request.new_macs and (request.aside is None or vm.uuid != request.aside.uuid)
    ]
    if not twins:
        return FitnessCheck("MAC addresses", CheckState.PASS, "no other VM that can be seen has them")
    return FitnessCheck(
        name="MAC addresses",
        state=CheckState.WARN,
        evidence="; ".join(twins),
        remedy="keep the twin off, or give new addresses: --mac new",
        meaning="on one network switches send each one's traffic to the other: both drop out, now and then",
        by_name=reaches_others(request),
    )


def _original(fleet: Fleet, point: Point, request: Request) -> FitnessCheck:
    facts, aside = point.manifest.vm, request.aside
    if aside is not None:
        how = "is shut down and kept" if aside.runs else "is off, and is kept"
        return FitnessCheck("original", CheckState.PASS, f"{aside.name} on {aside.host} {how} as {aside.kept_name}")
    if all(mapping.to == UNPLUGGED for mapping in request.networks):
        return FitnessCheck(
            "original", CheckState.PASS, f"{request.name} is on no network: it meets {facts.name} nowhere"
        )
    found = [(snapshot, vm) for snapshot, vm in _vms(fleet) if vm.uuid == facts.uuid]
    for snapshot, vm in found:
        if snapshot.status is HostStatus.ONLINE and vm.state in (VmState.RUNNING, VmState.PAUSED):
            return FitnessCheck(
                name="original",
                state=CheckState.WARN,
                evidence=f"{vm.name} is {vm.state.value} on {snapshot.host}: two VMs with the same identity inside",
                remedy="isolate the restored one (--network 0=isolated), or shut the original down first",
                meaning=_TWO_OF_ONE,
                by_name=reaches_others(request),
            )
    for snapshot, vm in found:
        if snapshot.status is not HostStatus.ONLINE:
            return FitnessCheck(
                name="original",
                state=CheckState.WARN,
                evidence=f"{vm.name} was last seen on {snapshot.host}, which does not answer; it may run, or come back",
                remedy=f"make sure that {vm.name} is off, and stays off when {snapshot.host} returns",
                meaning=_TWO_OF_ONE,
                by_name=reaches_others(request),
            )
    for snapshot, vm in found:
        return FitnessCheck("original", CheckState.PASS, f"{vm.name} is {vm.state.value} on {snapshot.host}")
    return _unseen_original(fleet, facts.name, facts.host, request)


def _unseen_original(fleet: Fleet, name: str, host: str, request: Request) -> FitnessCheck:
    never_seen = [each.host for each in fleet.snapshots if each.status is HostStatus.OFFLINE]
    if never_seen:
        return FitnessCheck(
            name="original",
            state=CheckState.WARN,
            evidence=f"{name} is on no host that answers; whether it is on {' or '.join(never_seen)} nobody can tell",
            remedy=f"make sure that {name} is off there, and stays off",
            meaning=_TWO_OF_ONE,
            by_name=reaches_others(request) and host in never_seen,
        )
    return FitnessCheck("original", CheckState.PASS, f"{name} is on no host that answers")


def _reaches_nobody(target: HostSnapshot, request: Request) -> list[FitnessCheck]:
    """A test is no test if its guest answers the original's users."""
    if request.mode is not Mode.TEST:
        return []
    quiet = {network.name for network in target.networks if leads_nowhere(network.forward)} | {UNPLUGGED}
    loud = [f"card {mapping.nic} on {mapping.to}" for mapping in request.networks if mapping.to not in quiet]
    if loud:
        evidence = f"a test reaches no real network, and it has {', '.join(loud)}"
        remedy = "leave --network out, or name an isolated one"
        return [FitnessCheck("isolation", CheckState.FAIL, evidence, remedy, True, "it would answer real users")]
    return [FitnessCheck("isolation", CheckState.PASS, "it reaches nobody; it does not start with its host")]


def _vms(fleet: Fleet) -> Iterator[tuple[HostSnapshot, Vm]]:
    for snapshot in fleet.snapshots:
        for vm in snapshot.vms:
            yield snapshot, vm
