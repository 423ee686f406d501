"""`newhope repo prune`: drop the recovery points that no rule keeps, and free what nobody needs any more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from engine.cli.commands import Command
from engine.cli.invocation import Invocation
from engine.errors import ExitCode

if TYPE_CHECKING:
    from engine.jobs import Job, Journal
    from engine.repository import Decision, Forecast, KeepRules, VmFacts
    from engine.settings import Settings


@click.command("prune", cls=Command)
@click.argument("name", required=False, metavar="[NAME]")
@click.option("--yes", "-y", is_flag=True, help="Do not ask. Pinned and protected points stay all the same.")
@click.option("--follow/--detach", "follow", default=True, help="Watch the job to its end, or leave at once.")
@click.option("--dry-run", is_flag=True, help="Show what would be dropped, and what that frees, and do nothing.")
@click.pass_obj
def prune(invocation: Invocation, name: str | None, yes: bool, follow: bool, dry_run: bool) -> ExitCode:
    """Drop the recovery points of the repository NAME that no keep rule of their VM's level keeps, and free the space.

    The newest point of a VM, pinned and protected ones, and all points of VMs whose level has no keep rules stay.
    Backups can run meanwhile; what they may still need is freed by a later run. The work runs as a job that goes on
    when this terminal dies; it can be cancelled at any time, and the next run goes on where it stopped.

    \b
    Examples:
      newhope repo prune vault --dry-run    every point, with the reason why it stays or goes
      newhope repo prune vault --yes        from a timer
    """
    from engine.cli import printing
    from engine.cli.confirmation import confirm
    from engine.cli.opened_repository import open_named
    from engine.cli.prune_job import PointToDrop, PruneJob, launch_prune
    from engine.cli.wording import count
    from engine.repository import decide
    from engine.settings import find_repository

    kept = find_repository(invocation.settings, name)
    with open_named(lambda: invocation.settings, kept.name) as repository:
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
        points = tuple(PointToDrop(point.manifest.vm.uuid, point.id) for point in dropped)
        spec = PruneJob(kept.name, points, forecast.frees_bytes)
        with invocation.journal() as journal:
            job = launch_prune(invocation.settings, journal, repository, spec)
            return _end(invocation, journal, job, document, follow=follow)


def _end(invocation: Invocation, journal: Journal, job: Job, document: dict[str, Any], *, follow: bool) -> ExitCode:
    """Watch the job, and say what came of it."""
    import msgspec

    from engine.cli import printing
    from engine.cli.documents import plain
    from engine.cli.following import see_to_end, tell_end, tell_launched
    from engine.cli.prune_job import Pruned

    if not follow:
        return tell_launched(invocation, journal, job)
    over = see_to_end(invocation, journal, job.id)
    if over is None:
        return ExitCode.INTERRUPTED
    report = journal.report(job.id)
    if not invocation.json or report is None:
        return tell_end(invocation, journal, over)
    printing.show_json({"prune": document | plain(msgspec.json.decode(report, type=Pruned))})
    return ExitCode(over.failure.exit_code) if over.failure else ExitCode.OK


def _rules(settings: Settings, vm: VmFacts) -> KeepRules | None:
    from msgspec.structs import asdict

    from engine.repository import KeepRules
    from engine.settings import level_for

    level = level_for(settings, vm.name, host=vm.host, tags=vm.tags)
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
