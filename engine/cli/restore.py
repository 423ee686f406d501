"""`newhope restore`: bring a VM back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from engine.cli.commands import Command
from engine.cli.invocation import Invocation
from engine.errors import ExitCode, NewhopeError

if TYPE_CHECKING:
    from engine.cli.restore_choices import Choices
    from engine.restore import RestorePlan


class NoVmInIt(NewhopeError):
    """The point that is to be restored holds no VM."""

    exit_code = ExitCode.PREFLIGHT


class RestoreBlocked(NewhopeError):
    """A check of the plan failed."""

    exit_code = ExitCode.PREFLIGHT


@click.command("restore", cls=Command)
@click.argument("point_name", metavar="VM@SELECTOR")
@click.option("--to", "to_host", default="", metavar="HOST", help="Host to restore to. [default: the fittest]")
@click.option(
    "--mode",
    type=click.Choice(["beside", "replace", "disks", "test"]),
    default="beside",
    show_default=True,
    help="A new VM beside the original; one in its place, the original kept aside; only the disks; or a test that"
    " reaches no network and is taken away again.",
)
@click.option("--name", default="", help="Name of the restored VM. [default: its own if it is free, or NAME-restored]")
@click.option(
    "--pool",
    "pools",
    multiple=True,
    metavar="[DISK=]POOL",
    help="Storage pool for its disks, or for one of them. Can be repeated. [default: the host's, from the settings]",
)
@click.option(
    "--format",
    "formats",
    multiple=True,
    metavar="[DISK=]raw|qcow2",
    help="Format of its disks, or of one. Can be repeated. [default: as each was]",
)
@click.option(
    "--device",
    "devices",
    multiple=True,
    metavar="DISK=/dev/...",
    help="Write a disk over an existing block device: what that holds is lost. Can be repeated.",
)
@click.option(
    "--network",
    "networks",
    multiple=True,
    metavar="NIC=NETWORK",
    help="Connect network card NIC (from 0) to a network of the host, to `user`, or to nothing: `isolated`."
    " Can be repeated.",
)
@click.option(
    "--mac",
    "macs",
    type=click.Choice(["auto", "keep", "new"]),
    default="auto",
    show_default=True,
    help="Addresses of its network cards; auto keeps them when the original cannot be running.",
)
@click.option(
    "--uuid",
    type=click.Choice(["auto", "keep", "new"]),
    default="auto",
    show_default=True,
    help="Its UUID; auto keeps it when the VM takes the original's place.",
)
@click.option(
    "--instant",
    is_flag=True,
    help="Start it at once, over the recovery point as this machine serves it; its disks move to their place while it"
    " runs.",
)
@click.option("--start/--no-start", default=True, show_default=True, help="Start it and ask its guest agent.")
@click.option(
    "--memory/--no-memory",
    default=None,
    help="Let it go on from its memory, or boot it. [default: go on, if the point has it and name and UUID are free]",
)
@click.option(
    "--autostart/--no-autostart", default=None, help="Let it start with its host. [default: only as a replacement]"
)
@click.option("--machine", default="", metavar="TYPE", help="Another machine type, where the host lacks its own.")
@click.option(
    "--cpu", default="", metavar="CPU", help="Another CPU: host-model, maximum, or a model that the host offers."
)
@click.option("--verify", is_flag=True, help="Read the disks again after they are written, and compare every byte.")
@click.option(
    "--power-off", is_flag=True, help="With --mode replace: cut the original's power if it does not shut down."
)
@click.option("--keep-for", default="", metavar="TIME", help="How long it can be undone after it ended, such as 24h.")
@click.option("--then", type=click.Choice(["commit", "undo"]), help="What happens by itself after that time.")
@click.option("--reason", default="", metavar="TEXT", help="Why it is done, for the report.")
@click.option("--ticket", default="", metavar="ID", help="Number of the incident, for the report.")
@click.option("--repository", metavar="NAME", help="Only look in this repository.")
@click.option(
    "--salvage", is_flag=True, help="Restore what is left where data is lost: zeroes in its place, each named."
)
@click.option("--bandwidth", metavar="RATE", help="Write at most so much a second, such as 50MiB.")
@click.option("--priority", type=click.Choice(["low", "normal", "high"]), help="Which jobs give way to which.")
@click.option(
    "--streams",
    type=click.IntRange(1, 16),
    metavar="N",
    help="Pieces of its disks that move at once. [default: 3 a disk]",
)
@click.option(
    "--accept",
    "accept",
    multiple=True,
    metavar="NAME[,NAME]",
    help="Accept a warning that is accepted by name only, such as original or pool. Can be repeated.",
)
@click.option(
    "--yes", "-y", is_flag=True, help="Do not ask. Failed checks, and warnings that want their name, still stop it."
)
@click.option("--follow/--detach", "follow", default=True, help="Watch the job to its end, or leave at once.")
@click.option("--dry-run", is_flag=True, help="Show plan and checks and do nothing.")
@click.pass_obj
def restore(invocation: Invocation, yes: bool, follow: bool, dry_run: bool, **options: object) -> ExitCode:
    """Bring a recovery point back: as a new VM beside the original, in its place, as disks only, or as a test.

    Shows every check and every step first; without --to, every host with what speaks against it. A failed check stops
    it (exit status 9), and so does a warning that can hurt others or hide wrong data, until it is named with --accept.
    A restore that fails or is
    cancelled takes back what it made; one that is killed goes on, or is taken back, with `newhope restores`. Where the
    repository has lost some of the point, it stops, unless --salvage asks for what is left. How fast it goes can be
    changed while it runs, and it can be paused: newhope jobs set.

    With --instant the VM starts before its disks are there, however large they are. Until they are moved it needs this
    machine and the repository: if its server dies, its guest pauses and nothing is damaged; `newhope restores resume`
    goes on. A move that fails or is cancelled leaves the VM running.

    \b
    Examples:
      newhope restore web@latest
      newhope restore web@latest --instant
      newhope restore web@-1 --to yavin --name web-yesterday --network 0=isolated
      newhope restore web@latest --mode replace --keep-for 24h --then commit --ticket INC-4711
      newhope restore web@2026-11-22T08:13 --to yavin --dry-run
    """
    import msgspec

    from engine.cli.following import tell_launched, watch
    from engine.cli.launching import launch_restore
    from engine.cli.restore_choices import Choices

    choices = msgspec.convert(options, Choices)
    knobs = choices.knobs
    plan = planned(invocation, choices)
    shown = looked_at(invocation, plan, yes=yes, dry_run=dry_run)
    if isinstance(shown, ExitCode):
        return shown
    plan = shown
    with invocation.journal() as journal:
        job = launch_restore(invocation.settings, journal, plan, knobs)
        return watch(invocation, journal, job.id) if follow else tell_launched(invocation, journal, job)


def planned(invocation: Invocation, choices: Choices) -> RestorePlan:
    """The plan of the restore that the options ask for."""
    from engine import restore
    from engine.cli.named import find_point, refuse_without_repository
    from engine.cli.restore_choices import request_of
    from engine.hosts import HostLanes
    from engine.jobs import operator_name
    from engine.repository import PointKind
    from engine.settings import find_host, find_repository

    settings = invocation.settings
    if choices.to_host:
        find_host(settings, choices.to_host)
    wanted = find_repository(settings, choices.repository).name if choices.repository else None
    fleet = invocation.fleet()
    refuse_without_repository([view for view in fleet.repositories if wanted in (None, view.name)])
    every_kind = (*fleet.points, *fleet.guest_points)
    point = find_point([point for point in every_kind if wanted in (None, point.repository)], choices.point_name)
    if point.manifest.kind is PointKind.GUEST:
        named = f"{point.manifest.vm.name}@{point.id[:8]}"
        raise NoVmInIt(
            f"{named} holds files from inside the guest of {point.manifest.vm.name}: no VM comes back from it.",
            untouched="Nothing was touched.",
            next_step=f"Read its files, or put them back into the running guest: newhope files {named}. Points that "
            f"bring the VM back: newhope points {point.manifest.vm.name}.",
        )
    request = request_of(choices, point, operator_name())
    with HostLanes(settings) as lanes, invocation.patience("asking host and repository about this restore"):
        plan = restore.examined_plan(settings, lanes, fleet, request, restore.load_rates(settings.state))
    restore.refuse_names(request.accepted, plan.checks)
    return plan


def accepted_by_name(invocation: Invocation, plan: RestorePlan) -> RestorePlan:
    """Let every warning be named that is accepted by name only; without a terminal the plan stays as it is."""
    from engine import restore
    from engine.cli import printing

    if not invocation.can_ask:
        return plan
    for check in restore.open_warnings(plan.checks, plan.request.accepted):
        printing.say()
        printing.say(f"{check.name}: {check.evidence}")
        printing.say(f"  {check.meaning}")
        typed = click.prompt(f"Type {check.key} to accept this, or press Enter to stop", default="", show_default=False)
        if typed.strip().lower() != check.key:
            return plan
        plan = restore.accepting(plan, [check.key])
    return plan


def looked_at(invocation: Invocation, plan: RestorePlan, *, yes: bool, dry_run: bool) -> RestorePlan | ExitCode:
    """Show a plan and ask whether it is to be done: the plan with what was accepted, or the exit status if it is not.

    Raises if it cannot be.
    """
    from engine.cli import printing
    from engine.cli.documents import plain
    from engine.restore import refuse_open

    if invocation.json and dry_run:
        figures = {"blocked": plan.blocked, "size_bytes": plan.size_bytes, "expected_s": plan.expected_s}
        printing.show_json({"plan": plain(plan) | figures})
        return ExitCode.PREFLIGHT if plan.blocked else ExitCode.OK
    if not invocation.json:
        show_plan(invocation, plan)
    refuse_blocked(plan)
    if dry_run:
        return ExitCode.OK
    if not yes:
        plan = accepted_by_name(invocation, plan)
    refuse_open(plan.checks, plan.request)
    if not yes and not confirmed(invocation, plan):
        printing.say("Nothing was done.")
        return ExitCode.CANCELLED
    return plan


def confirmed(invocation: Invocation, plan: RestorePlan) -> bool:
    """Ask whether to do it; by the VM's name where something is overwritten."""
    from engine.cli.confirmation import confirm, confirm_by_name

    request = plan.request
    if plan.interrupts:
        devices = [disk.device for disk in request.disks if disk.device]
        what = f"overwrites {' and '.join(devices)}" if devices else f"takes {plan.vm}'s place"
        return confirm_by_name(invocation, f"This restore {what} on {request.to_host}.", plan.vm)
    if request.proves:
        return confirm(invocation, f"Boot {plan.vm} as {request.name} on {request.to_host}, and take it away?")
    return confirm(invocation, f"Restore {plan.vm} as {request.name} on {request.to_host} now?")


