"""The first steps: is the target as the plan says, which names are ours from here on, and the note on the host."""

from __future__ import annotations

from pathlib import Path

from msgspec import structs

from engine.errors import Conflict, ExitCode, NewhopeError
from engine.fleet import CheckState, Fleet, load_cache, remembered
from engine.hosts import image, power, require_snapshot, take_snapshots, volumes
from engine.hosts.model import HostSnapshot
from engine.jobs import StepHandle
from engine.repository import PointKind
from engine.restore.acceptance import refuse_open
from engine.restore.decide import decide
from engine.restore.evidence import Evidence, other_jobs, with_repository
from engine.restore.host_note import leave_note
from engine.restore.made_names import made_volumes
from engine.restore.plan import digest_of, planned_steps
from engine.restore.preflight import preflight
from engine.restore.steps import Step, StepKind
from engine.restore.work import Work

TWINS_TIMEOUT_S = 5.0
"""How long hosts that are not restored to are waited for."""


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
    fleet = _fleet_now(work, snapshot)
    _raise_if_changed(work, fleet, snapshot)
    asked = Evidence(others=tuple(other_jobs(work.settings, work.context.job_id)))
    evidence = with_repository(work.repository, work.lane, snapshot, work.point, work.request, asked)
    checks = preflight(fleet, work.point, snapshot, work.request, evidence)
    failed = [each for each in checks if each.state is CheckState.FAIL]
    if failed:
        raise PreflightFailed(
            f"{work.request.name} cannot be restored to {snapshot.host}: "
            + "; ".join(f"{each.name}: {each.evidence}" for each in failed)
            + ".",
            next_step=failed[0].remedy or "choose another host: newhope hosts",
        )
    refuse_open(checks, work.request)
    for record in work.point.manifest.disks:
        _check_device(work, record.target, record.size_bytes)
    work.note(lambda entry: structs.replace(entry, checks=checks))
    return ""


def _fleet_now(work: Work, target: HostSnapshot) -> Fleet:
    """Every configured host, for a twin may be on any; one that is silent, as it was when it last answered."""
    aside = work.request.aside
    if aside is not None and aside.host != target.host:
        require_snapshot(work.lanes[aside.host])
    others = [work.lanes[host.name] for host in work.settings.hosts if host.name != target.host]
    seen = take_snapshots(others, timeout_s=TWINS_TIMEOUT_S)
    before = load_cache(work.settings.state)
    known = {each.host: each for each in before.snapshots} if before is not None else {}
    return Fleet(
        taken_at=target.taken_at,
        snapshots=(target, *(remembered(each, known.get(each.host)) for each in seen)),
        repositories=(),
        points=tuple(
            each for each in work.repository.points(work.request.vm_uuid) if each.manifest.kind is PointKind.VM
        ),
    )


def leave(work: Work, step: Step, handle: StepHandle) -> str:
    """Write down which volumes are ours, here and on the host, before the first of them is made."""
    if not work.entry.made:
        made = made_volumes(work.point.manifest, work.request)
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
