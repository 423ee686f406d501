"""`newhope restore`: bring a VM back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from msgspec import Struct

from engine.cli.commands import Command
from engine.cli.failures import Usage
from engine.cli.invocation import Invocation
from engine.errors import ExitCode, NewhopeError

if TYPE_CHECKING:
    from engine.restore import NetworkMapping, RestorePlan


class NoVmInIt(NewhopeError):
    """The point that is to be restored holds no VM."""

    exit_code = ExitCode.PREFLIGHT


class RestoreBlocked(NewhopeError):
    """A check of the plan failed."""

    exit_code = ExitCode.PREFLIGHT


class Choices(Struct, frozen=True):
    """What the options say of the restore that is wanted; what is left open is for the plan to decide."""

    point_name: str
    to_host: str
    name: str
    pool: str
    networks: tuple[str, ...]
    macs: str
    start: bool
    repository: str | None
    salvage: bool


@click.command("restore", cls=Command)
@click.argument("point_name", metavar="VM@SELECTOR")
@click.option("--to", "to_host", required=True, metavar="HOST", help="Host to restore to.")
@click.option("--name", default="", help="Name of the restored VM. [default: its own if it is free, or NAME-restored]")
@click.option("--pool", default="", help="Storage pool for its disks. [default: the host's, from the settings]")
@click.option(
    "--network",
    "networks",
    multiple=True,
    metavar="NIC=NETWORK",
    help="Connect network card NIC (from 0) to a network of the host, to `user`, or to `none`. Can be repeated.",
)
@click.option(
    "--mac",
    "macs",
    type=click.Choice(["auto", "keep", "new"]),
    default="auto",
    show_default=True,
    help="Addresses of its network cards; auto keeps them when the original cannot be running.",
)
@click.option("--start/--no-start", default=True, show_default=True, help="Start it and ask its guest agent.")
@click.option("--repository", metavar="NAME", help="Only look in this repository.")
@click.option(
    "--salvage", is_flag=True, help="Restore what is left where data is lost: zeroes in its place, each named."
)
@click.option("--yes", "-y", is_flag=True, help="Do not ask. Failed checks still stop it.")
@click.option("--follow/--detach", "follow", default=True, help="Watch the job to its end, or leave at once.")
@click.option("--dry-run", is_flag=True, help="Show plan and checks and do nothing.")
@click.pass_obj
def restore(
    invocation: Invocation,
    point_name: str,
    to_host: str,
    name: str,
    pool: str,
    networks: tuple[str, ...],
    macs: str,
    start: bool,
    repository: str | None,
    salvage: bool,
    yes: bool,
    follow: bool,
    dry_run: bool,
) -> ExitCode:
    """Bring a recovery point back as a new VM on HOST, beside the original, which is never touched.

    Shows every check and every step first. A failed check stops it (exit status 9). A restore that fails or is
    cancelled takes back what it made. Where the repository has lost some of the point, it stops, unless --salvage
    asks for what is left.

    \b
    Examples:
      newhope restore web@latest --to coruscant
      newhope restore web@-1 --to yavin --name web-yesterday --network 0=none
      newhope restore web@2026-11-22T08:13 --to yavin --dry-run
    """
    from engine.cli import printing
    from engine.cli.confirmation import confirm
    from engine.cli.documents import plain
    from engine.cli.following import tell_launched, watch
    from engine.cli.launching import launch_restore

    plan = _plan(invocation, Choices(point_name, to_host, name, pool, networks, macs, start, repository, salvage))
    if invocation.json and dry_run:
        printing.show_json({"plan": plain(plan) | {"blocked": plan.blocked, "size_bytes": plan.size_bytes}})
        return ExitCode.PREFLIGHT if plan.blocked else ExitCode.OK
    if not invocation.json:
        _show(invocation, plan)
    if plan.blocked:
        raise _blocked(plan)
    if dry_run:
        return ExitCode.OK
    if not yes and not confirm(invocation, f"Restore {plan.vm} as {plan.request.name} on {to_host} now?"):
        printing.say("Nothing was done.")
        return ExitCode.CANCELLED
    with invocation.journal() as journal:
        job = launch_restore(invocation.settings, journal, plan)
        return watch(invocation, journal, job.id) if follow else tell_launched(invocation, journal, job)


def _plan(invocation: Invocation, choices: Choices) -> RestorePlan:
    from engine import restore
    from engine.cli.named import find_point, refuse_without_repository
    from engine.jobs import operator_name
    from engine.repository import PointKind
    from engine.settings import find_host, find_repository

    settings = invocation.settings
    find_host(settings, choices.to_host)
    wanted = find_repository(settings, choices.repository).name if choices.repository else None
    networks = tuple(_network(text) for text in choices.networks)
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
    _refuse_cards_it_has_not(networks, len(point.manifest.vm.nics), point.manifest.vm.name)
    request = restore.Request(
        repository=point.repository,
        vm_uuid=point.manifest.vm.uuid,
        point_id=point.id,
        to_host=choices.to_host,
        name=choices.name,
        pool=choices.pool,
        networks=networks,
        macs=restore.MacChoice(choices.macs),
        start=choices.start,
        operator=operator_name(),
        salvage=choices.salvage,
    )
    return restore.plan(settings, fleet, request)


def _refuse_cards_it_has_not(networks: tuple[NetworkMapping, ...], cards: int, vm: str) -> None:
    for mapping in networks:
        if mapping.nic >= cards:
            raise Usage(
                f"--network {mapping.nic}={mapping.to}: {vm} has no network card {mapping.nic}; it has {cards},"
                " numbered from 0.",
                next_step=f"`newhope points show {vm}` lists its network cards.",
            )


def _network(text: str) -> NetworkMapping:
    from engine.restore import NetworkMapping

    nic, equals, to = text.partition("=")
    if not equals or not nic.isdecimal() or not to:
        raise Usage(
            f"--network {text} is not NIC=NETWORK.",
            next_step="number the VM's network cards from 0: --network 0=default, 0=user or 0=none.",
        )
    return NetworkMapping(int(nic), to)


def _blocked(plan: RestorePlan) -> RestoreBlocked:
    failed = [check for check in plan.checks if str(check.state) == "fail"]
    reasons = "; ".join(f"{check.name}: {check.evidence}" for check in failed)
    return RestoreBlocked(
        f"{plan.vm} cannot be restored to {plan.request.to_host}: {reasons}.",
        next_step=next((check.remedy for check in failed if check.remedy), "choose another host."),
    )


def _show(invocation: Invocation, plan: RestorePlan) -> None:
    from engine.cli import printing, states
    from engine.cli.command_line import with_config
    from engine.cli.table import Column
    from engine.cli.wording import consistency, local, since, size

    request = plan.request
    printing.show_facts(
        [
            ("restore", f"{plan.vm} as {request.name} on {request.to_host}, a new VM"),
            ("point", f"{request.point_id[:8]} in {request.repository}, {consistency(plan.consistency)}"),
            ("moment", f"{local(plan.moment)}: what was written in the last {since(plan.moment)} is not in it"),
            ("untouched", plan.untouched),
        ]
    )
    printing.say()
    checks = [(states.of_check(str(check.state)), check.name, check.evidence) for check in plan.checks]
    printing.show_table((Column("CHECK"), Column("OF"), Column("EVIDENCE")), checks)
    for check in plan.checks:
        if check.remedy and str(check.state) in ("fail", "warn"):
            printing.say(f"  {check.name}: {check.remedy}")
    printing.say()
    for number, step in enumerate(plan.steps, 1):
        moved = f", {size(step.size_bytes)}" if step.size_bytes else ""
        printing.say(f"{number:>2}  {step.title} on {step.host}{moved}")
        printing.say(f"    {step.detail}")
        printing.say(f"    undo: {step.undo}")
    printing.say()
    printing.say(f"The same again: {with_config(invocation.settings.file, plan.command)}")
