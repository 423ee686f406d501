"""The VM itself: defined with what it has become, told from when its dirty bitmaps count, and started."""

from __future__ import annotations

from datetime import UTC, datetime

from msgspec import structs

from engine.hosts import MissingOnHost, checkpoints, image, power
from engine.hosts.model import Definition, VmState
from engine.hosts.rewrite import ServedBelow
from engine.jobs import StepHandle
from engine.restore import host_state, step_boot_files
from engine.restore.becoming import Places, becomes
from engine.restore.step_target import vm_is_ours
from engine.restore.steps import Step, tracked
from engine.restore.work import Ground, Work


def define(work: Work, step: Step, handle: StepHandle) -> str:
    """Put the VM on the host, off."""
    request = work.request
    changed = adapted(work, definition_of_point(work))
    if vm_is_ours(work):
        _give_state(work, changed)
        return "it was defined already"
    power.define(work.lane, changed)
    if request.autostart:
        power.set_autostart(work.lane, request.new_uuid, on=True)
    work.context.log(f"{request.name} is defined on {request.to_host} with UUID {request.new_uuid}")
    _give_state(work, changed)
    return ""


def definition_of_point(work: Work) -> Definition:
    """The VM as it was."""
    inactive = next(file for file in work.point.manifest.files if file.role == "definition-inactive")
    return Definition(live=None, inactive=work.reader.file(inactive))


def adapted(work: Work, definition: Definition) -> Definition:
    """A definition of the VM as it was, made that of the restored one."""
    request = work.request
    places = Places(
        disks={disk.target: disk.used for disk in work.entry.disks},
        block_disks=frozenset(disk.target for disk in work.entry.disks if disk.block and not disk.overlay),
        boot_files=step_boot_files.paths(work),
        served=_served(work),
    )
    return becomes(definition, work.point, request, places, work.target)


def _served(work: Work) -> dict[str, ServedBelow]:
    serving = work.entry.serving
    layers = [disk.target for disk in work.entry.disks if disk.overlay]
    return {target: ServedBelow(serving.socket, target) for target in layers} if serving is not None else {}


def _give_state(work: Work, defined: Definition) -> None:
    if power.vm_state(work.lane, work.request.new_uuid) not in (VmState.OFF, VmState.CRASHED):
        # Somebody has started it since: what it has now is its own.
        return
    request, aside = work.request, work.request.aside
    kept = aside.kept_uuid if aside is not None and aside.host == request.to_host else None
    manifest = work.point.manifest
    for text in host_state.put_back(work.lane, manifest, work.reader, request.new_uuid, defined, aside=kept):
        work.warn(text)


def track(work: Work, step: Step, handle: StepHandle) -> str:
    """Begin a dirty bitmap on each disk that can keep one, and tell the host what it counts from.

    The next backup then reads what was written since, on top of the recovery point that was restored.
    """
    targets = tracked(work.request)
    known = [each for each in checkpoints.known_checkpoints(work.lane, work.request.new_uuid) if each.restored_from]
    if known:
        return "they were begun already"
    name = checkpoints.new_name(work.entry.created, chain=work.chain, mark=work.entry.id[:6])
    for disk in work.entry.disks:
        if disk.target in targets:
            image.begin_bitmap(disk.used[0], name, files=work.lane.files)
    source = f"{work.point.manifest.vm.uuid}@{work.point.id}"
    checkpoints.describe_restored(work.lane, work.request.new_uuid, name, targets, source)
    return ""


def start(work: Work, step: Step, handle: StepHandle) -> str:
    """Start it; one that runs is fine."""
    if power.vm_state(work.lane, work.request.new_uuid) in (VmState.OFF, VmState.CRASHED):
        power.start(work.lane, work.request.new_uuid)
    if not work.point.manifest.vm.agent:
        work.note(lambda entry: structs.replace(entry, up=datetime.now(UTC)))
    return ""


def switch_off(ground: Ground, step: Step) -> None:
    """Cut its power; one that is off or gone is fine."""
    if power.name_of(ground.lane, ground.request.new_uuid) != ground.request.name:
        return
    power.power_off(ground.lane, ground.request.new_uuid)


def undefine(ground: Ground, step: Step) -> None:
    """Take it off the host with its NVRAM and TPM state; one that is gone is fine."""
    if power.name_of(ground.lane, ground.request.new_uuid) != ground.request.name:
        return
    try:
        if power.vm_state(ground.lane, ground.request.new_uuid) not in (VmState.OFF, VmState.CRASHED):
            power.power_off(ground.lane, ground.request.new_uuid)
        power.undefine(ground.lane, ground.request.new_uuid)
    except MissingOnHost:
        return
