"""The first steps: is the target as the plan says, which names are ours from here on, and the note on the host."""

from __future__ import annotations

from pathlib import Path

from msgspec import structs

from engine.errors import Conflict, ExitCode, NewhopeError
from engine.fleet import CheckState, Fleet
from engine.hosts import image, power, require_snapshot, volumes
from engine.hosts.model import HostSnapshot
from engine.jobs import StepHandle
from engine.restore.decide import decide
from engine.restore.host_note import leave_note, note_name
from engine.restore.journal import MadeVolume
from engine.restore.model import Request
from engine.restore.plan import digest_of, planned_steps
from engine.restore.preflight import preflight
from engine.restore.steps import BOOT_FILES, Step, StepKind
from engine.restore.work import Work


class PreflightFailed(NewhopeError):
    """The target host cannot take the VM as it is now."""

    exit_code = ExitCode.PREFLIGHT


class PlanChanged(NewhopeError):
    """What would be done now is not what was shown."""

    exit_code = ExitCode.PREFLIGHT


def check(work: Work, step: Step, handle: StepHandle) -> str:
    """Look at the target as it is now. A run that goes on where an earlier one was cut off asks less."""
    snapshot = require_snapshot(work.lanes[work.request.to_host])
    work.target = snapshot.facts
    if work.resumed:
        return "it answers"
    snapshots = [snapshot]
    aside = work.request.aside
    if aside is not None and aside.host != snapshot.host:
        snapshots.append(require_snapshot(work.lanes[aside.host]))
    fleet = Fleet(taken_at=snapshot.taken_at, snapshots=tuple(snapshots), repositories=(), points=(work.point,))
    checks = preflight(fleet, work.point, snapshot, work.request)
    failed = [each for each in checks if each.state is CheckState.FAIL]
    if failed:
        raise PreflightFailed(
            f"{work.request.name} cannot be restored to {snapshot.host}: "
            + "; ".join(f"{each.name}: {each.evidence}" for each in failed)
            + ".",
            next_step=failed[0].remedy or "choose another host: newhope hosts",
        )
    _raise_if_changed(work, fleet, snapshot)
    for record in work.point.manifest.disks:
        _check_device(work, record.target, record.size_bytes)
    work.note(lambda entry: structs.replace(entry, checks=checks))
    return ""


def leave(work: Work, step: Step, handle: StepHandle) -> str:
    """Write down which volumes are ours, here and on the host, before the first of them is made."""
    if not work.entry.made:
        made = _volumes(work)
        taken = [each for each in made if volumes.exists(work.lane, each.pool, each.name)]
        if taken:
            raise Conflict(
                f"Pool {taken[0].pool} of {work.request.to_host} already has a volume {taken[0].name}.",
                untouched="It was not touched, and nothing was made.",
                next_step="choose another name (--name), or another pool; or delete that volume if nobody needs it.",
            )
        work.note(lambda entry: structs.replace(entry, made=made))
    leave_note(work.lane, work.entry)
    return ""


def boot_volume(work: Work, role: str, name: str) -> str:
    """Name of the volume that a file beside the disks becomes."""
    return f"{work.request.name}-{work.request.id}-{role}-{Path(name).name}"


def overlay_volume(request: Request, target: str) -> str:
    """Name of the layer over the recovery point through which an instant restore has a disk."""
    return f"{request.name}-{request.id}-{target}.layer.qcow2"


def memory_volume(work: Work) -> str:
    """Name of the volume that the guest's memory is put into."""
    return f"{work.request.name}-{work.request.id}-memory"


def _volumes(work: Work) -> tuple[MadeVolume, ...]:
    request = work.request
    note = MadeVolume(Step(StepKind.NOTE).key, request.pool, note_name(request.id))
    kind = StepKind.OVERLAY if request.instant else StepKind.WRITE
    disks = [
        MadeVolume(Step(kind, disk.target).key, disk.pool, name)
        for disk in request.disks
        if not disk.device
        for name in (disk.volume, *((overlay_volume(request, disk.target),) if request.instant else ()))
    ]
    files = [
        MadeVolume(Step(StepKind.BOOT_FILES).key, request.pool, boot_volume(work, file.role, file.name))
        for file in work.point.manifest.files
        if file.role in BOOT_FILES and request.defines
    ]
    memory = [MadeVolume(Step(StepKind.MEMORY).key, request.pool, memory_volume(work))] if request.memory else []
    return (note, *disks, *files, *memory)


def _raise_if_changed(work: Work, fleet: Fleet, snapshot: HostSnapshot) -> None:
    if not work.request.digest:
        return
    decided = decide(work.settings, fleet, work.request, work.point, snapshot)
    if digest_of(decided, planned_steps(work.point, decided, snapshot)) == work.request.digest:
        return
    aside = work.request.aside
    now = decided.aside
    what = "its pools or volumes are others now"
    if aside is not None and now is None:
        what = f"{aside.name}, which was to be put aside, is not on {aside.host} any more"
    elif aside is not None and now is not None and aside.runs != now.runs:
        what = f"{aside.name} {'runs' if now.runs else 'is off'} now"
    raise PlanChanged(
        f"The restore of {work.point.manifest.vm.name} would not be what its plan showed: {what}.",
        next_step="plan it again and look: newhope restore ... --dry-run",
    )


def _check_device(work: Work, target: str, size_bytes: int) -> None:
    device = work.request.disk(target).device
    if not device:
        return
    found = image.info(device, "raw", files=work.lane.files)
    if not work.lane.files.is_device(Path(device)):
        raise PreflightFailed(
            f"{device} on {work.request.to_host} is no block device.", next_step="`lsblk -p` there lists them."
        )
    if found.size_bytes < size_bytes:
        raise PreflightFailed(
            f"{device} has {found.size_bytes:,} bytes, and {target} needs {size_bytes:,}.",
            next_step="choose a larger device, or a pool.",
        )


def vm_is_ours(work: Work) -> bool:
    """Whether the VM that this restore defines is there already, from an earlier run of it."""
    found = power.name_of(work.lane, work.request.new_uuid)
    return found == work.request.name and work.entry.begun(Step(StepKind.DEFINE).key)
