"""What an operator means by the name of a VM or of a recovery point."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from engine.errors import Conflict, NotFound
from engine.fleet import Fleet, RepositoryView, gone_vms, known_vms
from engine.hosts import HostUnreachable
from engine.hosts.model import HostStatus, Vm
from engine.repository import Point, PointKind, parse_point_name, select_point
from engine.repository.errors import RepositoryError


class RepositoryUnreachable(RepositoryError):
    """No repository could be read, so nothing can be said about recovery points."""


def find_vm(fleet: Fleet, name: str, *, host: str | None = None) -> Vm:
    """The one VM of this name or UUID on the hosts that answer; raises `NotFound`, or `Conflict` for twins."""
    vms = [vm for vm in known_vms(fleet) if host is None or vm.host == host]
    found = [vm for vm in vms if name in (vm.name, vm.uuid)]
    if len(found) == 1:
        return found[0]
    if found:
        places = ", ".join(f"{vm.host} ({vm.uuid})" for vm in found)
        raise Conflict(
            f"{len(found)} VMs are named {name}: on {places}.",
            next_step="name one by its UUID, or add --host HOST.",
        )
    _refuse_where_host_is_silent(fleet, name)
    silent = [snapshot.host for snapshot in fleet.snapshots if snapshot.status is not HostStatus.ONLINE]
    unseen = f" {', '.join(silent)} did not answer: it may be there." if silent else ""
    where = f"on host {host}" if host else "on any host"
    raise NotFound(f"There is no VM {name} {where}.{unseen}", next_step=_nearest(name, {vm.name for vm in vms}))


def refuse_silent_host(fleet: Fleet, vm: str, host: str) -> None:
    """Raise `HostUnreachable` if the host that has a VM does not answer now."""
    for snapshot in fleet.snapshots:
        if snapshot.host == host and snapshot.status is not HostStatus.ONLINE:
            raise HostUnreachable(
                host,
                snapshot.reason or "it gave no reason",
                untouched=f"Nothing was done with {vm}; its recovery points are as they were.",
                next_step=snapshot.next_step or f"`newhope hosts {host}` tells when it answers again.",
            )


def refuse_unreachable_repository(fleet: Fleet, name: str) -> None:
    """Raise if a repository that is about to be written to could not be read."""
    refuse_without_repository([view for view in fleet.repositories if view.name == name])


def _refuse_where_host_is_silent(fleet: Fleet, name: str) -> None:
    for facts in gone_vms(fleet):
        if name in (facts.name, facts.uuid):
            refuse_silent_host(fleet, facts.name, facts.host)


def find_point(points: Sequence[Point], name: str, kind: PointKind = PointKind.VM) -> Point:
    """The point of a kind that `web@latest`, `UUID@-1` or `web@2026-11-22T08:13` means, or the one with a short id."""
    vm, selector = parse_point_name(name)
    found = of_vm(points, vm)
    if found:
        return select_point(found, selector, kind)
    by_id = [point for point in points if len(name) >= 4 and point.id.startswith(name.lower())]
    if "@" not in name and by_id:
        return select_point(by_id, name)
    raise NotFound(
        f"There is no recovery point of a VM {vm}.",
        next_step=_nearest(vm, {point.manifest.vm.name for point in points}, command="newhope points"),
    )


def of_vm(points: Sequence[Point], vm: str) -> tuple[Point, ...]:
    """The points of the VM of this name or UUID; raises `Conflict` if several VMs had the name."""
    found = tuple(point for point in points if vm in (point.manifest.vm.name, point.manifest.vm.uuid))
    uuids = {point.manifest.vm.uuid: point for point in found}
    if len(uuids) > 1:
        twins = ", ".join(f"{uuid} (last on {point.manifest.vm.host})" for uuid, point in uuids.items())
        raise Conflict(
            f"{len(uuids)} different VMs named {vm} have recovery points: {twins}.",
            next_step="name one by its UUID, as in UUID@latest.",
        )
    return found


def refuse_without_repository(views: Sequence[RepositoryView]) -> None:
    """Raise if none of these repositories could be read: an empty list would look like no recovery points."""
    unreachable = [view for view in views if not view.reachable]
    if unreachable and len(unreachable) == len(views):
        first = unreachable[0]
        raise RepositoryUnreachable(
            f"Repository {first.name} cannot be read: {first.reason or 'no reason was given.'}",
            next_step=first.next_step or f"look at {first.path}.",
        )


def _nearest(name: str, names: set[str], *, command: str = "newhope vms") -> str:
    near = difflib.get_close_matches(name, sorted(names), n=3)
    return f"did you mean {' or '.join(near)}?" if near else f"`{command}` lists what there is."
