"""`newhope repo prune`: drop the recovery points that no rule keeps, and free what nobody needs any more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from engine.cli.commands import Command
from engine.cli.invocation import Invocation
from engine.errors import ExitCode

if TYPE_CHECKING:
    from engine.repository import Collected, Decision, Forecast, KeepRules
    from engine.settings import Settings


@click.command("prune", cls=Command)
@click.argument("name", required=False, metavar="[NAME]")
@click.option("--yes", "-y", is_flag=True, help="Do not ask. Pinned and protected points stay all the same.")
@click.option("--dry-run", is_flag=True, help="Show what would be dropped, and what that frees, and do nothing.")
@click.pass_obj
def prune(invocation: Invocation, name: str | None, yes: bool, dry_run: bool) -> ExitCode:
    """Drop the recovery points of the repository NAME that no keep rule of their VM's level keeps, and free the space.

    The newest point of a VM, pinned and protected ones, and all points of VMs whose level has no keep rules stay.
    Backups can run meanwhile; what they may still need is freed by a later run. Can be stopped at any time.

    \b
    Examples:
      newhope repo prune vault --dry-run    every point, with the reason why it stays or goes
      newhope repo prune vault --yes        from a timer
    """
    from engine.cli import printing
    from engine.cli.confirmation import confirm
    from engine.cli.wording import count
    from engine.jobs import operator_name
    from engine.repository import Repository, decide
    from engine.settings import find_repository

    kept = find_repository(invocation.settings, name)
    with Repository.open(kept.path, name=kept.name) as repository:
        with invocation.patience("weighing recovery points"):
            decisions = decide(repository.points(), lambda vm: _rules(invocation.settings, vm), repository.guarded())
            dropped = [decision.point for decision in decisions if not decision.keep]
            forecast = repository.forecast(dropped)
        document = _document(kept.name, decisions, forecast)
        if not invocation.json:
            _show(decisions, forecast, everything=dry_run)
        if dry_run:
            if invocation.json:
                printing.show_json({"prune": document})
            return ExitCode.OK
        question = f"Drop {count(len(dropped), 'recovery point')} of {kept.name} for good?"
        if dropped and not yes and not confirm(invocation, question):
            printing.say("Nothing was done.")
            return ExitCode.CANCELLED
        with (
            invocation.patience("collecting"),
            repository.collector(f"newhope repo prune, {operator_name()}") as at_work,
        ):
            number = at_work.drop(dropped)
            collected = at_work.collect()
    if invocation.json:
        printing.show_json({"prune": document | _outcome(number, collected)})
    else:
        _tell(number, collected)
    return ExitCode.NO_SPACE if collected.out_of_space else ExitCode.OK


def _rules(settings: Settings, vm: str) -> KeepRules | None:
    from msgspec.structs import asdict

    from engine.repository import KeepRules
    from engine.settings import level_for

    level = level_for(settings, vm)
    return None if level is None or level.keep is None else KeepRules(**asdict(level.keep))


def _document(repository: str, decisions: tuple[Decision, ...], forecast: Forecast) -> dict[str, Any]:
    from engine.cli.documents import plain

    points = [
        {
            "vm": decision.point.manifest.vm.name,
            "vm_uuid": decision.point.manifest.vm.uuid,
            "id": decision.point.id,
            "moment": decision.point.manifest.moment,
            "keep": decision.keep,
            "reasons": decision.reasons,
        }
        for decision in decisions
    ]
    return {"repository": repository, "points": points, "forecast": plain(forecast)}


def _outcome(dropped: int, collected: Collected) -> dict[str, Any]:
    from engine.cli.documents import plain

    return {"dropped": dropped, "collected": plain(collected)}


def _show(decisions: tuple[Decision, ...], forecast: Forecast, *, everything: bool) -> None:
    from engine.cli import printing
    from engine.cli.table import Column
    from engine.cli.wording import count, local, size

    shown = [decision for decision in decisions if everything or not decision.keep]
    rows = [
        (
            "keep" if decision.keep else "drop",
            decision.point.manifest.vm.name,
            decision.point.id[:8],
            local(decision.point.manifest.moment)[:16],
            "; ".join(decision.reasons),
        )
        for decision in shown
    ]
    if rows:
        columns = (Column(""), Column("VM"), Column("ID"), Column("MOMENT"), Column("WHY", gives_way=True))
        printing.show_table(columns, rows)
        printing.say()
    dropped = sum(not decision.keep for decision in decisions)
    printing.say(f"{count(len(decisions), 'recovery point')}: {dropped} to drop, {len(decisions) - dropped} to keep.")
    anyway = forecast.frees_anyway_bytes
    needed = f", {size(anyway)} of it needed by no point even now" if anyway else ""
    printing.say(f"This frees {size(forecast.frees_bytes)}{needed}.")


def _tell(dropped: int, collected: Collected) -> None:
    from engine.cli import printing
    from engine.cli.wording import count, size

    printing.say(
        f"Dropped {count(dropped, 'recovery point')}, deleted {count(collected.deleted_packs, 'pack')},"
        f" freed {size(collected.freed_bytes)}."
    )
    if collected.waiting_for:
        printing.say(
            f"{count(collected.waiting_packs, 'pack')} may still be needed by {', '.join(collected.waiting_for)}:"
            " the next run after that frees them."
        )
    if collected.out_of_space:
        printing.say("! There is no room to copy what is still needed in some packs. Free some and run it again.")
    for kept in collected.kept:
        printing.say(f"! {kept}: it was left as it is.")