def refuse_blocked(plan: RestorePlan) -> None:
    """Raise if a check of the plan failed."""
    if not plan.blocked:
        return
    failed = [check for check in plan.checks if str(check.state) == "fail"]
    reasons = "; ".join(f"{check.name}: {check.evidence}" for check in failed)
    raise RestoreBlocked(
        f"{plan.vm} cannot be restored to {plan.request.to_host}: {reasons}.",
        next_step=next((check.remedy for check in failed if check.remedy), "choose another host."),
    )


_MODES = {
    "beside": "a new VM",
    "replace": "in the original's place",
    "disks": "its disks only, no VM",
    "test": "a test that reaches nobody",
}


def show_plan(invocation: Invocation, plan: RestorePlan) -> None:
    """All checks and steps, as people read them."""
    from engine.cli import printing
    from engine.cli.command_line import with_config
    from engine.cli.restore_checks import show_checks, show_ranking
    from engine.cli.wording import consistency, local, since

    request = plan.request
    what = f"{plan.vm} as {request.name}" if request.defines else f"the disks of {plan.vm}"
    facts = [
        ("restore", f"{what} on {request.to_host}, {_MODES[request.mode.value]}"),
        ("point", f"{request.point_id[:8]} in {request.repository}, {consistency(plan.consistency)}"),
        ("moment", f"{local(plan.moment)}: what was written in the last {since(plan.moment)} is not in it"),
        ("untouched", plan.untouched),
        ("can be undone", plan.undo_window),
    ]
    printing.show_facts(facts)
    printing.say()
    if plan.hosts:
        show_ranking(plan.hosts, request.to_host)
    show_checks(plan)
    _show_steps(plan)
    printing.say()
    printing.say(f"The same again: {with_config(invocation.settings.file, plan.command)}")


def _show_steps(plan: RestorePlan) -> None:
    from engine.cli import printing
    from engine.cli.wording import size, took

    for number, step in enumerate(plan.steps, 1):
        moved = f", {size(step.size_bytes)}" if step.size_bytes else ""
        expected = f", about {took(step.expected_s)}" if step.expected_s is not None and step.expected_s >= 1 else ""
        printing.say(f"{number:>2}  {step.title} on {step.host}{moved}{expected}")
        printing.say_below(step.detail, indent=4)
        printing.say_below(f"undo: {step.undo}", indent=4)
        if step.no_return:
            printing.say("    POINT OF NO RETURN: what this overwrites cannot be brought back")
    printing.say()
    total = took(plan.expected_s) if plan.expected_s is not None else "unknown: nothing was measured there yet"
    printing.say(f"{size(plan.size_bytes)} to move; expected time: {total}")
