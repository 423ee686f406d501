"""`newhope backup --due`: the VMs whose level asks for a new recovery point by now, the worst first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from engine.cli.backup import Choices, end_of, request_for
from engine.cli.invocation import Invocation
from engine.errors import ExitCode, NewhopeError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from engine.backup import Request
    from engine.fleet import Fleet
    from engine.jobs import Job
    from engine.requirements import Attempts, DuePlan


def back_up_due(invocation: Invocation, choices: Choices) -> ExitCode:
    """Show who is due and why, and back those up as one job."""
    from datetime import UTC, datetime

    from engine.cli import printing
    from engine.cli.attempts import JOBS_LOOKED_AT
    from engine.cli.confirmation import confirm
    from engine.cli.documents import plain
    from engine.cli.due_table import show_due
    from engine.cli.launching import launch_backups
    from engine.cli.named import refuse_unreachable_repository
    from engine.cli.overdue import settle_overdue
    from engine.cli.vms import tell_silent
    from engine.cli.wording import count
    from engine.settings import find_host, find_repository

    repository = find_repository(invocation.settings, choices.repository).name
    if choices.host:
        find_host(invocation.settings, choices.host)
    if not choices.dry_run:
        settle_overdue(invocation)
    fleet = invocation.fleet()
    with invocation.journal() as journal:
        tried = attempts_of(journal.jobs(limit=JOBS_LOOKED_AT))
    now = datetime.now(UTC)
    plan, requests = _plan(invocation, choices, fleet, tried, now)
    if not invocation.json:
        show_due(
            [(found.vm, found.host, found.level.name, found.why) for found in plan.due], plan.later, plan.left_out, now
        )
        tell_silent(fleet)
    elif choices.dry_run or not requests:
        printing.show_json(plain(plan))
    if not requests and not invocation.json:
        printing.say("Nothing is due that can be backed up now.")
    if choices.dry_run:
        return ExitCode.OK
    done = _status(plan)
    if not requests:
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


def attempts_of(jobs: Sequence[Job]) -> dict[str, Attempts]:
    """What came of the last backups, by `attempts_key`; `jobs` are the newest first."""
    import msgspec

    from engine.backup import Request
    from engine.cli.attempts import still_on_list, tally
    from engine.cli.launching import BACKUP, BACKUPS

    seen_to: dict[str, int] = {}
    for job in jobs:
        if job.kind == BACKUPS and not job.state.over:
            requests = msgspec.json.decode(job.spec, type=tuple[Request, ...])
            seen_to |= dict.fromkeys(still_on_list(job, map(_attempted, requests)), job.id)
    return tally(
        jobs,
        lambda job: _attempted(msgspec.json.decode(job.spec, type=Request)) if job.kind == BACKUP else None,
        seen_to,
    )


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
