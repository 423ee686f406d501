"""`newhope vms`: every VM, its state, and how much would be lost if its host died now."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from engine.cli.commands import Command
from engine.cli.invocation import Invocation
from engine.errors import ExitCode

if TYPE_CHECKING:
    from engine.cli.table import Cell
    from engine.fleet import Fleet
    from engine.hosts.model import Vm
    from engine.requirements import Exposure


@click.command("vms", cls=Command)
@click.argument("vm", required=False, metavar="[VM]")
@click.option("--host", help="Only the VMs of this host.")
@click.pass_obj
def vms(invocation: Invocation, vm: str | None, host: str | None) -> ExitCode:
    """VMs: where they run, and the age of their newest recovery point against what their level asks for.

    \b
    Examples:
      newhope vms                 all of them
      newhope vms web             one in full: disks, networks, protection
      newhope vms --host yavin
    """
    from datetime import UTC, datetime

    from engine.cli import printing
    from engine.cli.documents import plain
    from engine.cli.named import find_vm
    from engine.fleet import known_vms
    from engine.hosts.model import HostStatus
    from engine.requirements import exposures
    from engine.settings import find_host

    if host:
        find_host(invocation.settings, host)
    fleet = invocation.fleet()
    shown = (
        (find_vm(fleet, vm, host=host),)
        if vm
        else tuple(each for each in known_vms(fleet) if host in (None, each.host))
    )
    by_uuid = {exposure.vm_uuid: exposure for exposure in exposures(invocation.settings, fleet, datetime.now(UTC))}
    silent = {snapshot.host for snapshot in fleet.snapshots if snapshot.status is not HostStatus.ONLINE}
    known = {each.uuid for each in known_vms(fleet)}
    unseen = [
        exposure
        for exposure in by_uuid.values()
        if vm is None and exposure.vm_uuid not in known and host in (None, exposure.host)
    ]
    if invocation.json:
        documents = [
            plain(each) | {"protection": plain(by_uuid[each.uuid]) if each.uuid in by_uuid else None} for each in shown
        ]
        printing.show_json({"vms": documents, "unseen": [plain(exposure) for exposure in unseen]})
    elif vm:
        _show_one(shown[0], by_uuid.get(shown[0].uuid), stale=shown[0].host in silent)
        _tell_doubts(fleet, {shown[0].uuid})
    else:
        _show(shown, by_uuid, unseen, silent)
        _tell_doubts(fleet, {each.uuid for each in shown} | {each.vm_uuid for each in unseen})
        tell_silent(fleet)
    asked = {snapshot.host for snapshot in fleet.snapshots if host in (None, snapshot.host)}
    return ExitCode.HOST_UNREACHABLE if asked and asked <= silent else ExitCode.OK


def _show(shown: tuple[Vm, ...], by_uuid: dict[str, Exposure], unseen: list[Exposure], silent: set[str]) -> None:
    from engine.cli import printing, states
    from engine.cli.table import Column
    from engine.fleet import ProofState

    columns = (
        Column("VM", gives_way=True),
        Column("HOST", gives_way=True),
        Column("STATE"),
        Column("AGENT"),
        Column("DISKS", right=True),
        Column("NEWEST POINT", right=True),
        Column("LEVEL", gives_way=True),
        Column("PROTECTION"),
    )
    rows = [_row(vm, by_uuid.get(vm.uuid), stale=vm.host in silent) for vm in shown]
    rows += [[exposure.vm, exposure.host, states.UNSEEN, "", "", *_protection(exposure)] for exposure in unseen]
    exposed = [by_uuid.get(vm.uuid) for vm in shown] + list(unseen)
    if any(each is not None and each.proof.state is not ProofState.NOT_ASKED for each in exposed):
        columns = (*columns, Column("PROVEN"))
        rows = [[*row, _proven(each)] for row, each in zip(rows, exposed, strict=True)]
    if rows:
        printing.show_table(columns, rows)
    else:
        printing.say("No VM was seen.")
    for each in exposed:
        if each is not None and each.proof.state is ProofState.FAILED and each.proof.last is not None:
            point = f"{each.vm}@{each.proof.last.point_id[:8]}"
            printing.say(f"! {each.vm}: its last proof failed; see newhope points show {point}")


def _tell_doubts(fleet: Fleet, uuids: set[str]) -> None:
    """Name the VMs with points that may have missed a write: somebody has to find out why."""
    from collections import Counter

    from engine.cli import printing
    from engine.cli.wording import count
    from engine.repository import doubts, one_of_each

    doubted = doubts(fleet.points)
    of_vms = [each.manifest.vm for each in one_of_each(fleet.points) if each.original_id in doubted]
    for (name, uuid), number in Counter((vm.name, vm.uuid) for vm in of_vms).items():
        if uuid in uuids:
            printing.say(f"! {name}: {count(number, 'recovery point')} doubted; see newhope points {name}")


def tell_silent(fleet: Fleet) -> None:
    """Name what did not answer: what it has is missing above, or old."""
    from engine.cli import printing
    from engine.hosts.model import HostStatus

    for snapshot in fleet.snapshots:
        if snapshot.status is not HostStatus.ONLINE:
            printing.say(f"! host {snapshot.host} does not answer: {snapshot.reason}")
            printing.say(f"  next: {snapshot.next_step}")
    for view in fleet.repositories:
        if not view.reachable:
            printing.say(f"! repository {view.name} cannot be read: {view.reason}")
            printing.say(f"  next: {view.next_step}")
        for damage in view.damaged:
            printing.say(f"! repository {view.name}: {damage}")


def _row(vm: Vm, exposure: Exposure | None, *, stale: bool) -> list[Cell]:
    from engine.cli import states
    from engine.cli.wording import size
    from engine.hosts.model import AgentState

    answers = {AgentState.CONNECTED: "yes", AgentState.DISCONNECTED: "silent", AgentState.ABSENT: "none"}
    disks = [disk for disk in vm.disks if disk.device == "disk"]
    return [
        vm.name,
        vm.host,
        states.STALE if stale else states.VM[vm.state],
        answers[vm.agent],
        size(sum(disk.capacity_bytes for disk in disks)),
        *(_protection(exposure) if exposure else ("", "", "")),
    ]


def _protection(exposure: Exposure) -> tuple[Cell, Cell, Cell]:
    from engine.cli import states
    from engine.cli.wording import age

    newest = "never" if exposure.age_s is None else f"{age(exposure.age_s)} ago"
    level = exposure.level.name if exposure.level else exposure.excluded_by or ""
    return newest, level, states.PROTECTION[exposure.state]


def _proven(exposure: Exposure | None) -> Cell:
    """How long ago it was proven, in words that say what is wrong with it."""
    from engine.cli.table import bad, doubtful, unknown
    from engine.cli.wording import age
    from engine.fleet import ProofState

    if exposure is None or exposure.proof.state is ProofState.NOT_ASKED:
        return "-"
    ago = "" if exposure.proof.age_s is None else f"{age(exposure.proof.age_s)} ago"
    match exposure.proof.state:
        case ProofState.PROVEN:
            return ago
        case ProofState.FAILED:
            return bad(f"FAILED {ago}")
        case ProofState.LATE:
            return doubtful(f"LATE {ago}")
        case ProofState.NEVER:
            return doubtful("NEVER")
        case _:
            return unknown(f"OPEN {ago}")


def _show_one(vm: Vm, exposure: Exposure | None, *, stale: bool) -> None:
    from engine.cli import printing, states
    from engine.cli.table import Column
    from engine.cli.wording import age, local, size
    from engine.fleet import ProofState
    from engine.settings import format_duration

    facts = [
        ("vm", f"{vm.name} ({vm.uuid})"),
        ("host", vm.host),
        ("state", f"{states.STALE.text}, was {vm.state.value}" if stale else states.VM[vm.state].text),
        ("hardware", f"{vm.vcpus} CPUs, {size(vm.memory_bytes)}, {vm.arch} {vm.machine}, {vm.virt_type}"),
        ("firmware", vm.firmware + (", TPM" if vm.tpm else "")),
        ("agent", vm.agent.value),
    ]
    if vm.tags:
        facts.append(("tags", " ".join(vm.tags)))
    if vm.job and not stale:
        facts.append(("busy", vm.job))
    facts += [("network", f"{nic.kind} {nic.source or ''} {nic.mac} {nic.model}") for nic in vm.nics]
    if exposure is not None:
        newest = "none"
        if exposure.newest is not None and exposure.age_s is not None:
            newest = f"{local(exposure.newest)}, {age(exposure.age_s)} ago"
        facts += [
            ("newest point", newest),
            ("protection", states.PROTECTION[exposure.state].text),
        ]
        if exposure.proof.state is not ProofState.NOT_ASKED:
            proven = _proven(exposure)
            facts.append(("proven", proven if isinstance(proven, str) else proven.text))
        if exposure.level:
            rpo, rto = format_duration(exposure.level.rpo_s), format_duration(exposure.level.rto_s)
            facts.append(("level", f"{exposure.level.name}: RPO {rpo}, RTO {rto}"))
        if exposure.excluded_by:
            facts.append(("excluded by", f"{exposure.excluded_by} in [exclude] of the settings"))
    printing.show_facts(facts)
    printing.say()
    columns = (
        Column("DISK"),
        Column("KIND"),
        Column("FORMAT"),
        Column("SIZE", right=True),
        Column("USED", right=True),
        Column("SOURCE", gives_way=True),
    )
    rows = [
        (
            disk.target,
            disk.device,
            disk.format,
            size(disk.capacity_bytes),
            size(disk.allocation_bytes),
            disk.source or "",
        )
        for disk in vm.disks
    ]
    printing.show_table(columns, rows)
