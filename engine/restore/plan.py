"""Decide every detail of a restore before anything is touched."""

from __future__ import annotations

import itertools
import shlex
import uuid

from msgspec import structs

from engine.errors import NotFound
from engine.fleet import Fleet, find_snapshot
from engine.hosts.model import HostSnapshot, HostStatus
from engine.hosts.rewrite import new_mac
from engine.repository import DiskRecord, Point
from engine.restore import step_titles
from engine.restore.model import MacChoice, NetworkMapping, PlannedStep, Request, RestorePlan
from engine.restore.preflight import preflight
from engine.settings import Settings, find_host

BOOT_FILES = {"nvram": "its NVRAM", "kernel": "its kernel", "initrd": "its initial RAM disk"}
"""Roles of a recovery point's files that lie beside the disks of the restored VM, and what a plan calls them."""


def lock_of(request: Request) -> str:
    """The key under which at most one job makes a VM of this name on the host at a time."""
    return f"restore:{request.to_host}:{request.name}"


def plan(settings: Settings, fleet: Fleet, request: Request) -> RestorePlan:
    """Plan the restore of one recovery point as the fleet was last seen.

    Raises `NotFound` when the host or the recovery point is not known. Everything else that stands in the way is a
    failed check of the plan.
    """
    find_host(settings, request.to_host)
    point = find_point(fleet, request)
    target = find_snapshot(fleet, request.to_host)
    decided = decide(settings, fleet, request, point, target)
    return RestorePlan(
        request=decided,
        vm=point.manifest.vm.name,
        moment=point.manifest.moment,
        consistency=point.manifest.consistency.value,
        source_host=point.manifest.vm.host,
        steps=planned_steps(point, decided),
        checks=preflight(fleet, point, target, decided),
        command=command_of(point, decided),
        untouched=f"The original {point.manifest.vm.name} and everything else on every host; nothing is overwritten.",
    )


def find_point(fleet: Fleet, request: Request) -> Point:
    """The recovery point that the request names. Raises `NotFound`."""
    for point in fleet.points:
        if (point.repository, point.manifest.vm.uuid, point.id) == (
            request.repository,
            request.vm_uuid,
            request.point_id,
        ):
            return point
    raise NotFound(
        f"Recovery point {request.point_id} is not in repository {request.repository}.",
        next_step="newhope points lists every recovery point.",
    )


def decide(settings: Settings, fleet: Fleet, request: Request, point: Point, target: HostSnapshot) -> Request:
    """The request with name, pool, UUID and addresses decided; what the operator chose stays."""
    facts = point.manifest.vm
    macs = request.new_macs
    if not macs:
        new = request.macs is MacChoice.NEW or (
            request.macs is MacChoice.AUTO and _answers_somewhere(fleet, facts.uuid)
        )
        taken = {nic.mac for snapshot in fleet.snapshots for vm in snapshot.vms for nic in vm.nics}
        macs = _new_macs(len(facts.macs), taken) if new else facts.macs
    return structs.replace(
        request,
        name=request.name or suggest_name(fleet, point, request.to_host),
        pool=request.pool or find_host(settings, request.to_host).pool or _first_pool(target),
        networks=tuple(
            next((given for given in request.networks if given.nic == nic), NetworkMapping(nic, _same_network(card)))
            for nic, card in enumerate(facts.nics)
        ),
        new_uuid=request.new_uuid or str(uuid.uuid4()),
        new_macs=macs,
        through_libvirt=target.facts is not None and not target.facts.runs_qemu_nbd,
    )


def suggest_name(fleet: Fleet, point: Point, to_host: str) -> str:
    """The VM's own name if the original is gone and the name is free there; otherwise `NAME-restored`, numbered."""
    facts = point.manifest.vm
    snapshot = find_snapshot(fleet, to_host)
    taken = {vm.name for vm in snapshot.vms}
    if facts.name not in taken and not _answers_somewhere(fleet, facts.uuid):
        return facts.name
    name = f"{facts.name}-restored"
    numbers = itertools.count(2)
    while name in taken:
        name = f"{facts.name}-restored-{next(numbers)}"
    return name


