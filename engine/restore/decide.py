"""Every open question of a restore answered, from the fleet as it was last seen; what the operator chose stays."""

from __future__ import annotations

import itertools
import secrets
import uuid
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from msgspec import structs

from engine.fleet import Fleet, HostFitness, Verdict, find_snapshot, fitness, ranked
from engine.hosts.answers import HostAnswers
from engine.hosts.model import HostSnapshot, HostStatus, Vm, VmState
from engine.hosts.rewrite import new_mac
from engine.repository import Point
from engine.restore.model import Aside, AtEnd, DiskTarget, MacChoice, Mode, NetworkMapping, Request, UuidChoice
from engine.restore.preflight_instant import against_instant
from engine.restore.steps import MEMORY
from engine.settings import GuestCheck, Settings, find_host, level_for

TEST_KEPT_S = 24 * 3600
"""How long the VM of a test is kept, unless somebody says otherwise."""
ISOLATED = "isolated"
UNPLUGGED = "none"
"""What `isolated` is decided to: a network of the host that leads nowhere may still have VMs on it that a restored
one, with the same addresses inside, would disturb."""


def hosts_by_fitness(
    settings: Settings, fleet: Fleet, point: Point, answers: Mapping[str, HostAnswers] = MappingProxyType({})
) -> tuple[HostFitness, ...]:
    """Every host with its fitness for this point, the fittest first. `answers`: what hosts said that were asked."""
    pools = {host.name: host.pool for host in settings.hosts}
    return ranked(
        fitness(
            point.manifest.vm,
            snapshot,
            pool=pools.get(snapshot.host),
            needed_bytes=point.size_bytes,
            answers=answers.get(snapshot.host),
        )
        for snapshot in fleet.snapshots
    )


def best_host(found: Iterable[HostFitness]) -> str:
    """The fittest of ranked hosts; the first, with all that speaks against it, if none fits. "" without hosts."""
    hosts = list(found)
    fit = [each.host for each in hosts if each.verdict is not Verdict.DOES_NOT_FIT]
    return (fit or [each.host for each in hosts] or [""])[0]


def decide(settings: Settings, fleet: Fleet, request: Request, point: Point, target: HostSnapshot) -> Request:
    """The request with nothing left open."""
    facts = point.manifest.vm
    original = _original(fleet, facts.uuid)
    replaces = request.mode is Mode.REPLACE
    if _memory(fleet, request, point, target, original):
        # They are in the memory: a guest that goes on has them, whatever its definition says.
        request = structs.replace(
            request, memory=True, name=facts.name, uuid=UuidChoice.KEEP, macs=MacChoice.KEEP, new_macs=facts.macs
        )
    else:
        request = structs.replace(request, memory=False)
    identity = request.id or secrets.token_hex(4)
    name = request.name or _name(fleet, point, request, original)
    aside = _aside(request, original) if replaces else None
    pool = request.pool or find_host(settings, request.to_host).pool or _first_pool(target)
    keeps_uuid = _keeps_uuid(fleet, request, point, aside)
    new_uuid = facts.uuid if keeps_uuid else str(uuid.uuid4())
    autostart = request.autostart
    if autostart is None:
        autostart = replaces and original is not None and original.autostart
    test = request.mode is Mode.TEST
    through_libvirt = target.facts is not None and not target.facts.runs_qemu_nbd
    request = structs.replace(request, through_libvirt=through_libvirt)
    decided = structs.replace(
        request,
        id=identity,
        name=name,
        pool=pool,
        disks=_disks(request, point, pool, _stem(target, request, name, identity)),
        networks=_networks(request, facts.nics),
        new_uuid=request.new_uuid or new_uuid,
        new_macs=request.new_macs or _macs(fleet, request, point, aside),
        aside=aside,
        autostart=autostart,
        start=request.start and request.defines,
        move=request.move or not request.instant,
        checks=_checks(settings, request, point),
        keep_for_s=TEST_KEPT_S if test and request.keep_for_s is None else request.keep_for_s,
        at_end=AtEnd.UNDO if test and request.at_end is None else request.at_end,
    )
    return _proving(decided, point, target)


def _proving(request: Request, point: Point, target: HostSnapshot) -> Request:
    """A proof boots its VM over the point as it is served, and copies nothing, wherever that can be done."""
    if not request.proves:
        return request
    instant = not against_instant(point, target, request)
    return structs.replace(request, instant=instant, move=not instant)


def _memory(fleet: Fleet, request: Request, point: Point, target: HostSnapshot, original: Vm | None) -> bool:
    """Whether the VM goes on from its memory."""
    facts = point.manifest.vm
    if request.memory is not None or not holds_memory(point):
        return bool(request.memory)
    if not request.defines or not request.start or request.salvage or request.mode is Mode.TEST or request.instant:
        return False
    if request.uuid is UuidChoice.NEW or request.macs is MacChoice.NEW or request.name not in ("", facts.name):
        return False
    if request.mode is Mode.REPLACE and original is not None:
        return original.name == facts.name and not facts.tpm
    # A host that is silent may come back with the original on it.
    twin = any(vm.uuid == facts.uuid for snapshot in fleet.snapshots for vm in snapshot.vms)
    return not twin and all(vm.name != facts.name for vm in target.vms)


def holds_memory(point: Point) -> bool:
    """Whether the guest's memory was kept with the point."""
    return any(file.role == MEMORY for file in point.manifest.files)


def suggest_name(fleet: Fleet, point: Point, to_host: str) -> str:
    """The VM's own name if the original is gone and the name is free there; otherwise `NAME-restored`, numbered."""
    facts = point.manifest.vm
    taken = {vm.name for vm in find_snapshot(fleet, to_host).vms}
    if facts.name not in taken and not answers_somewhere(fleet, facts.uuid):
        return facts.name
    return _numbered(f"{facts.name}-restored", taken)


