"""What a restore will do, decided in every detail before anything is touched."""

from __future__ import annotations

import hashlib
import shlex

import msgspec
from msgspec import structs

from engine.errors import NotFound
from engine.fleet import Fleet, find_snapshot
from engine.hosts.model import HostSnapshot
from engine.repository import Point
from engine.restore.decide import best_host, decide, holds_memory, hosts_by_fitness, network_of
from engine.restore.evidence import Evidence
from engine.restore.host_note import note_name
from engine.restore.model import WATCH_S, AtEnd, MacChoice, Mode, PlannedStep, Request, RestorePlan, UuidChoice
from engine.restore.place_of import path_in_pool
from engine.restore.preflight import preflight
from engine.restore.rates import Rates
from engine.restore.steps import BOOT_FILES, MEMORY, Step, StepKind, steps_of, tracked
from engine.settings import Settings, find_host, format_duration

_NOTHING_MEASURED = Rates()
_NOBODY_ASKED = Evidence()
_NOTHING = "nothing to undo"


def lock_of(request: Request) -> str:
    """The key under which at most one job makes a VM of this name on the host at a time."""
    return f"restore:{request.to_host}:{request.name}"


def plan(
    settings: Settings,
    fleet: Fleet,
    request: Request,
    rates: Rates = _NOTHING_MEASURED,
    evidence: Evidence = _NOBODY_ASKED,
) -> RestorePlan:
    """Plan the restore of one recovery point as the fleet was last seen; `rates` tell how long it should take.

    `evidence`: what repository and host said to this request (`examine.examined_plan` gathers it); without it the
    checks that need it are skipped.

    Raises `NotFound` when the host or the recovery point is not known. Everything else that stands in the way is a
    failed check of the plan.
    """
    point = find_point(fleet, request)
    hosts = () if request.to_host else hosts_by_fitness(settings, fleet, point)
    if not request.to_host:
        request = structs.replace(request, to_host=best_host(hosts))
    find_host(settings, request.to_host)
    target = find_snapshot(fleet, request.to_host)
    if request.memory and not holds_memory(point):
        raise NotFound(
            f"{point.manifest.vm.name}@{point.id[:8]} holds no memory of its guest.",
            next_step="restore it without --memory; `newhope backup --method memory` keeps it the next time.",
        )
    decided = decide(settings, fleet, request, point, target)
    steps = planned_steps(point, decided, target, rates)
    return RestorePlan(
        request=structs.replace(decided, digest=digest_of(decided, steps)),
        vm=point.manifest.vm.name,
        moment=point.manifest.moment,
        consistency=point.manifest.consistency.value,
        source_host=point.manifest.vm.host,
        steps=steps,
        checks=preflight(fleet, point, target, decided, evidence),
        command=command_of(point, decided),
        untouched=_untouched(point, decided),
        hosts=hosts,
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


def digest_of(request: Request, steps: tuple[PlannedStep, ...]) -> str:
    """What a plan is known by: the decided request and every step as it was shown, without what was only expected."""
    shown = (
        structs.replace(request, digest="", accepted=()),
        tuple(structs.replace(step, expected_s=None) for step in steps),
    )
    return hashlib.sha256(msgspec.json.encode(shown)).hexdigest()[:16]


def planned_steps(
    point: Point, request: Request, target: HostSnapshot, rates: Rates = _NOTHING_MEASURED
) -> tuple[PlannedStep, ...]:
    """The steps of a decided request as they are shown, in the order in which they run."""
    described: list[PlannedStep] = []
    for step in steps_of(point.manifest, request):
        shown = _described(step, point, request, target)
        of_disk = step.kind in (StepKind.WRITE, StepKind.VERIFY)
        image_format = request.disk(step.of).format if of_disk else ""
        expected = rates.expected_s(request.to_host, step.kind, shown.size_bytes, image_format)
        described.append(structs.replace(shown, key=step.key, expected_s=expected))
    return tuple(described)


def _described(step: Step, point: Point, request: Request, target: HostSnapshot) -> PlannedStep:
    host, aside = request.to_host, request.aside
    match step.kind:
        case StepKind.CHECK:
            return PlannedStep(step.title, host, "as it is when the restore begins", 0, _NOTHING)
        case StepKind.NOTE:
            path = path_in_pool(target, request.pool, note_name(request.id))
            detail = f"{note_name(request.id)} in pool {request.pool}: whoever finds it there can undo the restore"
            return PlannedStep(step.title, host, detail, 0, "it is deleted, last of all", path=path)
        case StepKind.WRITE:
            return _writing(step, point, request, target)
        case StepKind.SERVE | StepKind.OVERLAY | StepKind.MOVE | StepKind.LET_GO:
            return _instant(step, point, request, target)
        case StepKind.VERIFY:
            size_bytes = next(disk.data_bytes for disk in point.manifest.disks if disk.target == step.of)
            detail = f"{step.of} is compared with the recovery point, byte for byte"
            return PlannedStep(step.title, host, detail, size_bytes, _NOTHING)
        case StepKind.BOOT_FILES:
            kept = [file for file in point.manifest.files if file.role in BOOT_FILES]
            words = " and ".join(BOOT_FILES[file.role] for file in kept)
            detail, size_bytes = f"{words}, in pool {request.pool}", sum(file.size_bytes for file in kept)
            return PlannedStep(step.title, host, detail, size_bytes, "they are deleted")
        case StepKind.MEMORY:
            size_bytes = next(file.size_bytes for file in point.manifest.files if file.role == MEMORY)
            detail = f"a raw volume in pool {request.pool}, deleted when it runs"
            return PlannedStep(step.title, host, detail, size_bytes, "it is deleted")
        case StepKind.STOP if aside is not None:
            how = "through its agent or power button" + ("; else its power is cut" if request.power_off else "")
            detail = f"{aside.name}, {how}" if aside.runs else f"{aside.name} is off already"
            return PlannedStep(step.title, aside.host, detail, 0, "it is started again" if aside.runs else _NOTHING)
        case StepKind.ASIDE if aside is not None:
            detail = f"{aside.name} becomes {aside.kept_name}; its disks are not touched"
            return PlannedStep(step.title, aside.host, detail, 0, f"it becomes {aside.name} again, as it was")
        case StepKind.ASK | StepKind.GUEST_CHECK | StepKind.WATCH | StepKind.TAKE_AWAY:
            return _of_the_guest(step, request)
        case _:
            return _of_the_vm(step, point, request)


def _of_the_guest(step: Step, request: Request) -> PlannedStep:
    host = request.to_host
    match step.kind:
        case StepKind.GUEST_CHECK:
            check = next(each for each in request.checks or () if each.name == step.of)
            detail = f"{check.what}; tried again for {format_duration(check.time_limit_s)}"
            return PlannedStep(step.title, host, detail, 0, _NOTHING)
        case StepKind.WATCH:
            detail = f"for {format_duration(request.watch_s)}: it has no agent that could tell whether it booted"
            return PlannedStep(step.title, host, detail, 0, _NOTHING)
        case StepKind.TAKE_AWAY:
            detail = f"{request.name} is switched off and removed with its disks; what it proved is kept"
            return PlannedStep(step.title, host, detail, 0, _NOTHING)
        case _:
            kept = "the proof says so" if request.proves else "the VM is kept and the report says so"
            return PlannedStep(step.title, host, f"proof that it booted; if it stays silent {kept}", 0, _NOTHING)


def _of_the_vm(step: Step, point: Point, request: Request) -> PlannedStep:
    host = request.to_host
    match step.kind:
        case StepKind.DEFINE:
            kept = ", its own" if request.new_uuid == point.manifest.vm.uuid else ""
            detail = f"{request.name}, UUID {request.new_uuid}{kept}"
            detail += ", with its TPM state" if any(file.role == "tpm" for file in point.manifest.files) else ""
            detail += "; it starts with its host" if request.autostart else ""
            return PlannedStep(step.title, host, detail, 0, "it is undefined again")
        case StepKind.TRACK:
            detail = f"on {', '.join(tracked(request))}, so that the next backup reads only what was written since"
            return PlannedStep(step.title, host, detail, 0, "they go with the VM and its disks")
        case StepKind.WAKE:
            detail = f"{request.name}, from {point.manifest.moment:%Y-%m-%d %H:%M:%S} UTC on"
            return PlannedStep(step.title, host, detail, 0, "it is switched off")
        case _:
            return PlannedStep(step.title, host, request.name, 0, "it is switched off")


def _writing(step: Step, point: Point, request: Request, target: HostSnapshot) -> PlannedStep:
    disk = request.disk(step.of)
    size_bytes = next(record.data_bytes for record in point.manifest.disks if record.target == step.of)
    if disk.device:
        detail = f"over all of {disk.device}: what it holds now is lost for good"
        undo = "the device keeps what was written"
        return PlannedStep(step.title, request.to_host, detail, size_bytes, undo, path=disk.device, no_return=True)
    path = path_in_pool(target, disk.pool, disk.volume)
    how = ", written through libvirt" if request.through_libvirt else ""
    detail = f"new {disk.format} volume {disk.volume} in pool {disk.pool}{how}"
    return PlannedStep(step.title, request.to_host, detail, size_bytes, "the volume is deleted", path=path)


def _instant(step: Step, point: Point, request: Request, target: HostSnapshot) -> PlannedStep:
    host = request.to_host
    if step.kind is StepKind.SERVE:
        detail = f"its disks over NBD to the VM on {host}, read-only, by a process of its own on this machine"
        return PlannedStep(step.title, host, detail, 0, "the server ends")
    if step.kind is StepKind.LET_GO:
        return PlannedStep(step.title, host, "the layers are deleted, the server ends", 0, _NOTHING)
    disk = request.disk(step.of)
    size_bytes = next(record.data_bytes for record in point.manifest.disks if record.target == step.of)
    path = path_in_pool(target, disk.pool, disk.volume)
    if step.kind is StepKind.OVERLAY:
        detail = f"a layer for what its guest writes, and the new {disk.format} volume {disk.volume}, in {disk.pool}"
        return PlannedStep(step.title, host, detail, 0, "both volumes are deleted", path=path)
    detail = f"to {disk.volume} in pool {disk.pool}, while the guest works; if it fails or is cancelled the VM runs on"
    return PlannedStep(step.title, host, detail, size_bytes, "it goes with the VM", path=path)


def _untouched(point: Point, request: Request) -> str:
    vm, aside = point.manifest.vm.name, request.aside
    devices = [disk.device for disk in request.disks if disk.device]
    overwritten = f"nothing but {' and '.join(devices)} is overwritten" if devices else "nothing is overwritten"
    if aside is None:
        return f"The original {vm} and everything else on every host; {overwritten}."
    return (
        f"The original's disks: {aside.name} is kept aside as {aside.kept_name} until the restore is committed, and"
        f" comes back as it was if it is undone; {overwritten}."
    )


def _starting_words(point: Point, request: Request) -> list[str]:
    if not request.defines:
        return []
    if not request.start:
        return ["--no-start"]
    if not holds_memory(point):
        return []
    return ["--memory" if request.memory else "--no-memory"]


def _proving(named: str, request: Request) -> str:
    words = ["newhope", "prove", named, "--to", request.to_host, "--pool", request.pool]
    words += ["--watch", format_duration(request.watch_s)] if request.watch_s != WATCH_S else []
    return shlex.join(words)


def _disk_words(point: Point, request: Request) -> list[str]:
    words: list[str] = []
    for disk, record in zip(request.disks, point.manifest.disks, strict=True):
        if disk.device:
            words += ["--device", f"{disk.target}={disk.device}"]
            continue
        if disk.pool != request.pool:
            words += ["--pool", f"{disk.target}={disk.pool}"]
        if disk.format != ("qcow2" if record.format == "qcow2" else "raw") and not request.through_libvirt:
            words += ["--format", f"{disk.target}={disk.format}"]
    return words


def command_of(point: Point, request: Request) -> str:
    """The command line that asks for the same restore."""
    named = f"{point.manifest.vm.name}@{point.id}"
    if request.proves:
        return _proving(named, request)
    words = ["newhope", "restore", named, "--to", request.to_host]
    if request.mode is not Mode.BESIDE:
        words += ["--mode", request.mode.value]
    words += ["--name", request.name, "--pool", request.pool]
    words += _disk_words(point, request)
    if request.macs is not MacChoice.AUTO:
        words += ["--mac", request.macs.value]
    if request.uuid is not UuidChoice.AUTO:
        words += ["--uuid", request.uuid.value]
    for mapping, card in zip(request.networks, point.manifest.vm.nics, strict=False):
        if mapping.to != network_of(card) and request.mode is not Mode.TEST:
            words += ["--network", f"{mapping.nic}={mapping.to}"]
    words += _starting_words(point, request)
    words += ["--instant"] if request.instant else []
    words += ["--verify"] if request.verify else []
    words += ["--salvage"] if request.salvage else []
    words += ["--power-off"] if request.power_off else []
    if request.keep_for_s is not None and request.mode is not Mode.TEST:
        words += ["--keep-for", format_duration(request.keep_for_s)]
        words += ["--then", request.at_end.value] if request.at_end is not None else []
    elif request.mode is Mode.TEST and request.keep_for_s is not None:
        words += ["--keep-for", format_duration(request.keep_for_s)]
        words += ["--then", AtEnd.COMMIT.value] if request.at_end is AtEnd.COMMIT else []
    words += ["--machine", request.machine] if request.machine else []
    words += ["--cpu", request.cpu] if request.cpu else []
    words += ["--reason", request.reason] if request.reason else []
    words += ["--ticket", request.ticket] if request.ticket else []
    return shlex.join(words) + accept_words(request.accepted)


def accept_words(accepted: tuple[str, ...]) -> str:
    """The end of a command line that accepts these warnings by name."""
    return f" --accept {shlex.quote(','.join(accepted))}" if accepted else ""
