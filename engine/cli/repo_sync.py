"""`newhope repo sync`: have recovery points in a second repository too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from engine.cli.commands import Command
from engine.cli.invocation import Invocation
from engine.errors import ExitCode

if TYPE_CHECKING:
    from engine.cli.sync_job import SyncJob
    from engine.repository import Point, SyncPlan


@click.command("sync", cls=Command)
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@click.option("--vm", "vms", multiple=True, metavar="VM", help="Only this VM; may be given several times.")
@click.option("--newest", type=click.IntRange(1), metavar="N", help="Only the newest N points of each VM.")
@click.option(
    "--limit", metavar="RATE", help="At most so much a second on either side, such as 2MiB. The settings may say less."
)
@click.option("--streams", type=click.IntRange(1, 64), default=4, show_default=True, help="Blocks read at once.")
@click.option("--verify", is_flag=True, help="Read every copy back from TO before it is listed there.")
@click.option("--delete", is_flag=True, help="Drop copies in TO whose point is gone from FROM. Asks first.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask. Pinned and protected copies stay all the same.")
@click.option("--follow/--detach", "follow", default=True, help="Watch the job to its end, or leave at once.")
@click.option("--dry-run", is_flag=True, help="Show what would be copied, and how much that is, and do nothing.")
@click.pass_obj
def sync(
    invocation: Invocation,
    source: str,
    target: str,
    vms: tuple[str, ...],
    newest: int | None,
    limit: str | None,
    streams: int,
    verify: bool,
    delete: bool,
    yes: bool,
    follow: bool,
    dry_run: bool,
) -> ExitCode:
    """Copy recovery points from the repository FROM to the repository TO: only what is not there yet.

    TO is complete by itself afterwards, with keys, block size and storage of its own. Pins and protections come
    along. What is dropped in FROM later stays in TO, unless --delete is said. A sync that was stopped, or killed,
    goes on when it is started again. Backups, restores and prune may run meanwhile.

    FROM and TO are names of the settings, or paths or s3:// addresses. How fast it may be, also by the hours of the
    day, is said in the settings: bandwidth and bandwidth_hours of a repository.

    \b
    Examples:
      newhope repo sync vault far --dry-run      which points, and how much that is
      newhope repo sync vault far                for a timer, every night
      newhope repo sync vault far --vm web --newest 1 --limit 2MiB
      newhope repo sync far /mnt/new-disk        after a fire
    """
    from engine.cli.confirmation import confirm
    from engine.cli.opened_repository import open_named, wherever
    from engine.cli.sync_job import SyncJob
    from engine.cli.wording import count
    from engine.repository import SyncRequest
    from engine.settings import parse_rate

    request = SyncRequest(vms, newest, verify, delete, streams)
    job = SyncJob(wherever(source), wherever(target), request, None if limit is None else parse_rate(limit))
    with (
        open_named(lambda: invocation.settings, job.source) as here,
        open_named(lambda: invocation.settings, job.target) as there,
        invocation.patience("comparing recovery points"),
    ):
        plan = here.sync_to(there, request, "newhope repo sync").plan(estimate=dry_run)
    if dry_run:
        _show(invocation, plan)
        return ExitCode.OK
    if plan.drops and not yes:
        if not invocation.json:
            _list(plan.drops, "drop")
        if not confirm(invocation, f"Drop {count(len(plan.drops), 'copy', 'copies')} in {plan.target} for good?"):
            _say("Nothing was done.")
            return ExitCode.CANCELLED
    return _launch(invocation, job, plan, follow=follow)


def _launch(invocation: Invocation, asked: SyncJob, plan: SyncPlan, *, follow: bool) -> ExitCode:
    from msgspec.structs import replace

    from engine.cli.following import tell_launched, watch
    from engine.cli.sync_job import launch_sync

    asked = replace(asked, drops=tuple(point.id for point in plan.drops))
    with invocation.journal() as journal:
        job = launch_sync(invocation.settings, journal, asked)
        return watch(invocation, journal, job.id) if follow else tell_launched(invocation, journal, job)


def _show(invocation: Invocation, plan: SyncPlan) -> None:
    from engine.cli import printing
    from engine.cli.wording import count, size

    if invocation.json:
        printing.show_json({"plan": _document(plan)})
        return
    _list(plan.copies, "copy")
    _list(plan.drops, "drop")
    if plan.copies or plan.drops:
        _say()
    for damage in plan.unreadable:
        _say(f"! cannot be copied, being damaged in {plan.source}: {damage}")
    _say(
        f"{count(len(plan.copies), 'recovery point')} to copy from {plan.source} to {plan.target}, "
        f"{plan.present} there already."
    )
    if plan.drops:
        _say(f"{count(len(plan.drops), 'copy', 'copies')} to drop in {plan.target}.")
    if plan.copies:
        _say(f"They restore to {size(plan.data_bytes)}; about {size(plan.transfer_bytes or 0)} of it has to be stored.")


def _list(points: tuple[Point, ...], word: str) -> None:
    from engine.cli import printing
    from engine.cli.table import Column
    from engine.cli.wording import local, size

    if points:
        columns = (Column(""), Column("VM"), Column("ID"), Column("MOMENT"), Column("SIZE", right=True))
        rows = [
            (word, each.manifest.vm.name, each.id[:8], local(each.manifest.moment)[:16], size(each.size_bytes))
            for each in points
        ]
        printing.show_table(columns, rows)


def _document(plan: SyncPlan) -> dict[str, Any]:
    from engine.cli.documents import plain

    def short(points: tuple[Point, ...]) -> list[dict[str, Any]]:
        return [
            {
                "vm": point.manifest.vm.name,
                "vm_uuid": point.manifest.vm.uuid,
                "id": point.id,
                "moment": point.manifest.moment,
                "size_bytes": point.size_bytes,
            }
            for point in points
        ]

    return plain(plan) | {"copies": short(plan.copies), "drops": short(plan.drops)}


def _say(text: str = "") -> None:
    from engine.cli import printing

    printing.say(text)
