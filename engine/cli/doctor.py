"""`newhope doctor`: what this machine needs and has, and how the hosts are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from engine.cli.commands import Command
from engine.cli.invocation import Invocation
from engine.errors import ExitCode

if TYPE_CHECKING:
    from engine.doctor import PackageCheck


@click.command("doctor", cls=Command)
@click.option("--repair", is_flag=True, help="Put right what dead jobs have left on hosts and VMs.")
@click.option("--yes", "-y", is_flag=True, help="With --repair: do not ask.")
@click.option("--dry-run", is_flag=True, help="With --repair: show what was left and what would be done about it.")
@click.pass_obj
def doctor(invocation: Invocation, repair: bool, yes: bool, dry_run: bool) -> ExitCode:
    """Programs and libraries of the operating system: version, what each is for, and the command that mends it.

    Then every configured host: in how long it answers and by which way, its versions, the programs that it lacks, the
    room for scratch files, and what dead jobs were at on its VMs. Then the VMs that an instant restore has started, and
    whose disks still hang on a server of this machine.

    The exit status is 12 if this machine lacks what backups and restores need; what only the practice hosts, the tests
    or the bench need is shown and does not count. Otherwise it is 13 if a host does not answer, lacks something, or has
    something to be put right.

    With --repair: look on every host for what jobs that were killed, or whose machine died, have left: a backup job
    and its files, a channel, a guest that newhope has frozen, paused or shut down, checkpoints that no recovery point
    needs. The plan is shown first. What may belong to a living process, to another machine, to another program or to
    the VM's owner is left alone, with the command to do it by hand. With --dry-run the exit status is 13 if there is
    something to put right. (A backup does the same for its own VM before it begins.)

    \b
    Examples:
      newhope doctor                       is everything installed, here and on the hosts?
      newhope doctor --repair --dry-run    what was left, and what would be done
      newhope doctor --repair              asks, then does it
    """
    if repair:
        from engine.cli.doctor_repair import repair_vms

        return repair_vms(invocation, yes=yes, dry_run=dry_run)
    if yes or dry_run:
        from engine.cli.failures import Usage

        raise Usage("--yes and --dry-run go with --repair.", next_step="`newhope doctor --repair --dry-run`.")
    from engine.cli import printing
    from engine.cli.doctor_hosts import look_at_hosts, show_hosts
    from engine.cli.documents import plain
    from engine.doctor import Purpose, examine

    checks = examine()
    seen = look_at_hosts(invocation)
    hanging = _hanging(invocation)
    if invocation.json:
        printing.show_json({"needs": [plain(check) for check in checks], **plain(seen), "hanging": hanging})
    else:
        _show(checks)
        show_hosts(seen)
        for sentence in hanging:
            printing.say(sentence)
    if any(check.needed_for is Purpose.RUN and not check.found for check in checks):
        return ExitCode.MISSING_PACKAGE
    return ExitCode.OK if seen.sound else ExitCode.FINDINGS


def _show(checks: Sequence[PackageCheck]) -> None:
    from engine.cli import printing
    from engine.cli.table import Cell, Column, bad, good, idle
    from engine.doctor import Purpose

    rows: list[tuple[Cell, ...]] = [
        (
            good("OK") if check.found else bad("MISS") if check.needed_for is Purpose.RUN else idle("MISS"),
            check.name,
            check.version,
            check.needed_for.value,
            check.purpose,
        )
        for check in checks
    ]
    columns = (
        Column("STATE"),
        Column("NEED"),
        Column("VERSION", gives_way=True),
        Column("FOR"),
        Column("WHY", gives_way=True),
    )
    printing.show_table(columns, rows)
    printing.say()
    missing = [check for check in checks if not check.found]
    for check in missing:
        printing.say(f"{check.name} is missing ({check.needed_for.meaning}): {check.mend}")
    if not missing:
        printing.say("Nothing is missing.")


def _hanging(invocation: Invocation) -> list[str]:
    """VMs whose disks are served from here, in sentences; none where there are no settings yet."""
    from engine.errors import NewhopeError
    from engine.restore import RestoreJournal, hangs
    from engine.restore.point_server import look

    try:
        journal = RestoreJournal(invocation.settings.state)
        entries = [entry for entry in journal.entries() if hangs(entry)]
    except NewhopeError:
        return []
    sentences: list[str] = []
    for entry in entries:
        server = look(journal, entry.id)
        how = (
            f"process {server.pid} of this machine serves it its disks until they are moved"
            if server.runs
            else f"its disks are not moved yet, and their server has died: newhope restores resume {entry.id}"
        )
        sentences.append(f"{entry.request.name} on {entry.request.to_host} (restore {entry.id}): {how}.")
    return sentences
