"""`newhope repo unlock`: who holds a repository, and to take it from those who are gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from engine.cli.commands import Command
from engine.cli.invocation import Invocation
from engine.errors import ExitCode

if TYPE_CHECKING:
    from engine.repository import LeaseHolder, Repository

MEANING = (
    "Whoever holds it, if it lives after all, finds that before its next commit or deletion and stops with an error:"
    " a backup that was under way is then not listed and has to be made again. No point that is listed is hurt."
)


@click.command("unlock", cls=Command)
@click.argument("name", required=False, metavar="[NAME]")
@click.option("--lease", "lease_id", metavar="ID", help="End this one, although nobody here can tell that it is dead.")
@click.option("--yes", "-y", is_flag=True, help="With --lease: do not ask for its id again.")
@click.option("--dry-run", is_flag=True, help="Show who holds the repository, and end nothing.")
@click.pass_obj
def unlock(invocation: Invocation, name: str | None, lease_id: str | None, yes: bool, dry_run: bool) -> ExitCode:
    """Show every lease on a repository, and end those whose process is known to be dead.

    Backups and prunings hold a lease while they run. One that was killed leaves it behind; the next one removes it
    where it can see that the process is gone, and waits for it to run out where it cannot: when it was on another
    machine. If you know that it is gone, name its lease.

    NAME may also be the path or s3:// address of a repository that is in no settings file.

    \b
    Examples:
      newhope repo unlock vault                            who is there; ends what is dead
      newhope repo unlock vault --lease 0123456789abcdef   ends one of another machine, once its id was typed
    """
    from engine.cli import printing
    from engine.cli.documents import plain
    from engine.cli.opened_repository import open_named
    from engine.cli.wording import count

    with open_named(lambda: invocation.settings, name) as repository:
        holders = repository.lease_holders()
        if not invocation.json:
            _show(repository.name, holders)
        chosen = _dead(holders) if lease_id is None else [_named(repository, holders, lease_id)]
        if not dry_run and lease_id is not None and not _agreed(invocation, chosen[0], yes=yes):
            printing.say("Nothing was ended.")
            return ExitCode.CANCELLED
        ended = [] if dry_run else chosen
        for holder in ended:
            repository.end_lease(holder.id)
    if invocation.json:
        printing.show_json({"leases": [plain(each) for each in holders], "ended": [each.id for each in ended]})
    elif ended:
        printing.say(f"Ended {count(len(ended), 'lease')}: {', '.join(each.id for each in ended)}.")
    elif dry_run and chosen:
        printing.say(f"Would end {count(len(chosen), 'lease')}: {', '.join(each.id for each in chosen)}.")
    return ExitCode.OK


def _dead(holders: tuple[LeaseHolder, ...]) -> list[LeaseHolder]:
    from engine.repository import Life

    return [holder for holder in holders if holder.life is Life.DEAD]


def _named(repository: Repository, holders: tuple[LeaseHolder, ...], lease_id: str) -> LeaseHolder:
    """The lease of that id, unless its holder is seen to live."""
    from engine.errors import Conflict, NotFound
    from engine.repository import Life

    found = next((holder for holder in holders if holder.id == lease_id), None)
    if found is None:
        raise NotFound(
            f"There is no lease {lease_id} on {repository.name}.",
            next_step=f"Those that are there: {', '.join(holder.id for holder in holders) or 'none'}.",
        )
    if found.life is Life.ALIVE:
        raise Conflict(
            f"The lease {lease_id} is held by {found.owner}, which lives: process {found.pid} of this machine.",
            untouched="It was left alone.",
            next_step=f"cancel its job (`newhope jobs`), or end process {found.pid}; then its lease is dead.",
        )
    return found


def _agreed(invocation: Invocation, holder: LeaseHolder, *, yes: bool) -> bool:
    from engine.cli import printing
    from engine.cli.confirmation import confirm_by_name
    from engine.repository import Life

    if yes or holder.life is Life.DEAD:
        return True
    if not invocation.json:
        printing.say(MEANING)
    return confirm_by_name(invocation, f"End the lease of {holder.owner or 'nobody knows whom'}?", holder.id)


def _show(repository: str, holders: tuple[LeaseHolder, ...]) -> None:
    from engine.cli import printing
    from engine.cli.table import Column, bad, doubtful, good
    from engine.cli.wording import local, since
    from engine.repository import Life

    if not holders:
        printing.say(f"Nobody holds {repository}: no backup and no pruning is at work on it.")
        return
    states = {Life.ALIVE: good("ALIVE"), Life.DEAD: bad("DEAD"), Life.UNKNOWN: doubtful("UNKNOWN")}
    columns = (
        Column("LEASE"),
        Column("STATE"),
        Column("WHO", gives_way=True),
        Column("HOST"),
        Column("PROCESS", right=True),
        Column("SINCE"),
        Column("EXPIRES"),
    )
    rows = [
        (
            holder.id,
            states[holder.life],
            holder.owner or "cannot be read",
            holder.host,
            str(holder.pid or ""),
            local(holder.since) if holder.since else "",
            local(holder.expires) if holder.expires else "",
        )
        for holder in holders
    ]
    printing.show_table(columns, rows)
    for holder in holders:
        renewed = f" Last renewed {since(holder.renewed)} ago." if holder.renewed else ""
        printing.say(f"{holder.id}: {holder.why}{renewed}")
