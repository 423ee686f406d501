"""`newhope schedule`: let newhope work by itself, with systemd's timers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from engine.cli.commands import Group
from engine.cli.invocation import Invocation
from engine.errors import ExitCode

if TYPE_CHECKING:
    from engine.schedule import Choice, Unit

USER_HELP = "With the systemd of your own user instead of the machine's."


@click.group(cls=Group)
def schedule() -> None:
    """Back up by itself: a systemd service and timer that look for VMs that are due."""


@schedule.command()
@click.option("--user", is_flag=True, help=USER_HELP)
@click.option(
    "--every", metavar="TIME", help="How often to look. [default: an eighth of the shortest RPO, at most 15m]"
)
@click.option("--verify", is_flag=True, help="Also verify every repository, once a week.")
@click.option("--prune", is_flag=True, help="Also drop what no keep rule keeps, once a day.")
@click.option("--on-failure", metavar="UNIT", help="The systemd unit to start when a run fails, to tell somebody.")
@click.option(
    "--credential",
    multiple=True,
    metavar="REPOSITORY=FILE",
    help="Where systemd finds the passphrase of a repository; may be repeated.",
)
@click.option("--dry-run", is_flag=True, help="Show the files, and lines for cron that do the same, and do nothing.")
@click.pass_obj
def install(
    invocation: Invocation,
    user: bool,
    every: str | None,
    verify: bool,
    prune: bool,
    on_failure: str | None,
    credential: tuple[str, ...],
    dry_run: bool,
) -> ExitCode:
    """Install the service and the timer, and start the timer. Again, to change them.

    The timer looks which VMs are due (`newhope backup --due`) and catches up what was missed while the machine was
    off. A look that finds VMs that wait after failures, or for a host that does not answer, fails: `systemctl --failed`
    and the unit that --on-failure names hear of it. Restores whose time to decide is over are settled by it too.

    A level that says prove_every gets a second timer, for `newhope prove --due`.

    \b
    Examples:
      newhope schedule install --dry-run
      newhope schedule install --verify --prune
      newhope schedule install --credential vault=/etc/newhope/vault --on-failure mail-me@%n.service
    """
    from engine.cli import printing
    from engine.cli.documents import plain
    from engine.schedule import Systemd, cron_lines, plan_units, prove_every_for
    from engine.schedule import install as install_units
    from engine.settings import format_duration

    choice = _choice(invocation, user, every, verify, prune, on_failure, credential)
    units = plan_units(invocation.settings, choice)
    lines = cron_lines(invocation.settings, choice)
    if dry_run:
        if invocation.json:
            printing.show_json({"units": plain(units), "cron": list(lines)})
        else:
            _show(units, lines)
        return ExitCode.OK
    systemd = Systemd.of(user=user)
    install_units(systemd, units)
    if invocation.json:
        printing.show_json({"installed": [str(systemd.folder / unit.name) for unit in units]})
        return ExitCode.OK
    for unit in units:
        printing.say(f"Wrote {systemd.folder / unit.name}")
    printing.say(f"Every {format_duration(choice.every_s)} the VMs that are due are backed up.")
    proofs_s = prove_every_for(invocation.settings)
    if proofs_s is not None:
        printing.say(f"Every {format_duration(proofs_s)} the recovery points that are due are proven.")
    for kept in invocation.settings.repositories:
        if not kept.names_passphrase_source and kept.name not in dict(choice.credentials):
            printing.say(
                f"! if {kept.name} is encrypted, its passphrase has to be found: passphrase_file or --credential"
            )
    if user:
        printing.say("! only while you are logged in, unless `loginctl enable-linger` was done")
    return ExitCode.OK


@schedule.command()
@click.option("--user", is_flag=True, help=USER_HELP)
@click.pass_obj
def status(invocation: Invocation, user: bool) -> ExitCode:
    """Show what is scheduled, when it ran last with what result, and when it runs next.

    The exit status is 5 if nothing is scheduled.
    """
    from engine.cli import printing
    from engine.cli.documents import plain
    from engine.cli.table import Column
    from engine.errors import NotFound
    from engine.schedule import Systemd, state_of

    found = state_of(Systemd.of(user=user))
    if invocation.json:
        printing.show_json({"schedule": plain(found)})
        return ExitCode.OK if found else ExitCode.NOT_FOUND
    if not found:
        raise NotFound("Nothing is scheduled.", next_step="`newhope schedule install`.")
    columns = (Column("WHAT"), Column("TIMER"), Column("LAST", gives_way=True), Column("RESULT"), Column("NEXT"))
    rows = [(each.kind.value, each.active, each.last_run, each.last_result, each.next_run) for each in found]
    printing.show_table(columns, rows)
    return ExitCode.OK


@schedule.command()
@click.option("--user", is_flag=True, help=USER_HELP)
@click.pass_obj
def remove(invocation: Invocation, user: bool) -> None:
    """Stop the timers and take their files away. A job that runs goes on."""
    from engine.cli import printing
    from engine.schedule import Systemd
    from engine.schedule import remove as remove_units

    names = remove_units(Systemd.of(user=user))
    if invocation.json:
        printing.show_json({"removed": list(names)})
        return
    printing.say(f"Removed {', '.join(names)}." if names else "Nothing was scheduled.")


def _choice(
    invocation: Invocation,
    user: bool,
    every: str | None,
    verify: bool,
    prune: bool,
    on_failure: str | None,
    credentials: tuple[str, ...],
) -> Choice:
    from engine.schedule import Choice, every_for
    from engine.settings import parse_duration

    pairs = [each.partition("=") for each in credentials]
    return Choice(
        command=(*_program(), "--config", str(invocation.settings.file.absolute())),
        every_s=parse_duration(every) if every else every_for(invocation.settings),
        verify=verify,
        prune=prune,
        user=user,
        on_failure=on_failure,
        credentials=tuple((name, Path(file)) for name, _, file in pairs),
    )


def _program() -> tuple[str, ...]:
    """What starts this very newhope: the command beside the running Python, or that Python itself."""
    script = Path(sys.executable).with_name("newhope")
    return (str(script),) if script.exists() else (sys.executable, "-m", "engine.cli")


def _show(units: tuple[Unit, ...], lines: tuple[str, ...]) -> None:
    from engine.cli import printing

    for unit in units:
        printing.say(f"--- {unit.name}")
        printing.say(unit.text)
    printing.say("--- or, without systemd, in `crontab -e`:")
    for line in lines:
        printing.say(line)