def planned_steps(point: Point, request: Request) -> tuple[PlannedStep, ...]:
    """The steps in the order they run."""
    manifest = point.manifest
    host = request.to_host
    steps = [
        PlannedStep(step_titles.CHECK_TARGET, host, "as it is when the restore begins", 0, "nothing to undo"),
        *(
            PlannedStep(
                step_titles.write_title(disk.target),
                host,
                _new_volume(request, disk),
                disk.data_bytes,
                "the volume is deleted",
            )
            for disk in manifest.disks
        ),
    ]
    kept = [file for file in manifest.files if file.role in BOOT_FILES]
    if kept:
        words = " and ".join(BOOT_FILES[file.role] for file in kept)
        size_bytes = sum(file.size_bytes for file in kept)
        detail = f"{words}, in pool {request.pool}"
        steps.append(PlannedStep(step_titles.PUT_BOOT_FILES, host, detail, size_bytes, "they are deleted"))
    steps.append(
        PlannedStep(step_titles.DEFINE, host, f"{request.name}, UUID {request.new_uuid}", 0, "it is undefined again")
    )
    if request.start:
        steps.append(PlannedStep(step_titles.START, host, request.name, 0, "it is switched off"))
        if manifest.vm.agent:
            detail = "proof that it booted; if it stays silent the VM is kept and the report says so"
            steps.append(PlannedStep(step_titles.ASK_AGENT, host, detail, 0, "nothing to undo"))
    return tuple(steps)


def _new_volume(request: Request, disk: DiskRecord) -> str:
    how = ", written through libvirt" if request.through_libvirt else ""
    return f"new {image_format(request, disk)} volume {volume_name(request, disk)} in pool {request.pool}{how}"


def image_format(request: Request, disk: DiskRecord) -> str:
    """Format of the volume that a restored disk becomes."""
    return "qcow2" if disk.format == "qcow2" and not request.through_libvirt else "raw"


def volume_name(request: Request, disk: DiskRecord) -> str:
    """Name of the volume that a restored disk becomes."""
    return f"{request.name}-{disk.target}.{image_format(request, disk)}"


def command_of(point: Point, request: Request) -> str:
    """The command line that asks for the same restore."""
    words = ["newhope", "restore", f"{point.manifest.vm.name}@{point.id}", "--to", request.to_host]
    words += ["--name", request.name, "--pool", request.pool]
    if request.macs is not MacChoice.AUTO:
        words += ["--mac", request.macs.value]
    for mapping, card in zip(request.networks, point.manifest.vm.nics, strict=False):
        if mapping.to != _same_network(card):
            words += ["--network", f"{mapping.nic}={mapping.to}"]
    if not request.start:
        words.append("--no-start")
    if request.salvage:
        words.append("--salvage")
    return shlex.join(words)


def _same_network(card: str) -> str:
    kind, _, source = card.partition(":")
    return "user" if kind == "user" else source or "none"


def _first_pool(target: HostSnapshot) -> str:
    active = [pool for pool in target.pools if pool.active]
    best = max(active, key=lambda pool: pool.available_bytes, default=None)
    return best.name if best else "default"


def _answers_somewhere(fleet: Fleet, vm_uuid: str) -> bool:
    return any(
        snapshot.status is HostStatus.ONLINE and any(vm.uuid == vm_uuid for vm in snapshot.vms)
        for snapshot in fleet.snapshots
    )


def _new_macs(count: int, taken: set[str]) -> tuple[str, ...]:
    chosen: list[str] = []
    while len(chosen) < count:
        mac = new_mac()
        if mac not in taken and mac not in chosen:
            chosen.append(mac)
    return tuple(chosen)
