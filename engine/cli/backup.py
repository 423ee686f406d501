"""`newhope backup`: make recovery points."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from msgspec import Struct
from msgspec.structs import replace

from engine.cli.commands import Command
from engine.cli.failures import Usage
from engine.cli.invocation import Invocation
from engine.errors import ExitCode, NewhopeError

if TYPE_CHECKING:
    from engine.backup import BackupPlan, Request
    from engine.fleet import Fleet
    from engine.hosts.model import Vm
    from engine.jobs import Job
    from engine.repository import PointKind


class Choices(Struct, frozen=True):
    """What the options say about every backup of one call."""

    method: str | None
    repository: str | None
    host: str | None
    yes: bool
    detach: bool
    dry_run: bool
    full: bool
    allow_plain: bool
    kind: PointKind
    shutdown_timeout_s: int | None = None


@click.command("backup", cls=Command)
@click.argument("vm", required=False)
@click.option("--all", "every", is_flag=True, help="Every VM that can be seen and is not excluded.")
@click.option("--due", is_flag=True, help="Those whose level asks for a new point by now, the worst first.")
@click.option(
    "--method",
    type=click.Choice(["hot", "cold", "paused", "memory"]),
    help="hot: while it runs. cold: shut down, started again at once, and copied beside the running guest. paused:"
    " while its CPUs stand still for a moment. memory: the same, and its memory is kept too, so that a restore goes on"
    " where it stood. [default: what the VM's level says]",
)
@click.option("--guest-files", is_flag=True, help="Only the files inside it that the settings name, by its agent.")
@click.option(
    "--shutdown-timeout",
    metavar="DURATION",
    help="How long cold waits for the guest to shut down, such as 10m. [default: what the VM's level says]",
)
@click.option("--full", is_flag=True, help="Read every disk whole, not only what was written since the last time.")
@click.option("--allow-plain", is_flag=True, help="Keep encrypted disks even in a repository that is not encrypted.")
@click.option("--repository", metavar="NAME", help="Where to. [default: the first in the settings]")
@click.option("--host", metavar="NAME", help="Which host, where two have a VM of that name.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.option("--follow/--detach", "follow", default=True, help="Watch the job to its end, or leave at once.")
@click.option("--dry-run", is_flag=True, help="Show the plan and do nothing.")
@click.pass_obj
def backup(
    invocation: Invocation,
    vm: str | None,
    every: bool,
    due: bool,
    method: str | None,
    guest_files: bool,
    shutdown_timeout: str | None,
    full: bool,
    allow_plain: bool,
    repository: str | None,
    host: str | None,
    yes: bool,
    follow: bool,
    dry_run: bool,
) -> ExitCode:
    """Make a recovery point of VM: all its disks at one moment, and everything else it needs to come back.

    The plan is shown first: what will be done, and what the guest will notice. The work then runs as a job that goes
    on when this terminal dies. A guest that ignores its shutdown is never switched off: you are asked what to do; where
    nobody can be asked, or with --yes, its level says it (shutdown_timeout, hot_if_ignored).

    The exit status is the job's; with --all and --due it is 4 when all went well but for the VMs of a host that does
    not answer, and with --due 11 while a VM waits because its last attempts failed.

    Runs may overlap: they share the limits of hosts and repositories, and no VM is backed up twice. What fails because
    something else is at work on a VM, or its host is away, is tried again three times by the same run.

    \b
    Examples:
      newhope backup web                      hot, as its level says
      newhope backup db-1 --method cold       asks for the VM's name: its users notice
      newhope backup web --guest-files        /etc and the like, from inside the running guest
      newhope backup --due --dry-run          who is due, why, and when the others will be
      newhope backup --due --yes              for a timer; also after a machine was off
    """
    from engine.repository import PointKind
    from engine.settings import parse_duration

    kind = PointKind.GUEST if guest_files else PointKind.VM
    timeout_s = parse_duration(shutdown_timeout) if shutdown_timeout is not None else None
    choices = Choices(method, repository, host, yes, not follow, dry_run, full, allow_plain, kind, timeout_s)
    if guest_files and (due or full or method):
        raise Usage(
            f"--guest-files does not go with {'--due' if due else '--full' if full else '--method'}.",
            next_step="`newhope backup web --guest-files`; --due has in it what `every` in the settings asks for.",
        )
    if (vm is not None) + every + due != 1:
        none = vm is None and not every and not due
        raise Usage(
            "Name one VM, or say --all or --due." if none else "Name one VM or say --all or --due, only one of them.",
            next_step="`newhope backup web`, `newhope backup --all` or `newhope backup --due`.",
        )
    if due:
        from engine.cli.backup_due import back_up_due

        return back_up_due(invocation, choices)
    return _every(invocation, choices) if vm is None else _one(invocation, vm, choices)


def _one(invocation: Invocation, name: str, choices: Choices) -> ExitCode:
    from engine import backup
    from engine.cli import printing
    from engine.cli.confirmation import confirm, confirm_by_name
    from engine.cli.documents import plain
    from engine.cli.ignored_shutdown import watch_or_ask
    from engine.cli.launching import launch_backup
    from engine.cli.named import find_vm, refuse_silent_host, refuse_unreachable_repository
    from engine.repository import PointKind

    fleet = invocation.fleet()
    vm = find_vm(fleet, name, host=choices.host)
    refuse_silent_host(fleet, vm.name, vm.host)
    request = request_for(invocation, vm, choices)
    plan = backup.plan(invocation.settings, fleet, request)
    refuse_unreachable_repository(fleet, request.repository)
    if invocation.json and choices.dry_run:
        printing.show_json({"plan": plain(plan)})
    elif not invocation.json:
        _show_plan(plan, request)
    if choices.dry_run:
        return ExitCode.OK
    if not choices.yes:
        question = f"Back up {'files of ' if choices.kind is PointKind.GUEST else ''}{vm.name} now?"
        interrupts = plan.method.value == "cold" and vm.state.value == "running"
        agreed = (
            confirm_by_name(invocation, f"{vm.name} will be shut down and started again.", vm.name)
            if (interrupts)
            else confirm(invocation, question)
        )
        if not agreed:
            printing.say("Nothing was done.")
            return ExitCode.CANCELLED
    with invocation.journal() as journal:
        job = launch_backup(invocation.settings, journal, request)
        if choices.yes or choices.detach:
            return end_of(invocation, job, choices)
        return watch_or_ask(invocation, journal, job, request)


def _every(invocation: Invocation, choices: Choices) -> ExitCode:
    from engine import backup
    from engine.cli import printing
    from engine.cli.confirmation import confirm
    from engine.cli.documents import plain
    from engine.cli.launching import launch_backups
    from engine.cli.named import refuse_unreachable_repository
    from engine.fleet import gone_vms, known_vms
    from engine.hosts.model import HostStatus
    from engine.requirements import excluded_by

    fleet = invocation.fleet()
    asked = [snapshot for snapshot in fleet.snapshots if choices.host in (None, snapshot.host)]
    silent = {snapshot.host for snapshot in asked if snapshot.status is not HostStatus.ONLINE}
    plans: list[tuple[Request, BackupPlan]] = []
    skipped: list[tuple[str, str]] = []
    for vm in known_vms(fleet):
        if choices.host in (None, vm.host):
            rule = excluded_by(invocation.settings, vm)
            if rule is not None:
                skipped.append((f"{vm.name} on {vm.host}", f"The settings exclude it: {rule}."))
                continue
            try:
                request = request_for(invocation, vm, choices)
                plans.append((request, backup.plan(invocation.settings, fleet, request)))
            except NewhopeError as error:
                skipped.append((f"{vm.name} on {vm.host}", error.what))
    skipped += [
        (f"{facts.name} on {facts.host}", f"Host {facts.host} does not answer.")
        for facts in gone_vms(fleet)
        if facts.host in silent
    ]
    if invocation.json and choices.dry_run:
        reasons = [{"vm": vm, "reason": reason} for vm, reason in skipped]
        printing.show_json({"plans": [plain(plan) for _, plan in plans], "skipped": reasons})
    elif not invocation.json:
        _show_plans([plan for _, plan in plans], skipped, fleet)
    if choices.dry_run:
        return ExitCode.OK
    for repository in {request.repository for request, _ in plans}:
        refuse_unreachable_repository(fleet, repository)
    if not plans:
        raise NothingToDo(
            "There is no VM that can be backed up now.", next_step="see why with `newhope hosts` and `newhope vms`."
        )
    if not choices.yes and not confirm(invocation, f"Back up {len(plans)} VMs?"):
        printing.say("Nothing was done.")
        return ExitCode.CANCELLED
    with invocation.journal() as journal:
        job = launch_backups(invocation.settings, journal, [request for request, _ in plans])
        code = end_of(invocation, job, choices)
    # A timer must hear of VMs that got no recovery point, although everything that could be done was done.
    return ExitCode.HOST_UNREACHABLE if code is ExitCode.OK and silent else code


class NothingToDo(NewhopeError):
    """Every VM was skipped."""


def request_for(invocation: Invocation, vm: Vm, choices: Choices) -> Request:
    """What is asked for one VM, by the options and else by its level."""
    from engine.backup import Request
    from engine.repository import PointKind
    from engine.requirements import level_of
    from engine.settings import Method, find_repository

    level = level_of(invocation.settings, vm) if choices.kind is PointKind.VM else None
    method = Method(choices.method) if choices.method else level.method if level else Method.HOT
    repository = find_repository(invocation.settings, choices.repository)
    request = Request(
        vm.uuid,
        vm.name,
        vm.host,
        repository.name,
        method,
        choices.full,
        allow_plain=choices.allow_plain,
        kind=choices.kind,
    )
    if level is not None:
        request = replace(request, shutdown_timeout_s=level.shutdown_timeout_s, hot_if_ignored=level.hot_if_ignored)
    if choices.shutdown_timeout_s is not None:
        request = replace(request, shutdown_timeout_s=choices.shutdown_timeout_s)
    return request


def end_of(invocation: Invocation, job: Job, choices: Choices) -> ExitCode:
    """Watch the job to its end, or say where to."""
    from engine.cli.following import tell_launched, watch

    with invocation.journal() as journal:
        if choices.detach:
            return tell_launched(invocation, journal, job)
        return watch(invocation, journal, job.id)


def _show_plan(plan: BackupPlan, request: Request) -> None:
    from engine.cli import printing
    from engine.repository import PointKind

    how = plan.method.value if request.kind is PointKind.VM else "files from inside its guest"
    printing.say(f"Backup of {plan.vm} on {plan.host} to {plan.repository}, {how}:")
    for number, step in enumerate(plan.steps, 1):
        printing.say(f"  {number:>2}  {step}")
    for effect in plan.effects:
        printing.say(f"  guest: {effect}")
    for warning in plan.warnings:
        printing.say(f"  ! {warning}")


def _show_plans(plans: list[BackupPlan], skipped: list[tuple[str, str]], fleet: Fleet) -> None:
    from engine.cli import printing
    from engine.cli.table import Column
    from engine.cli.vms import tell_silent

    columns = (Column("VM"), Column("HOST"), Column("HOW"), Column("TO"), Column("GUEST", gives_way=True))
    rows = [(plan.vm, plan.host, plan.method.value, plan.repository, "; ".join(plan.effects)) for plan in plans]
    if rows:
        printing.show_table(columns, rows)
    for vm, reason in skipped:
        printing.say(f"- skipped {vm}: {reason}")
    tell_silent(fleet)
