"""`newhope doctor`: what this machine needs and has."""

from __future__ import annotations

import click

from engine.cli.commands import Command
from engine.cli.invocation import Invocation
from engine.errors import ExitCode


@click.command("doctor", cls=Command)
@click.pass_obj
def doctor(invocation: Invocation) -> ExitCode:
    """Programs and libraries of the operating system: version, what each is for, and the command that mends it.

    The exit status is 12 if something is missing that backups and restores need; what only the practice hosts, the
    tests or the bench need is shown and does not count.
    """
    from engine.cli import printing
    from engine.cli.documents import plain
    from engine.cli.table import Cell, Column, bad, good, idle
    from engine.doctor import Purpose, examine

    checks = examine()
    missing = [check for check in checks if not check.found]
    if invocation.json:
        printing.show_json({"needs": [plain(check) for check in checks]})
    else:
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
        for check in missing:
            printing.say(f"{check.name} is missing ({check.needed_for.meaning}): {check.mend}")
        if not missing:
            printing.say("Nothing is missing.")
    return ExitCode.MISSING_PACKAGE if any(check.needed_for is Purpose.RUN for check in missing) else ExitCode.OK