def answers_somewhere(fleet: Fleet, vm_uuid: str) -> bool:
    """Whether a host that answers has the VM."""
    return _original(fleet, vm_uuid) is not None


def _original(fleet: Fleet, vm_uuid: str) -> Vm | None:
    for snapshot in fleet.snapshots:
        if snapshot.status is HostStatus.ONLINE:
            for vm in snapshot.vms:
                if vm.uuid == vm_uuid:
                    return vm
    return None


def _name(fleet: Fleet, point: Point, request: Request, original: Vm | None) -> str:
    if request.mode is Mode.TEST:
        taken = {vm.name for vm in find_snapshot(fleet, request.to_host).vms}
        return _numbered(f"{point.manifest.vm.name}-test", taken)
    if request.mode is Mode.REPLACE:
        return original.name if original is not None else point.manifest.vm.name
    return suggest_name(fleet, point, request.to_host)


def _numbered(name: str, taken: set[str]) -> str:
    if name not in taken:
        return name
    numbers = itertools.count(2)
    return next(numbered for number in numbers if (numbered := f"{name}-{number}") not in taken)


def _aside(request: Request, original: Vm | None) -> Aside | None:
    """What becomes of the original; its names while it is aside stay as they were decided first."""
    if original is None:
        return None
    before = request.aside
    return Aside(
        host=original.host,
        uuid=original.uuid,
        name=original.name,
        kept_name=before.kept_name if before else f"{original.name}-original-{secrets.token_hex(2)}",
        kept_uuid=before.kept_uuid if before else str(uuid.uuid4()),
        runs=original.state not in (VmState.OFF, VmState.CRASHED),
    )


def _keeps_uuid(fleet: Fleet, request: Request, point: Point, aside: Aside | None) -> bool:
    if request.uuid is not UuidChoice.AUTO:
        return request.uuid is UuidChoice.KEEP
    if request.mode is not Mode.REPLACE:
        return False
    if aside is not None:
        # TPM state belongs to a UUID on its host: the original's must stay the original's.
        return not point.manifest.vm.tpm
    # A host that is silent may come back with the original on it.
    return all(vm.uuid != point.manifest.vm.uuid for snapshot in fleet.snapshots for vm in snapshot.vms)


def _stem(target: HostSnapshot, request: Request, name: str, identity: str) -> str:
    """How the names of the new volumes begin: the VM's name, and this restore's id where others begin so already."""
    paths = [path for vm in target.vms for path in (*(disk.source for disk in vm.disks), *vm.boot_files, vm.nvram)]
    used = any(path is not None and path.rpartition("/")[2].startswith(f"{name}-") for path in paths)
    return f"{name}-{identity}" if used or request.mode is Mode.REPLACE else name


def _disks(request: Request, point: Point, pool: str, stem: str) -> tuple[DiskTarget, ...]:
    decided: list[DiskTarget] = []
    for record in point.manifest.disks:
        asked = next((disk for disk in request.disks if disk.target == record.target), DiskTarget(record.target))
        as_it_was = "qcow2" if record.format == "qcow2" else "raw"
        only_raw = asked.device or request.through_libvirt
        image_format = "raw" if only_raw else asked.format or request.format or as_it_was
        decided.append(
            DiskTarget(
                target=record.target,
                pool="" if asked.device else asked.pool or pool,
                format=image_format,
                device=asked.device,
                volume="" if asked.device else asked.volume or f"{stem}-{record.target}.{image_format}",
            )
        )
    return tuple(decided)


def _networks(request: Request, cards: tuple[str, ...]) -> tuple[NetworkMapping, ...]:
    test = request.mode is Mode.TEST
    decided: list[NetworkMapping] = []
    for nic, card in enumerate(cards):
        to = next((given.to for given in request.networks if given.nic == nic), ISOLATED if test else network_of(card))
        decided.append(NetworkMapping(nic, UNPLUGGED if to == ISOLATED else to))
    return tuple(decided)


def leads_nowhere(forward: str) -> bool:
    """Whether a network of that kind connects VMs with each other and the host only."""
    return forward in ("isolated", "none", "")


def network_of(card: str) -> str:
    """What a card is connected to if nothing is changed, in the words of `NetworkMapping`."""
    kind, _, source = card.partition(":")
    return "user" if kind == "user" else source or UNPLUGGED


def _macs(fleet: Fleet, request: Request, point: Point, aside: Aside | None) -> tuple[str, ...]:
    facts = point.manifest.vm
    new = request.macs is MacChoice.NEW or (
        request.macs is MacChoice.AUTO and aside is None and answers_somewhere(fleet, facts.uuid)
    )
    if not new:
        return facts.macs
    taken = {nic.mac for snapshot in fleet.snapshots for vm in snapshot.vms for nic in vm.nics}
    chosen: list[str] = []
    while len(chosen) < len(facts.macs):
        mac = new_mac()
        if mac not in taken and mac not in chosen:
            chosen.append(mac)
    return tuple(chosen)


def _checks(settings: Settings, request: Request, point: Point) -> tuple[GuestCheck, ...]:
    """What is asked of the guest of a test: what the VM's level says."""
    if request.checks is not None or request.mode is not Mode.TEST or not request.start:
        return request.checks or ()
    facts = point.manifest.vm
    level = level_for(settings, facts.name, host=facts.host, tags=facts.tags)
    return level.checks if level is not None else ()


def _first_pool(target: HostSnapshot) -> str:
    active = [pool for pool in target.pools if pool.active]
    best = max(active, key=lambda pool: pool.available_bytes, default=None)
    return best.name if best else "default"
