"""`newhope restores`: restores that were interrupted or wait for a decision, and what became of the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from engine.cli.commands import Group
from engine.cli.invocation import Invocation
from engine.errors import ExitCode

if TYPE_CHECKING:
    from engine.jobs import Journal
    from engine.restore import Entry, Settlement, Standing


@click.group("restores", cls=Group, default="list")
def restores() -> None:
    """Restores of this machine: those that were interrupted, and those that can be undone or committed.

    \b
    Examples:
      newhope restores                    all of them, what needs a decision first
      newhope restores resume 3f9a        go on where a killed restore was
      newhope restores undo 3f9a          take everything back; the original is as it was
      newhope restores commit 3f9a        keep it for good
    """


@restores.command("list")
@click.option("--open", "only_open", is_flag=True, help="Only those that wait for something.")
@click.pass_obj
def list_restores(invocation: Invocation, only_open: bool) -> None:
    """All restores, those that wait for something first."""
    from engine.cli import printing
    from engine.cli.documents import of_restore
    from engine.cli.table import Column
    from engine.restore import RestoreJournal

    with invocation.journal() as journal:
        found = RestoreJournal(invocation.settings.state).entries()
        found = [entry for entry in found if not only_open or not entry.phase.over]
        found.sort(key=lambda entry: entry.phase.over)
        stand = {entry.id: _standing(entry, journal) for entry in found}
    if invocation.json:
        printing.show_json({"restores": [of_restore(entry, stand[entry.id].word) for entry in found]})
        return
    if not found:
        printing.say("No restore waits for anything." if only_open else "Nothing was restored from here yet.")
        return
    columns = (
        Column("ID"),
        Column("STATE"),
        Column("VM"),
        Column("AS"),
        Column("HOST"),
        Column("MODE"),
        Column("BEGUN"),
        Column("NEXT", gives_way=True),
    )
    rows = [
        (
            entry.id,
            stand[entry.id].word,
            entry.vm,
            entry.request.name if entry.request.defines else "-",
            entry.request.to_host,
            entry.request.mode.value,
            entry.created.astimezone().strftime("%m-%d %H:%M"),
            stand[entry.id].next_step,
        )
        for entry in found
    ]
    printing.show_table(columns, rows)


@restores.command()
@click.argument("restore_id", metavar="RESTORE")
@click.pass_obj
def show(invocation: Invocation, restore_id: str) -> None:
    """One restore: its steps, what it made, and what can be done with it."""
    from engine.cli import printing
    from engine.cli.documents import of_restore, plain
    from engine.cli.restore_hanging import facts_of
    from engine.cli.wording import local
    from engine.restore import RestoreJournal, hanging

    entry = RestoreJournal(invocation.settings.state).find(restore_id)
    with invocation.journal() as journal:
        stands = _standing(entry, journal)
    hangs = hanging(invocation.settings, entry)
    if invocation.json:
        printing.show_json({"restore": {**of_restore(entry, stands.word), "hanging": plain(hangs) if hangs else None}})
        return
    request = entry.request
    facts = [
        ("restore", f"{entry.id}: {entry.vm} as {request.name} on {request.to_host}, mode {request.mode.value}"),
        ("state", stands.word),
        ("point", f"{request.point_id[:8]} in {request.repository}, of {local(entry.moment)}"),
        ("begun", f"{local(entry.created)} by {request.operator or 'unknown'}, job {entry.job_id}"),
    ]
    if request.reason or request.ticket:
        facts.append(("why", " ".join(part for part in (request.reason, request.ticket) if part)))
    if request.aside is not None:
        facts.append(("original", f"{request.aside.kept_name} on {request.aside.host}"))
    facts += [("disk", f"{disk.target}: {disk.used[0]} ({disk.used[1]})") for disk in entry.disks]
    facts += facts_of(entry, hangs) if hangs is not None else []
    if entry.keep_until is not None:
        then = f", then: {request.at_end.value}" if request.at_end is not None else ""
        facts.append(("until", f"{local(entry.keep_until)}{then}"))
    facts += [("to look at", warning) for warning in entry.warnings]
    facts.append(("next", stands.next_step or "nothing"))
    printing.show_facts(facts)
    printing.say()
    for mark in entry.marks:
        done = "done " if mark.done is not None else "begun"
        printing.say(f"{done}  {mark.title}" + (f"  {mark.note}" if mark.note else ""))


@restores.command()
@click.argument("restore_id", metavar="RESTORE")
@click.option("--follow/--detach", "follow", default=True, help="Watch the job to its end, or leave at once.")
@click.pass_obj
def resume(invocation: Invocation, restore_id: str, follow: bool) -> ExitCode:
    """Go on with an interrupted restore where it was; what is written already is read and recognised."""
    from engine.cli.following import tell_launched, watch
    from engine.cli.launching import launch_resume
    from engine.cli.passphrase_prompt import ask_for_what_is_missing
    from engine.restore import RestoreJournal
    from engine.settings import find_repository

    entry = RestoreJournal(invocation.settings.state).find(restore_id)
    ask_for_what_is_missing([find_repository(invocation.settings, entry.request.repository)])
    with invocation.journal() as journal:
        job = launch_resume(invocation.settings, journal, entry)
        return watch(invocation, journal, job.id) if follow else tell_launched(invocation, journal, job)


@restores.command()
@click.argument("restore_id", metavar="RESTORE")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.option("--follow/--detach", "follow", default=True, help="Watch the job to its end, or leave at once.")
@click.pass_obj
def undo(invocation: Invocation, restore_id: str, yes: bool, follow: bool) -> ExitCode:
    """Take a restore back: the VM and its volumes are removed, the original is as it was."""
    from engine.cli import printing
    from engine.restore import AtEnd, RestoreJournal, Settlement, refuse

    entry = RestoreJournal(invocation.settings.state).find(restore_id)
    refuse(entry, AtEnd.UNDO)
    if not yes and not _ask_to_undo(invocation, entry):
        printing.say("Nothing was done.")
        return ExitCode.CANCELLED
    return _settle(invocation, entry, Settlement(entry.id, AtEnd.UNDO), follow=follow)


@restores.command()
@click.argument("restore_id", metavar="RESTORE")
@click.option("--delete-original", is_flag=True, help="Remove the original that was kept aside, with its disks.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.option("--follow/--detach", "follow", default=True, help="Watch the job to its end, or leave at once.")
@click.pass_obj
def commit(invocation: Invocation, restore_id: str, delete_original: bool, yes: bool, follow: bool) -> ExitCode:
    """Keep a restore for good: it can not be undone after that. The original stays aside, or is deleted."""
    from engine.cli import printing
    from engine.restore import AtEnd, RestoreJournal, Settlement, refuse

    entry = RestoreJournal(invocation.settings.state).find(restore_id)
    refuse(entry, AtEnd.COMMIT)
    if not yes and not _ask_to_commit(invocation, entry, delete_original):
        printing.say("Nothing was done.")
        return ExitCode.CANCELLED
    return _settle(invocation, entry, Settlement(entry.id, AtEnd.COMMIT, delete_original), follow=follow)


@restores.command()
@click.pass_obj
def due(invocation: Invocation) -> ExitCode:
    """Commit or undo every restore whose time to decide is over, as was agreed when it was begun.

    Proofs that were cut off are taken away too. `newhope backup --due` and `newhope prove --due` begin with it.
    """
    from engine.cli import printing
    from engine.cli.following import see_to_end, tell_end
    from engine.cli.launching import launch_settlement
    from engine.cli.overdue import settlements
    from engine.restore import RestoreJournal

    restore_journal = RestoreJournal(invocation.settings.state)
    worst = ExitCode.OK
    with invocation.journal() as journal:
        wanted = settlements(restore_journal, journal)
        for settlement in wanted:
            entry = restore_journal.find(settlement.id)
            started = launch_settlement(invocation.settings, journal, entry, settlement)
            job = see_to_end(invocation, journal, started.id)
            if job is None:
                return ExitCode.INTERRUPTED
            worst = max(worst, tell_end(invocation, journal, job))
    if not wanted and not invocation.json:
        printing.say("No restore is overdue.")
    if not wanted and invocation.json:
        printing.show_json({"restores": []})
    return worst


@restores.command()
@click.argument("host")
@click.pass_obj
def find(invocation: Invocation, host: str) -> None:
    """Look on HOST for restores that another machine began, from the notes they left there, and take them over."""
    from engine.cli import printing
    from engine.cli.documents import of_restore
    from engine.restore import RestoreJournal, adopt, standing

    found = adopt(invocation.settings, host, RestoreJournal(invocation.settings.state))
    if invocation.json:
        printing.show_json({"restores": [of_restore(entry, "interrupted") for entry in found]})
        return
    for entry in found:
        way_on = standing(entry, alive=False).next_step
        printing.say(f"{entry.id}  {entry.vm} as {entry.request.name}: {way_on}")
    if not found:
        printing.say(f"No note on {host} tells of a restore that is not known here.")


def _settle(invocation: Invocation, entry: Entry, settlement: Settlement, *, follow: bool) -> ExitCode:
    from engine.cli.following import tell_launched, watch
    from engine.cli.launching import launch_settlement

    with invocation.journal() as journal:
        job = launch_settlement(invocation.settings, journal, entry, settlement)
        return watch(invocation, journal, job.id) if follow else tell_launched(invocation, journal, job)


def _ask_to_undo(invocation: Invocation, entry: Entry) -> bool:
    from engine.cli import printing
    from engine.cli.confirmation import confirm_by_name
    from engine.restore import undo_means

    for sentence in undo_means(entry):
        printing.say(sentence)
    return confirm_by_name(invocation, "Take it back?", entry.request.name)


def _ask_to_commit(invocation: Invocation, entry: Entry, delete_original: bool) -> bool:
    from engine.cli import printing
    from engine.cli.confirmation import confirm, confirm_by_name
    from engine.hosts import HostLanes
    from engine.restore import commit_means, disks_of_original

    aside = entry.request.aside
    if aside is None or not delete_original:
        for sentence in commit_means(entry):
            printing.say(sentence)
        return confirm(invocation, f"Keep {entry.request.name} on {entry.request.to_host} for good?")
    with HostLanes(invocation.settings) as lanes:
        paths = disks_of_original(lanes[aside.host], aside)
    printing.say(f"The original {aside.kept_name} on {aside.host} is removed for good, with its disks:")
    for path in paths:
        printing.say(f"  {path}")
    return confirm_by_name(invocation, "Delete it?", entry.vm)


def _standing(entry: Entry, journal: Journal) -> Standing:
    from engine.errors import NotFound
    from engine.restore import standing

    try:
        alive = not journal.job(entry.job_id).state.over
    except NotFound:
        alive = False
    return standing(entry, alive=alive)
