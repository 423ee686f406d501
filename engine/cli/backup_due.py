"""`newhope backup --due`: the VMs whose level asks for a new recovery point by now, the worst first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from engine.cli.backup import Choices, end_of, request_for
from engine.cli.invocation import Invocation
from engine.errors import ExitCode, NewhopeError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from engine.backup import Request
    from engine.fleet import Fleet
    from engine.jobs import Job
    from engine.requirements import Attempts, DuePlan

_JOBS_LOOKED_AT = 1000


def back_up_due(invocation: Invocation, choices: Choices) -> ExitCode:
    """Show who is due and why, and back those up as one job."""
    from datetime import UTC, datetime

    from engine.cli import printing
    from engine.cli.confirmation import confirm
    from engine.cli.documents import plain
    from engine.cli.launching import launch_backups
    from engine.cli.named import refuse_unreachable_repository
    from engine.cli.vms import tell_silent
    from engine.cli.wording import count
    from engine.settings import find_host, find_repository

    repository = find_repository(invocation.settings, choices.repository).name
    if choices.host:
        find_host(invocation.settings, choices.host)
    fleet = invocation.fleet()
    with invocation.journal() as journal:
        tried = attempts_of(journal.jobs(limit=_JOBS_LOOKED_AT))
    now = datetime.now(UTC)
    plan, requests = _plan(invocation, choices, fleet, tried, now)
    if not invocation.json:
        _show(plan, now)
        tell_silent(fleet)
    elif choices.dry_run or not requests:
        printing.show_json(plain(plan))
    if choices.dry_run:
        return ExitCode.OK
    done = _status(plan)
    if not requests:
        if not invocation.json:
            printing.say("Nothing is due that can be backed up now.")
        return done
    refuse_unreachable_repository(fleet, repository)
    if not choices.yes and not confirm(invocation, f"Back up {count(len(requests), 'VM')}?"):
        printing.say("Nothing was done.")
        return ExitCode.CANCELLED
    with invocation.journal() as journal:
        job = launch_backups(invocation.settings, journal, requests, again="newhope backup --due")
        code = end_of(invocation, job, choices)
    return done if code is ExitCode.OK else code


def _status(plan: DuePlan) -> ExitCode:
    """What a timer must hear although all that could be done was done: that some VMs are due and get nothing."""
    if any(found.silent for found in plan.left_out):
        return ExitCode.HOST_UNREACHABLE
    return ExitCode.FAILED if any(found.failed for found in plan.later) else ExitCode.OK


def attempts_of(jobs: Iterable[Job]) -> dict[str, Attempts]:
    """What came of the last backups, by `attempts_key`; `jobs` are the newest first.

    One that was cancelled says nothing about whether the next would succeed.
    """
    import msgspec

    from engine.backup import Request
    from engine.cli.launching import BACKUP, BACKUPS
    from engine.jobs import JobState
    from engine.requirements import Attempts

    found: dict[str, Attempts] = {}
    settled: set[str] = set()
    seen_to: dict[str, int] = {}
    for job in jobs:
        if job.kind == BACKUPS and not job.state.over:
            seen_to |= dict.fromkeys(_still_on_list(job), job.id)
        if job.kind != BACKUP:
            continue
        uuid = _attempted(msgspec.json.decode(job.spec, type=Request))
        if uuid in settled:
            continue
        so_far = found.get(uuid, Attempts())
        if not job.state.over:
            found[uuid] = replace(so_far, job=job.id)
        elif job.state in (JobState.FAIL, JobState.LOST):
            last = so_far.last or job.finished or job.heartbeat or job.created
            found[uuid] = replace(so_far, failed=so_far.failed + 1, last=last, last_job=so_far.last_job or job.id)
        elif job.state is not JobState.CANCELLED:
            settled.add(uuid)
    for uuid, job_id in seen_to.items():
        so_far = found.get(uuid, Attempts())
        found[uuid] = replace(so_far, job=so_far.job or job_id)
    return found


def _still_on_list(job: Job) -> list[str]:
    """What a living job of several backups is not through with; it has a step for each."""
    import msgspec

    from engine.backup import Request
    from engine.jobs import StepState

    requests = msgspec.json.decode(job.spec, type=tuple[Request, ...])
    ended = {step.number for step in job.steps if step.state not in (StepState.WAIT, StepState.RUN)}
    return [_attempted(request) for number, request in enumerate(requests, 1) if number not in ended]


def _attempted(request: Request) -> str:
    from engine.requirements import attempts_key

    return attempts_key(request.vm_uuid, request.kind)


def _plan(
    invocation: Invocation, choices: Choices, fleet: Fleet, tried: dict[str, Attempts], now: datetime
) -> tuple[DuePlan, list[Request]]:
    """What is due on the hosts that are meant, and what to ask for; what cannot be backed up is left out, with why."""
    from engine import backup
    from engine.fleet import known_vms
    from engine.requirements import Due, DuePlan, LeftOut, plan_due

    whole = plan_due(invocation.settings, fleet, tried, now)
    vms = {vm.uuid: vm for vm in known_vms(fleet)}
    due: list[Due] = []
    requests: list[Request] = []
    left_out = [found for found in whole.left_out if choices.host in (None, found.host)]
    for found in whole.due:
        if choices.host not in (None, found.host):
            continue
        request = request_for(invocation, vms[found.vm_uuid], replace(choices, kind=found.kind))
        try:
            backup.plan(invocation.settings, fleet, request)
        except NewhopeError as error:
            left_out.append(LeftOut(found.vm_uuid, found.vm, found.host, error.what))
        else:
            due.append(found)
            requests.append(request)
    later = tuple(found for found in whole.later if choices.host in (None, found.host))
    return DuePlan(tuple(due), later, tuple(left_out)), requests


def _show(plan: DuePlan, now: datetime) -> None:
    from engine.cli import printing
    from engine.cli.table import Column
    from engine.cli.wording import age, local

    columns = (
        Column("VM", gives_way=True),
        Column("HOST", gives_way=True),
        Column("LEVEL", gives_way=True),
        Column("DUE", right=True),
        Column("WHY", gives_way=True),
    )
    rows = [(found.vm, found.host, found.level.name, "now", found.why) for found in plan.due]
    rows += [
        (
            found.vm,
            found.host,
            found.level,
            "" if found.due_at is None else f"in {age((found.due_at - now).total_seconds())}",
            found.why if found.due_at is None else f"{found.why}; at {local(found.due_at)}",
        )
        for found in plan.later
    ]
    if rows:
        printing.show_table(columns, rows)
    for found in plan.left_out:
        printing.say(f"- left out {found.vm} on {found.host}: {found.why}")
